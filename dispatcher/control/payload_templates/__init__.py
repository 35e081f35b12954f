"""Payload templates: what well-known services ask of a request, as webhooks and payloads to start from."""
