"""The fault harness: seeded plans of faults over real servers and processes, and a verdict on every row."""
