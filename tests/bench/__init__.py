"""The figures of Kairos and of what others need for the same work, measured on real Kafka and Valkey: `make bench`."""
