"""The dispatcher's loops: they watch the streams, wake drains, and delete what has expired."""
