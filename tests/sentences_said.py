"""Every English sentence, or piece of one, that the code can say to a person, found in its syntax trees.

A string literal is taken for a sentence if it holds words with a space between them, or if it is an argument of
something that speaks. What is said elsewhere (documents, files, logs, programming mistakes) is left out by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import kstock_batch

PACKAGE = Path(kstock_batch.__file__).parent

# What these write is no speech in the terminal: pages and drawings with words of their own, files, SQL and its
# comments, and what the bot says in its own process.
SILENT = (
    *(
        "serving/report/words.py",
        "serving/report/charts.py",
        "serving/report/drawing.py",
        "backtest/page.py",
        "backtest/charts.py",
        "korean",
        "learners",
        "executors/worker.py",
    ),
    *("operating/schedulers.py", "store/comments.toml", "store/catalogue.py"),
    *(
        "bot/collector.py",
        "bot/feature_file.py",
        "bot/feature_rows.py",
        "bot/feature_store.py",
        "bot/lstm_predictor.py",
    ),
    *("bot/nightly_features.py", "bot/tree_members.py", "ingest/sources/sample_market", "cli/language.py"),
    *("cli/spoken.py", "redaction.py", "logs.py"),
)
# Calls whose arguments nobody reads in a terminal: SQL, logs, patterns, mistakes of the programmer, click's help
# (help_said.py has it).
DEAF = {
    *("execute", "executemany", "sql", "info", "debug", "compile", "filterwarnings", "ValueError", "TypeError"),
    *("RuntimeError", "AssertionError", "option", "argument", "command", "group", "getenv", "search", "match", "sub"),
    *("findall", "fullmatch", "split", "rsplit", "partition", "strftime", "simplefilter", "NotImplementedError"),
    *("startswith", "endswith", "join", "encode", "write_text", "write_bytes", "KeyError"),
}
# SQL, regular expressions, programs, kinds of content and names of columns.
NO_SPEECH = re.compile(
    r"^\s*(SELECT|WITH|FROM|INSERT|DELETE|CREATE|ATTACH|COPY|UPDATE|PRAGMA|SET|ALTER|DROP) "
    r"|\b(ORDER BY|WHERE|SELECT|JOIN|NOT NULL|PRIMARY KEY|READ_WRITE|FORMAT parquet|AND t\.|AND \{|AND ticker)"
    r"|CAST\(|coalesce\(|list\(DISTINCT|\\s|^\n?import |^<title|^# [SK{]|you are \(a|^\w+(, \w+)+$|^\w+/[\w, /]+$"
)
# Pieces that are sentences nowhere: names of runs, stages, requests and files, what others write and we look for, the
# English message of `summary`, which has its Korean elsewhere, and sentences that are said piece by piece.
UNSAID = frozenset(
    (
        "# {} begin: written by `kstock-batch schedule`",
        "# {} end",
        "DEGRADED: {}",
        "Data doesn't exist",
        "KRX predictions as-of {}",
        "STALE: {} sessions old",
        "`kstock-batch ingest forgive {}`",
        "`kstock-batch score --as-of {} --force`",
        "alert needs",
        "alerts need",
        "audit {}",
        "bot {}",
        "bot: {}",
        "by row",
        "came true",
        "commit features {}",
        "commit {}",
        "corrupt database file",
        "dart corpCode.xml",
        "dart fnlttMultiAcnt",
        "dart list",
        "dart {}",
        "disk is full",
        "disk quota exceeded",
        "double precision",
        "error: {}",
        'eval "$(kstock-batch completion bash)"   in ~/.bashrc',
        'eval "$(kstock-batch completion zsh)"   in ~/.zshrc, after compinit',
        "every version",
        "explain {}",
        "fdr KIND administrative issues",
        "fdr {}/{}.csv",
        "features {}",
        "fred {}",
        "ingest backfill",
        "ingest files",
        "krx {}",
        "kstock-batch completion fish > ~/.config/fish/completions/kstock-batch.fish",
        "last 60",
        "marcap {}",
        "no crontab",
        "no space left",
        "offending row",
        "pykrx {}",
        "pykrx: {}",
        "score {}",
        "yahoo {}",
        "{}",
        "{}\n  fix: {}",
        "{} explain",
        "{} of {}",
        "{} stocks; signal >= 0.80: {}, >= 0.65: {}",
        "{} {} a person: {}",
        "{} {} sessions {} tickers seed {} signal {}, program {}",
        "{}: {}",
        "{}: {} of {}",
    )
)
WORDS = re.compile(r"[A-Za-z]{2,}[,;:.)]? [A-Za-z({]|[}%)`] [a-z]{2,}|[a-z]{2,}:? \{|^[,;:] [a-z]|[a-z]{2,} \d")


def sentences() -> Iterator[tuple[str, int, str]]:
    """Yield (file, line, sentence with named holes)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith(SILENT):
            yield from ((name, line, text) for line, text in _of_tree(ast.parse(path.read_text(encoding="utf-8"))))


