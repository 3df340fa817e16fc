"""Turns a query into the images most similar to it."""
