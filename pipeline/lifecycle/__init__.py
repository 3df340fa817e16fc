"""How images come, change and go: ingest, deletion, and the sweep of what is left behind."""