def _of_tree(tree: ast.Module) -> Iterator[tuple[int, str]]:
    skipped = {id(inner) for node in ast.walk(tree) if _is_deaf(node) for inner in _hidden(node)}
    yield from _of_node(tree, skipped)


def _is_deaf(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name in DEAF
    # a string alone on its line is a docstring; the names of types are no speech
    return (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or (
        isinstance(node, ast.Dict | ast.arg) and (isinstance(node, ast.arg))
    )


def _hidden(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Call):
        yield from [*node.args, *(keyword.value for keyword in node.keywords)]
        return
    if isinstance(node, ast.arg):
        if node.annotation is not None:
            yield node.annotation
        return
    yield node


def _of_node(node: ast.AST, skipped: set[int]) -> Iterator[tuple[int, str]]:
    if id(node) in skipped:
        return
    if (text := _text(node)) is not None:
        if WORDS.search(text) and not NO_SPEECH.search(text):
            yield node.lineno, text  # type: ignore[attr-defined]
        for inner in _inside(node):
            yield from _of_node(inner, skipped)
        return
    for child in ast.iter_child_nodes(node):
        yield from _of_node(child, skipped)


def _text(node: ast.AST) -> str | None:
    """Return a string expression as a sentence with holes, or None."""
    if isinstance(node, ast.Constant):
        return _filled_later(node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _filled_later(str(part.value)) if isinstance(part, ast.Constant) else f"{{{_hole(part)}}}"
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        if left is not None or right is not None:
            return (left if left is not None else f"{{{_name(node.left)}}}") + (
                right if right is not None else f"{{{_name(node.right)}}}"
            )
    return None


def _filled_later(text: str) -> str:
    """Return a text whose places for str.format and for logging are holes too."""
    return text.replace("{}", "{it}").replace("%s", "{it}")


def _hole(part: ast.AST) -> str:
    """Return the name of a hole; n_… holds a number, with its noun behind it or not."""
    assert isinstance(part, ast.FormattedValue)
    name = _name(part.value)
    spec = ast.unparse(part.format_spec) if part.format_spec else ""
    counts = isinstance(part.value, ast.Call) and getattr(part.value.func, "id", "") in ("counted", "len")
    return f"n_{name.removeprefix('n_')}" if counts or (re.search(r"[,.].*[fd]?'", spec) and "%" not in spec) else name


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what fills the holes of a string expression: it may say something itself."""
    if isinstance(node, ast.JoinedStr):
        yield from (part.value for part in node.values if isinstance(part, ast.FormattedValue))
    elif isinstance(node, ast.BinOp):
        for side in (node.left, node.right):
            if _text(side) is None:
                yield side
            else:
                yield from _inside(side)


def _name(node: ast.AST) -> str:
    """Return a name for the hole that an expression fills."""
    if isinstance(node, ast.Name):
        return node.id.strip("_")
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    if isinstance(node, ast.Call):
        if node.args and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "counted",
            "len",
            "str",
            "sorted",
            "join",
            "abs",
            "repr",
            "list",
        ):
            return _name(node.args[-1] if len(node.args) == 1 else node.args[0])
        return _name(node.func)
    if isinstance(node, ast.Subscript):
        index = node.slice
        return (
            index.value
            if isinstance(index, ast.Constant) and isinstance(index.value, str) and index.value.isidentifier()
            else _name(node.value)
        )
    if isinstance(node, ast.IfExp):
        return _name(node.body)
    if isinstance(node, ast.BoolOp):
        return _name(node.values[0])
    if isinstance(node, ast.BinOp):
        return _name(node.left)
    if isinstance(node, ast.GeneratorExp | ast.ListComp):
        return _name(node.elt) if not isinstance(node.elt, ast.JoinedStr) else "each"
    return "it"


def missing(known: Iterable[str]) -> Iterator[str]:
    """Yield where each sentence is that the catalogue, of which the English is ``known``, does not have."""
    told = {bare(english) for english in known} | UNSAID
    for file, line, text in sentences():
        for part in text.removeprefix("warning: ").split("\n  fix: "):
            if bare(part).rstrip("\n") not in told and bare(part) not in told:
                yield f"{file}:{line}: {part!r}"


def bare(text: str) -> str:
    """Return a sentence with nameless holes: two that differ in names alone are one."""
    return re.sub(r"\{\w+\}", "{}", text)
