"""A past night again: rebuilt, compared, and the reason where it differs."""
