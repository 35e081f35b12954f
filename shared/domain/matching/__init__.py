"""Finding the automations that an event fires: scopes, the compiled index, cooldowns and rate limits."""
