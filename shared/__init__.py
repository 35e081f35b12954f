"""What both sides of Hookline know: the domain, storage, streams, settings and telemetry."""
