"""As-of counters of every candidate: one vectorised implementation for live scoring, training and evaluation."""
