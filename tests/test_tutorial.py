"""The tutorial under test: its steps are walked in their order, and print what the page says they print."""

import re
import shlex
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from itertools import groupby, zip_longest
from pathlib import Path

import pytest

from factories import FIRST_STEPS, TINY, copy_root, run

PAGE = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEP = re.compile(r"```(bash|python)\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
# What is another on each machine and each day
OWN = (
    (r"\d{8}T\d{6}Z-[0-9a-f]{6}", "RUN"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d(?:\.\d+)?)?", "TIME"),
    (r"in \d+(?:\.\d+)? s\b", "in SECONDS"),
    (r"\(\d+\.\d MB\)", "(SIZE)"),
    (r"(?:/[^\s/:]+)+/warehouse/", "ROOT/warehouse/"),
)
DECIMAL = re.compile(r"-?\d+\.\d+")
# Another processor rounds the sums of a network otherwise.
NEAR = 0.02


def words(line):
    """Return a line without what is another each time, as words: a longer name of a root moves columns."""
    for pattern, name in OWN:
        line = re.sub(pattern, name, line)
    return [re.sub("─+", "─", word) for word in line.split()]


def lines(text):
    return [told for line in text.splitlines() if (told := words(line))]


def are_alike(shown, printed):
    """Say whether two lines tell the same: words to the letter, decimals nearly."""
    return all(
        one == other
        or (
            one is not None
            and other is not None
            and DECIMAL.fullmatch(one)
            and DECIMAL.fullmatch(other)
            and abs(float(one) - float(other)) <= NEAR
        )
        for one, other in zip_longest(shown, printed)
    )


def unlike(shown, printed):
    """Return the first line of the page that was not printed in its place, or None; `…` stands for any lines."""
    told, at = lines(printed), 0
    parts = [(cut, list(part)) for cut, part in groupby(lines(shown), key=lambda line: line == ["…"])]
    for number, (cut, part) in enumerate(parts):
        if cut:
            continue
        is_free, is_last = number > 0, number == len(parts) - 1
        starts = [len(told) - len(part)] if is_last and is_free else range(at, len(told)) if is_free else [at]
        for start in starts:
            found = told[start : start + len(part)]
            if start >= at and len(found) == len(part) and all(map(are_alike, part, found)):
                at = start + len(part)
                break
        else:
            return " ".join(part[0])
    return None if at == len(told) or parts[-1][0] else " ".join(told[at])


def arguments(block):
    """Return the arguments of a block's one command, and the exit code that the page says it ends with."""
    code = re.search(r"# exit code (\d+)$", block, re.MULTILINE)
    program, *args = shlex.split(block, comments=True)
    assert program == "kstock-batch"
    return tuple(args), int(code[1]) if code else 0


def test_the_tutorials_steps_print_what_the_page_says(first_night, tmp_path, monkeypatch):
    root = copy_root(first_night.root, tmp_path / "first")
    monkeypatch.chdir(root)
    walked = []
    for kind, block, shown in STEP.findall(PAGE):
        if kind == "python":
            with redirect_stdout(StringIO()) as printed:
                exec(compile(block, "tutorial.md", "exec"), {})
            assert unlike(shown, printed.getvalue()) is None, f"{block}\n{printed.getvalue()}"
            continue
        args, code = arguments(block)
        walked.append(args)
        if args in first_night.told:
            printed = first_night.told[args].replace(f"{first_night.root}/", "")
        else:
            result = run(root, *args)
            assert result.exit_code == code, f"{block}\n{result.output}"
            printed = result.output.replace(f"{root}/", "")
        assert unlike(shown.replace("/home/you/first/", ""), printed) is None, f"{block}\n{printed}"
    assert tuple(walked[: len(FIRST_STEPS)]) == FIRST_STEPS
    assert len(walked) == PAGE.count("```bash") >= 12


def test_the_tutorials_settings_are_those_it_was_walked_with():
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert tomllib.loads(settings) == tomllib.loads(TINY)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a 0.51", "a 0.55"),
        ("a 1", "a 2"),
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("a\n…\nc", "a\nb\nc\nd"),
        ("a\n…\nc", "a\nb"),
        ("…\nb\n…", "a\nc"),
        ("a\n…\nb\nd\n…", "a\nb\nc\nd"),
        ("scored 109 of 116", "scored 109 of 115"),
    ],
)
def test_another_output_is_noticed(shown, printed):
    assert unlike(shown, printed) is not None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a 0.511", "a  0.512"),
        ("a\n…\nc", "a\nb\nc"),
        ("…\nb\n…", "a\nb\nc"),
        ("a\n…", "a\nb\nc"),
        ("20261126T114720Z-8d5d6a in 21 s", "20270101T000000Z-123abc in 1.5 s"),
    ],
)
def test_the_same_output_is_taken_for_the_same(shown, printed):
    assert unlike(shown, printed) is None
