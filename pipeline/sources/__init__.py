"""Where images come from: one file a kind of source, and one line in the registry."""
