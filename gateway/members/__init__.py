"""Members, their addresses, and what they consented to."""
