"""What is kept of users and items, and how events change it: pure numpy, no clock, no I/O."""
