"""The ranker: a linear score over counters, a net over them, and a BERT encoder as a guarded residual on top."""
