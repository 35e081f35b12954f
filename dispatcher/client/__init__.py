"""The command line's own client of the REST API, and the files it reads."""
