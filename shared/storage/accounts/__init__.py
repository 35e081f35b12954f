"""Rows about people: users, keys, memberships, the audit log, kept answers of idempotent requests."""
