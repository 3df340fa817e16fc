"""What a user can ask for: one file an operation, and one line in the registry."""
