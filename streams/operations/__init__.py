"""The operator's verbs: each prints its plan first, acts with `--execute`, and its exit code says the verdict."""
