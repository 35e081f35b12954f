"""Runs that the `wandb` client sends straight to Hookline: what it says of them, and the events that follow."""
