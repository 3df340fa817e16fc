"""The Celery app and its thin tasks, the life cycle of the model, and the reconciler."""
