"""What `kindred` can do: one module a group of commands, each with its options and its help."""
