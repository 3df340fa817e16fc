"""How good a collection's search is, measured on the collection itself."""
