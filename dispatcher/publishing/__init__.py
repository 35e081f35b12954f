"""Taking events in: validate them, shed load before Redis runs out of memory, append to the streams."""
