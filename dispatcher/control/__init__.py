"""The rules of the control plane, one module each: what may be asked, by whom, and what it changes.

REST, YAML and GraphQL call the same functions. Each takes a connection inside a transaction that the caller opened, and
raises before it changes anything that the caller would have to take back other than by rolling back.
"""
