"""From a due delivery to a recorded attempt: claim, send, record, within limits per webhook and process."""
