"""The worker process itself: its event loop, thread pool, scoreboard and metrics directory."""
