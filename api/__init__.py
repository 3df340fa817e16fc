"""The HTTP front: accepts, publishes, reports. It holds no model and never opens the store."""
