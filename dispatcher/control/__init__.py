"""The rules of the control plane: permissions for each change, its checks, and what it writes.

REST, YAML and GraphQL call the same functions. Each takes a connection inside a transaction that the caller opened, and
raises before it changes anything that the caller would have to take back other than by rolling back.
"""
