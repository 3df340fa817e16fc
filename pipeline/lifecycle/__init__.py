"""How images are added, changed and deleted: ingest, deletion, and the sweep of leftovers."""
