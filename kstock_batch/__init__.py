"""Nightly, point-in-time probabilities that a KRX stock rises 3 % within five sessions."""

__version__ = "0.7.0"
