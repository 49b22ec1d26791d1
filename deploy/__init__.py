"""Running the rooms together: the command line, the local stack and the demo."""
