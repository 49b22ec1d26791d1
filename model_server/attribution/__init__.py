"""What the scores of a user are owed to: each scene field, history item and count that is known of the user."""
