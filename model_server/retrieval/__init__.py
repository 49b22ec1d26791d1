"""Which items may be proposed at all: at most two hundred a user, from as-of lists that need no model."""
