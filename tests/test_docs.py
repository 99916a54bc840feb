"""The documentation under test: every command is in the README, and the README's commands run."""

import re
import shlex
import tomllib
from itertools import groupby
from pathlib import Path

import click
import pytest

from call_tree import LEAVES, parsed
from factories import done
from kstock_batch.errors import KStockError
from kstock_batch.market.contract import FEATURE_NAMES

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


# Names in capitals stand for a reader's own
STAND_IN = {"DATE": "2026-10-30", "N": "8", "DAYS": "2", "ID": "1"}


def shown_commands():
    """Yield the arguments of each `kstock-batch` command in the README's console blocks; quotes may span lines."""
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL):
        for command in re.findall(r'^kstock-batch (?:"[^"]*"|[^"\n])*', block, re.MULTILINE):
            yield shlex.split(command, comments=True)[1:]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_a_help_text_an_example_or_no_options_and_a_line_in_the_readme(path):
    command = LEAVES[path]
    assert command.help
    assert f"`kstock-batch {' '.join(path)}" in README


def named_commands(text):
    """Yield what each `kstock-batch …` of a page hands to the program: of code blocks and of code in the text."""
    blocks = re.findall(r"^[ ]*```(?:bash|console)?\n(.*?)```", text, re.DOTALL | re.MULTILINE)
    for block in blocks:
        for command in re.findall(r'^[ ]*(kstock-batch (?:"[^"]*"|[^"\n])*)', block, re.MULTILINE):
            yield from each_of(shlex.split(command, comments=True))
    prose = re.sub(r"^[ ]*```.*?```", "", text, flags=re.DOTALL | re.MULTILINE)
    for command in re.findall(r"`(kstock-batch [^`]+)`", prose):
        yield from each_of(shlex.split(command))


def each_of(words):
    """Yield the arguments of each command of a line that joins them by &&."""
    for is_and, command in groupby(words, key=lambda word: word == "&&"):
        if not is_and:
            yield list(command)[1:]


# A changelog names what was
PAGES = [page for page in REPOSITORY.glob("*.md") if page.name != "CHANGELOG.md"] + [
    *(REPOSITORY / "docs").glob("*.md")
]


@pytest.mark.parametrize("page", sorted(PAGES), ids=lambda page: page.name)
def test_every_command_that_a_page_names_is_one_with_those_options(page):
    for words in named_commands(page.read_text(encoding="utf-8")):
        if "…" in " ".join(words):
            continue
        try:
            parsed([STAND_IN.get(word, word) for word in words])
        except click.MissingParameter:
            pass  # in prose the command alone is named, or its option
        except click.BadOptionUsage as wrong:
            assert wrong.format_message().endswith("requires an argument."), f"{page.name}: {wrong.format_message()}"
        except click.exceptions.Exit as shown:
            assert shown.exit_code == 0, words  # --help, --version
        except click.UsageError as wrong:
            raise AssertionError(f"{page.name}: kstock-batch {' '.join(words)}: {wrong.format_message()}") from wrong


def test_the_operators_guide_says_what_to_do_for_every_alert():
    source = (REPOSITORY / "kstock_batch" / "serving" / "alerts.py").read_text(encoding="utf-8")
    names = set(re.findall(r'Alert\("(\w+)"', source)) | {"score_failed", "retrain_failed", "ingest_failed"}
    assert len(names) >= 12
    for page, heading in (("operating", "| alert | do |"), ("outcomes", "| alert | severity | stands when |")):
        text = (REPOSITORY / "docs" / f"{page}.md").read_text(encoding="utf-8")
        table = text[text.index(heading) :].split("\n\n")[0]
        told = {name for row in table.splitlines()[2:] for name in re.findall(r"`([\w…]+)`", row.split("|")[1])}
        wanted = names if page == "operating" else {*names, "…_failed"} - {"retrain_failed", "ingest_failed"}
        assert told == wanted, page


def test_every_option_has_a_help_text():
    for path, command in LEAVES.items():
        for option in command.params:
            assert not isinstance(option, click.Option) or option.help, f"{' '.join(path)} {option.name}"


def test_the_readmes_commands_run(walked):
    ran = 0
    for args in shown_commands():
        if "--root" in args or args[0] in {"demo", "retrain"}:
            continue  # the real-data run and the slow steps have tests of their own
        if "promote" in args or "--from" in args or "--ticker" in args:
            continue  # name a version, dates or a stock of the reader's own
        done(walked, *args)
        ran += 1
    assert ran >= 8


def test_the_readme_asks_five_questions_in_sql():
    questions = [args for args in shown_commands() if args[0] == "sql"]
    assert len(questions) >= 5


