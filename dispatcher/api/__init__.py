"""REST: thin handlers that read a request, call `dispatcher.control` in one transaction, and answer.

Rules belong to `dispatcher.control`, so that YAML and GraphQL keep them too.
"""
