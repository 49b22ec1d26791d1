"""Events in, features in Redis: one chunk of records becomes one atomic write."""
