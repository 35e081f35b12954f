"""Why an automation fired or did not: a dry run of an event through the code that evaluates."""
