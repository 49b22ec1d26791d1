"""The shell both services share: settings, connections, logs, the HTTP probes and the metrics."""
