"""Dry runs over kept events: reading the streams' history and replaying it against a definition."""
