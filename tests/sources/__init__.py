"""The Python client as a user has it: from its wheel, on each Python, beside real frameworks."""
