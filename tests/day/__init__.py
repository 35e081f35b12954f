"""A day of an installation that is hurt in each way that an alert tells of, before a real Prometheus."""
