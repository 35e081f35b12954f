"""Signatures of requests, checked by the libraries that receivers use."""
