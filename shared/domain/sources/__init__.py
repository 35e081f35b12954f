"""Webhooks in: what a source is, how a request proves that it is from there, and which events it becomes."""
