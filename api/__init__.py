"""The HTTP front end: accepts, publishes, reports. It has no model and never opens the store."""
