"""Affected users become push candidates: lease, read, score, decide, produce, acknowledge."""
