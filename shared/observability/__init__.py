"""Metrics, logs, traces and heartbeats: what a process says about itself. No secret passes."""
