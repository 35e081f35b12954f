"""Tables and queries, one module per aggregate; the same code on SQLite and PostgreSQL."""
