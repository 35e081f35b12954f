"""The tables, their migrations, and the gate that waits for the schema a process needs."""
