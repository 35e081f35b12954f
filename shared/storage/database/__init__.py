"""Engines, transactions, clocks and bulk statements, alike on PostgreSQL and SQLite."""
