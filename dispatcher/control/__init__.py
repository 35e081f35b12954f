"""The rules of the control plane: who may ask for which change, how it is checked, and what it writes.

REST, YAML and GraphQL call the same functions. Each takes a connection inside a transaction that the caller opened, and
raises before it changes anything that the caller would have to take back other than by rolling back.
"""
