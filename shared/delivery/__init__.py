"""Building the request of a delivery from its webhook and secrets: one way for drains, commands and REST."""
