"""From a query to the images most similar to it."""
