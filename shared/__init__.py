"""The code that both the worker and the dispatcher use: domain, storage, streams, settings and telemetry."""
