"""Rows of deliveries: claims, outcomes, circuits, limits, history, replays."""
