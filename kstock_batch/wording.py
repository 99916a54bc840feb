"""Wording: a number and its noun, as a person reads them.

Standard library and Python 3.9 syntax only.
"""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Return a number with its regular noun: 1 session, 2,731 sessions."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
