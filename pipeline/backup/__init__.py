"""A whole system as a folder of files, and back again."""
