"""Who gets a push now, later or not, and why: pure predicates over numpy columns, no clock and no I/O."""
