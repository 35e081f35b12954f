"""The pure core: events, filters, conditions, automations, payloads, retry policy, signing.

Nothing here does I/O, reads a clock, draws a random number or looks at the environment: what varies comes in as an
argument, so every rule can be tested as a table.
"""
