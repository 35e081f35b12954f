"""The `cloudevents` packages of Python and npm publish events (`make test-cloud-events`)."""
