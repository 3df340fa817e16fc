"""The worker process: its Celery tasks, the life cycle of its model, and its reconciler."""
