"""Sending over HTTP/1.1: a pooled client that checks each connection against the egress rules as it opens."""
