"""Reads images from their sources. A kind of source is one file and one line in the registry."""
