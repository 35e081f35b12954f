"""Hookline before the `wandb` clients of three years, each from its wheel in an environment of its own."""
