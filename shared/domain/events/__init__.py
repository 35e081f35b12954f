"""Events: their types and models, decoding and checking them, and their partitions."""
