"""Bytes in; a picture, its preview and its hash out, or the reason why not."""
