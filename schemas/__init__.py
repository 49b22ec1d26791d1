"""What crosses a process boundary: events, candidates, topics, Redis keys and their documents."""
