"""Other stream processors at the reference work, each as its own documentation would have it written."""
