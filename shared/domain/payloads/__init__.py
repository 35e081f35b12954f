"""Payload templates: variables, secrets that stay sealed until sending, and the mask over what is shown."""
