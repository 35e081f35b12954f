"""The Python client against a real installation, with real processes that are killed."""