def test_the_python_of_the_readme_reads_predictions_and_features(walked, monkeypatch, capsys, tmp_path):
    (tmp_path / "warehouse").symlink_to(walked / "warehouse")  # the second makes a file of its own beside it
    monkeypatch.chdir(tmp_path)
    codes = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for code in codes:
        exec(compile(code.replace("max_age_sessions=3", "max_age_sessions=None"), "README.md", "exec"), {})
        assert capsys.readouterr().out
    assert len(codes) == 2


def test_exit_codes_of_the_readme_are_those_of_the_errors():
    stated = dict(re.findall(r"^\| (\d+) \| `(\w+)`", README, re.MULTILINE))
    real = {
        str(error.exit_code): error.__name__ for error in KStockError.__subclasses__() if "exit_code" in vars(error)
    }
    assert stated == real
    assert len(real) == len({error.exit_code for error in KStockError.__subclasses__() if "exit_code" in vars(error)})


def test_every_error_class_has_its_place_in_the_page_of_errors_with_its_exit_code():
    page = (REPOSITORY / "docs" / "errors.md").read_text(encoding="utf-8")
    stated = {name: int(code) for name, code in re.findall(r"^### `(\w+)` \((\d+)\)$", page, re.MULTILINE)}
    stated |= dict.fromkeys(re.findall(r"^- `(\w+)`: ", page, re.MULTILINE), KStockError.exit_code)
    assert stated == {error.__name__: error.exit_code for error in KStockError.__subclasses__() if is_ours(error)}
    sections = re.split(r"^### ", page, flags=re.MULTILINE)[1:-1]
    assert all("\n> error: " in section for section in sections)  # each shows what it looks like
    assert list(stated.values())[: len(sections)] == sorted(list(stated.values())[: len(sections)])


def is_ours(error):
    return error.__module__ == "kstock_batch.errors"  # tests make some of their own


def test_the_glossary_lists_the_markets_words_in_order_and_names_only_what_the_databases_know():
    page = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    tables = tomllib.loads((REPOSITORY / "kstock_batch" / "store" / "comments.toml").read_text(encoding="utf-8"))
    known = set(tables) | set(FEATURE_NAMES) | {column for columns in tables.values() for column in columns}
    terms = []
    for line in re.findall(r"^\| (?!term )(.*) \|$", page, re.MULTILINE):
        term, *_, where = line.split(" | ")
        assert set(re.findall(r"`(\w+)`", where)) <= known and "`" in where, line
        terms.append(term)
    assert len(terms) == len(set(terms)) >= 50
    market = terms[: terms.index("won") + 1]
    assert market == sorted(market, key=str.lower)
    assert {"KOSPI", "KOSDAQ", "KONEX"} <= set(market)


def test_the_python_of_the_bots_guide_reads_predictions(walked, monkeypatch, capsys, tmp_path):
    (tmp_path / "warehouse").symlink_to(walked / "warehouse")
    monkeypatch.chdir(tmp_path)
    guide = (REPOSITORY / "docs" / "bot-developer.md").read_text(encoding="utf-8")
    first, second = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    exec(compile(first.replace("max_age_sessions=3", "max_age_sessions=None"), "bot-developer.md", "exec"), {})
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 6 and shown[-1] == "None"
    exec(compile(first, "bot-developer.md", "exec"), {})  # the sample market ended months ago
    assert "sessions old, limit 3" in capsys.readouterr().out
    exec(compile(second, "bot-developer.md", "exec"), {})
    assert shown[0].split()[0] in capsys.readouterr().out


def table_rows(text):
    """Yield each row of a page's tables: the code spans of its first cell, and all numbers in it."""
    for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line):
            yield re.findall(r"`[^`]+`", line.split("|")[1]), sorted(re.findall(r"\d+(?:[,.:]\d+)*", line))


def test_the_korean_readme_says_what_the_english_one_does():
    korean = (REPOSITORY / "README.ko.md").read_text(encoding="utf-8")
    blocks = [re.findall(r"```.*?```", text, re.DOTALL) for text in (README, korean)]
    assert blocks[0] == blocks[1]
    for line, (mine, theirs) in enumerate(zip(table_rows(README), table_rows(korean), strict=True)):
        assert mine == theirs, f"README.ko.md, row {line} of all tables: {mine} is {theirs}"
    levels = [
        re.findall(r"^#+(?= )", re.sub(r"```.*?```", "", t, flags=re.DOTALL), re.MULTILINE) for t in (README, korean)
    ]
    assert levels[0] == levels[1]
    links = [sorted(re.findall(r"\]\(([^)]+)\)", text)) for text in (README, korean)]
    assert [link for link in links[0] if link != "README.ko.md"] == [link for link in links[1] if link != "README.md"]
    prose = re.sub(r"```.*?```|`[^`]*`|\([^)]*\)|^\|[^\n]*", "", korean, flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall("[가-힣]", prose)) > 1500


def test_links_between_pages_lead_somewhere():
    pages = [
        REPOSITORY / "README.md",
        REPOSITORY / "README.ko.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted((REPOSITORY / "docs").glob("*.md")),
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
