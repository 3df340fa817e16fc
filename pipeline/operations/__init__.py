"""The operations that a user can request: one file each, and one line in the registry."""
