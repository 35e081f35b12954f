"""Clients that are generated from the OpenAPI document, each used against a running server.

Their generators are in environments of their own (`tests.generators.environments`, `make test-generators`): together
they are 140 MB, which no other test needs. Without them these tests are skipped.
"""
