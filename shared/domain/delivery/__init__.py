"""The rules of a delivery: outcomes, retries, circuits, rate limits, signatures, diagnoses, notices."""
