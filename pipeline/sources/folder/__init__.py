"""Folders and archives of pictures, with what tables and sidecars say of them."""
