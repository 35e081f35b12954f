"""Metrics, logs, traces and heartbeats of a process. Must not let a secret through."""
