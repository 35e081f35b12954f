"""The side that takes requests and wakes workers: the API, the publisher, the pump and the `hookline` command."""
