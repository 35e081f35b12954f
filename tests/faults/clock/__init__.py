"""A clock that a drill can step: put on PYTHONPATH, `sitecustomize` is imported by every Python as it starts."""
