"""Features: what was known at the moment of discharge."""
