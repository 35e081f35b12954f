"""Fuzzing: bytes that nobody would send, against everything that reads what others wrote."""
