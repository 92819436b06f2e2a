"""Real servers that only tests need."""
