"""From stream entries to committed deliveries: read, match, decide what fires, commit once."""
