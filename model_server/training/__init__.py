"""Building rankers: foreign logs, as-of training sets and the fit."""
