"""Payload templates: variables, secrets that stay sealed until sending, and masking them for people."""
