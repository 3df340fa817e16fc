"""`kindred watch`: a folder as a standing source. Whatever comes into it is ingested once."""
