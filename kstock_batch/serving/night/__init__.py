"""A night: what is due, its scores, its gates, in words."""
