"""What takes things in and wakes things up: the API, the publisher, the pump and the `hookline` command."""
