"""Courtesy between workers in Redis: partition leases, webhook slots, wake-ups. The database decides."""
