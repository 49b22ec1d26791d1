"""What `kairos doctor` looks at: one file for each thing that can be ill; what is found is judged by pure functions."""
