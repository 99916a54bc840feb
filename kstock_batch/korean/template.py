"""A sentence with holes: matches what the program says in English, and says it in Korean.

``"{name} is {days} old"`` matches ``"x.duckdb is 3 days old"``; its Korean names the same holes, in any order, and may
let a particle agree with what stands before it: ``"{name}[은/는] {days} 지났습니다"``. A hole whose name begins with
``n_`` holds a number, or a number and its noun; with ``one_`` a single word.
"""

import re
from collections.abc import Mapping
from functools import cached_property

from kstock_batch.korean.particles import chosen

_HOLE = re.compile(r"\{(\w+)\}")
LEAST_WEIGHT = 12  # letters that a template says itself, before its holes may hold whatever others wrote
_TYPES = {"n": r"([+-]?\d[\d,.]*(?: [a-z][a-z -]*?)?|nan|inf)", "one": r"(\S+?)"}
# A hole right behind another one holds what the code adds to a sentence at times, or nothing: it shows where it begins.
_ADDED = r"((?:[,;:] .*| \(.*| (?:and|in|within|before|after|with) .*)?)"
_PARTS = re.compile(r"\{(?P<hole>\w+)\}|\[(?P<consonant>[가-힣]+)/(?P<vowel>[가-힣]+)\]")


def holes(text: str) -> list[str]:
    """Return the names of the holes of ``text``, in their order."""
    return _HOLE.findall(text)


class Template:
    """One entry of the catalogue that has holes."""

    def __init__(self, english: str, korean: str) -> None:
        self.english, self.korean = english, korean
        self.literals = _HOLE.sub("\0", english).split("\0")
        # The more of a sentence a template says, the surer it is the one.
        self.weight = sum(map(len, self.literals))
        self._longest = max(self.literals, key=len)

    @property
    def first_word(self) -> str | None:
        """The word every match begins with, or None where a hole may begin it."""
        word, space, _ = self.literals[0].partition(" ")
        return word if space and word else None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        # What says little must not take what is joined to it.
        anything = "(.*?)" if self.weight >= LEAST_WEIGHT else "([^;\n]*?)"
        filled = [_TYPES.get(hole.split("_")[0], anything) if "_" in hole else anything for hole in holes(self.english)]
        for n, between in enumerate(self.literals[1:-1], start=1):
            filled[n] = _ADDED if not between else filled[n]
        parts = [re.escape(self.literals[0])]
        for hole, literal in zip(filled, self.literals[1:], strict=True):
            parts += [hole, re.escape(literal)]
        return re.compile("".join(parts), re.DOTALL)

    def match(self, text: str) -> Mapping[str, str] | None:
        """Return what fills the holes if ``text`` is this sentence."""
        if self._longest not in text:  # a hundred times quicker than asking the pattern
            return None
        found = self._pattern.fullmatch(text)
        return dict(zip(holes(self.english), found.groups(), strict=True)) if found else None

    def filled(self, values: Mapping[str, str]) -> str:
        """Return the Korean sentence with ``values`` in its holes."""
        told, at = "", 0
        for part in _PARTS.finditer(self.korean):
            told += self.korean[at : part.start()]
            at = part.end()
            hole = part["hole"]
            told += values[hole] if hole else chosen(told, part["consonant"], part["vowel"])
        return told + self.korean[at:]
