"""The tables in Redis: rows behind a fence, moved by one atomic script call a group of chunks."""
