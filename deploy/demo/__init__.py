"""`kairos demo`: from nothing to push candidates on real Kafka and Redis, checked event by event."""
