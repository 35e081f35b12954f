"""What acts: `celery -A worker worker` evaluates partitions and delivers to webhooks."""
