"""The nightly score, its publication and the questions asked of it."""
