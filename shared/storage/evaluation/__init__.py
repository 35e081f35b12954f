"""Rows that evaluation writes in one transaction: offsets, windows, new deliveries, poison entries."""
