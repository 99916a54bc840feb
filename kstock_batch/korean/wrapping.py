"""Lines of Korean: a syllable takes two places of a terminal, and a line breaks between words only."""

from collections.abc import Iterator
from unicodedata import east_asian_width


def places(text: str) -> int:
    """Return how many places of a terminal ``text`` takes."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield the lines of ``text``, none wider than ``width`` places unless a single word is."""
    line = ""
    for word in text.split():
        if line and places(line) + 1 + places(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
