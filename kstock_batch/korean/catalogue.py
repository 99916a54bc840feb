"""The catalogue: English sentence -> Korean sentence, from the JSON files beside this module.

Read when the first sentence is to be said in Korean, and never where the language is English.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path

from kstock_batch.korean.template import LEAST_WEIGHT, Template, holes

FOLDER = Path(__file__).parent
COLUMNS = "columns.json"
NOUNS = "nouns.json"
WORDS = "words.json"  # single words that fill holes: any other one there is a name, and is kept
# What may stand before a sentence or between two, kept or said apart.
_PREFIXES = ("error: ", "warning: ", "Error: ", "Usage: ")
_FIX = "\n  fix: "
_JOINTS = ("\n", "; ", ": ", ", ")
_TAIL = re.compile(r"[,;] ")
# Two words in a row: what a hole holds is then a sentence, and not a name, a path or a number.
_QUOTED = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"")
_ENGLISH = re.compile(r"(?<![\w`'\"/.<-])[a-z]{2,} [a-z]{2,}(?![\w/.(=-])")
_COUNTED = re.compile(r"(?P<n>\d[\d,.]*) (?P<noun>[a-z][a-z -]*)")
SENTENCE = re.compile(r"(?<=[a-z0-9)`%][.!?]) (?=[A-Z`*\d])")


@cache
def entries(name: str) -> Mapping[str, str]:
    """Return one file of the catalogue."""
    found: dict[str, str] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return found


@cache
def sentences() -> Mapping[str, str]:
    """Return every sentence and piece of one, with and without holes; not the heads of columns."""
    files = sorted(path.name for path in FOLDER.glob("*.json"))
    return {key: said for name in files if name not in (COLUMNS, NOUNS, WORDS) for key, said in entries(name).items()}


@cache
def _templates() -> tuple[Mapping[str, list[Template]], list[Template]]:
    """Return the templates by the word they begin with, and those that a hole may begin; the longest first."""
    by_word: dict[str, list[Template]] = defaultdict(list)
    others: list[Template] = []
    made = [Template(english, said) for english, said in sentences().items() if holes(english)]
    for template in sorted(made, key=lambda one: -one.weight):
        word = template.first_word
        (others if word is None else by_word[word]).append(template)
    return by_word, others


def _candidates(text: str) -> Iterator[Template]:
    by_word, others = _templates()
    those = [*by_word.get(text.split(" ", 1)[0], ()), *others]
    yield from sorted(those, key=lambda one: -one.weight)


@lru_cache(maxsize=4096)
def said(text: str) -> str:
    """Return ``text`` in Korean, or as it is where the catalogue does not know it."""
    for prefix in _PREFIXES:
        if text.startswith(prefix):
            return f"{sentences()[prefix]}{said(text.removeprefix(prefix))}"
    if _FIX in text:
        return sentences()[_FIX].join(said(part) for part in text.split(_FIX))
    return _known(text) or _with_tail(text) or _joined(text) or _matched(text, unclean=True) or text


def _known(text: str) -> str | None:
    """Return a sentence of the catalogue in Korean, if nothing of it stays English."""
    if not any(letter.isalpha() for letter in text):
        return None
    if (exact := sentences().get(text)) is not None:
        return exact
    if (counted := _COUNTED.fullmatch(text)) and (told := _number(counted["n"], counted["noun"])):
        return told
    return _matched(text, unclean=False)


def _matched(text: str, *, unclean: bool, begins: str = "") -> str | None:
    """Return the Korean of the template that leaves least in English: one that says little matches what it is not.

    Without ``unclean`` nothing may be left; with it a template that says enough may hold what others wrote.
    """
    best: tuple[int, str] | None = None
    for template in _candidates(text):
        if unclean and template.weight < LEAST_WEIGHT:
            break
        if not template.english.startswith(begins) or (values := template.match(text)) is None:
            continue
        told = {hole: _filling(value) for hole, value in values.items()}
        left = sum(len(_ENGLISH.findall(_QUOTED.sub("", value))) for value in told.values())
        if not left:
            return template.filled(told)
        if unclean and (best is None or left < best[0]):
            best = (left, template.filled(told))
    return best[1] if best else None


def _filling(value: str) -> str:
    """Return what fills a hole: a sentence or a number with its noun in Korean, a name as it is."""
    word = entries(WORDS).get(value)
    return word or (said(value) if " " in value else value)


def _number(n: str, noun: str) -> str | None:
    """Return a number with its noun in Korean: 3 sessions -> 3거래일, 3 rows -> 행 3개."""
    nouns = entries(NOUNS)
    told = nouns.get(noun) or nouns.get(noun.removesuffix("s"))
    return told.replace("{n}", n) if told else None


def _joined(text: str) -> str | None:
    """Return text that joins sentences, each said in Korean; None where none of them is known."""
    for joint in _JOINTS:
        if joint in text:
            parts = text.split(joint)
            told = [_part(part, joint if n else "") for n, part in enumerate(parts)]
            if told != parts:
                return joint.join(told)
    return None


def _with_tail(text: str) -> str | None:
    """Return a sentence and what the code added before it, a name, or behind it, after a comma."""
    name, colon, rest = text.partition(": ")
    if colon and " " not in name and (told := _known(rest)) is not None:
        return f"{name}: {told}"
    for cut in _TAIL.finditer(text):
        if (told := _known(text[: cut.start()])) is not None:
            return cut[0].join([told, *(_part(part, cut[0]) for part in text[cut.end() :].split(cut[0]))])
    return None


def _part(part: str, joint: str) -> str:
    """Return one of several joined sentences; the catalogue may know it with what joins it to those before."""
    after = f"{joint}{part}"
    told = sentences().get(after) or _matched(after, unclean=False, begins=joint) if joint else None
    return told.removeprefix(joint) if told else said(part)


def paragraph(text: str) -> str:
    """Return a paragraph of help in Korean, sentence by sentence."""
    return " ".join(said(sentence) for sentence in SENTENCE.split(text))


def head(column: str) -> str:
    """Return the head of a table's column in Korean."""
    return entries(COLUMNS).get(column, column)
