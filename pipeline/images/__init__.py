"""Turns bytes into a picture, its preview and its hash, or into the reason why it cannot."""
