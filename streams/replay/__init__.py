"""Replay of the log and back-fill of files into a run: a namespace of its own beside the live one."""
