"""The shell both services share: settings, connections, logs, the HTTP probes and what leaves for Kafka."""
