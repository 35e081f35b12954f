"""Generates the reference pages in docs/ from the code, so that they cannot disagree with it."""
