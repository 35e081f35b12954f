"""Redis and Celery: event streams, wake-ups, the Celery application and its broker transport."""
