"""Item titles as vectors: two back ends, each title read once and kept on disk and in Redis, and their projection."""
