"""Maintenance of the database: first start, retention, re-encryption, copying, orphaned deliveries."""
