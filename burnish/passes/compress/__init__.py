"""A cheaper function within the user's budget."""
