"""Automations as values, and reading their definitions."""
