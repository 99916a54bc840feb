"""What SECURITY.md promises of the code itself: asked of its syntax, so that no later module can break it unnoticed."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path

import pytest

from kstock_batch.operating.schedulers import Launchd, Systemd
from kstock_batch.operating.timetable import JOBS
from modules import MODULES, PACKAGE, every_module, name_of

SECURITY = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def calls(module: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the name that is called, as it is written."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def says(call: ast.Call, keyword: str) -> str | None:
    return next((ast.unparse(given.value) for given in call.keywords if given.arg == keyword), None)


# Nothing is executed that was read

EXECUTING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "code", "codeop"} | {
    *("yaml", "ruamel", "jsonpickle", "runpy", "imp", "pty")
}
EXECUTING_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "input"}
EXECUTING_METHODS = {"read_pickle", "to_pickle", "read_hdf", "deserialize", "map_elements", "spec_from_file_location"}
# A fresh interpreter each, on code of ours.
PROCESSES = {"serving/publication/verifier.py", "learners/lstm_process.py", "executors/processes.py"}


def executed(module: ast.Module) -> list[str]:
    """Return what in a module could run what it reads."""
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            kept = isinstance(node, ast.ImportFrom) and [name.name for name in node.names] == ["UnpicklingError"]
            found += [f"import {name}" for name in names if name.split(".")[0] in EXECUTING and not kept]
    for called, call in calls(module):
        last = called.split(".")[-1]
        if called in EXECUTING_CALLS or last in EXECUTING_METHODS or re.match(r"os\.(exec|spawn|posix_spawn)", called):
            found.append(called)
        if called.endswith(("np.load", "numpy.load")) and says(call, "allow_pickle") != "False":
            found.append(f"{called} that may unpickle")
        if called == "np.save" and says(call, "allow_pickle") != "False":
            found.append(f"{called} that may pickle")
        if called.endswith("torch.load") and says(call, "weights_only") != "True":
            found.append(f"{called} of more than weights")
        if says(call, "shell") not in (None, "False"):
            found.append(f"{called} through a shell")
        if called.endswith("getoutput") or called.startswith("asyncio.create_subprocess"):
            found.append(called)
    return found


@every_module
def test_nothing_that_was_read_is_executed(path):
    assert executed(tree(path)) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from joblib import load",
        "from pickle import loads, UnpicklingError",
        "def f(a):\n    import yaml",
        "eval(text)",
        "exec(text)",
        "compile(text, 'a', 'exec')",
        "__import__(name)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.save(path, rows)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pd.read_pickle(path)",
        "pl.Expr.deserialize(path)",
        "subprocess.run(text, shell=True)",
        "subprocess.getoutput(text)",
        "os.system(text)",
        "os.execv(path, [])",
    ],
)
def test_what_executes_is_found(planted):
    assert len(executed(ast.parse(planted))) == 1


def processes(module: ast.Module) -> list[str]:
    return [called for called, _ in calls(module) if called.startswith(("subprocess.", "multiprocessing.", "os.fork"))]


def test_processes_are_started_in_four_places_this_interpreter_or_the_machines_scheduler():
    started = {name_of(path): processes(tree(path)) for path in MODULES if processes(tree(path))}
    scheduling = started.pop("operating/installing.py")
    assert started == {name: ["subprocess.Popen"] for name in PROCESSES}
    # No shell reads a word: what a scheduler is told is a list that begins with one of three names.
    assert scheduling == ["subprocess.run"]
    text = (PACKAGE / "operating" / "installing.py").read_text(encoding="utf-8")
    assert "subprocess.run(command, " in text
    assert "shell=True" not in text
    told = (Systemd(Path("/a")), Launchd(Path("/a"), date(2026, 11, 25)))
    words = {command[0] for kind in told for command in (*kind.start(JOBS), *kind.stop(JOBS))}
    assert words | set(re.findall(r'_run\(\("(\w+)"', text)) == {"systemctl", "launchctl", "crontab"}
    for name in PROCESSES:
        text = (PACKAGE / name).read_text(encoding="utf-8")
        assert len(re.findall(r"command = \[sys\.executable, ", text)) == 1
        assert re.search(r"subprocess\.(run|Popen)\(command, ", text)


# No statement is built from input

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE|CREATE|ALTER|DROP|ATTACH|DETACH|COPY|USE|CHECKPOINT|COMMENT ON|FROM"
    r"|WHERE|JOIN|SET|PRAGMA|UNION|ORDER BY|CAST|GROUP BY|HAVING|CALL|INSTALL|LOAD|EXPORT|IMPORT|VALUES|RETURNING)\b"
)
RUNS = {"execute", "executemany", "sql", "query", "from_query"}
QUOTERS = {"quoted_text", "quoted_name"}
# What stands in a statement and is neither a constant, nor quoted, nor the text of a file of sql/: and why it may.
OURS: dict[str, dict[str, str]] = {
    "backtest/material.py": {
        "table": "a name in a tuple of that function",
        "columns": "a constant of the module, or *",
        "file": "a quoted path",
    },
    "backtest/stored.py": {"table": "a key of TABLES"},
    "bot/feature_file.py": {"statement": "a constant of bot/feature_store.py or of this module"},
    "bot/nightly_features.py": {"columns": "quoted names, joined"},
    "bot/publication.py": {
        "new": "publication_<n>, counted here",
        "old": "the one before it, or memory",
        "statement": "a constant of the bot's modules, or one whose columns are quoted",
    },
    "features/build.py": {"table": "a name in a tuple of that function"},
    "features/extra_columns.py": {"values": "quoted names, joined"},
    "features/labels.py": {"statement": "an INSERT of a file of sql/"},
    "features/retrieval.py": {"columns": "quoted names, joined"},
    "judging/outcomes.py": {"table": "a name in a tuple of that function, or written here"},
    "ingest/calendar.py": {
        "name": "of DERIVED",
        "due": "a name in a tuple, or written here",
        "told": "one of two texts written here",
        "table.name": "of a table contract, market/tables.py",
        "table.day": "a column of it",
    },
    "ingest/live/batches.py": {"columns": "of the batch's own schema, joined"},
    "ingest/live/departures.py": {
        "_columns(table)": "columns of a table contract, joined",
        "standing(table)": "made of a table contract alone",
    },
    "ingest/live/gate.py": {
        "table.name": "of a table contract, market/tables.py",
        "basis": "one of two conditions written there",
    },
    "ingest/live/precedence.py": {
        "table.name": "of a table contract, market/tables.py",
        "table.day": "a column of it",
        "on_key": "comparisons of columns of a table contract",
        "kept": "columns of a table contract, joined",
        "before": "one of two expressions written there",
        "standing(table)": "made of a table contract alone",
        "within": "one of two conditions written there",
    },
    "ingest/sources/bot.py": {
        "table": "one of three names written there",
        "', '.join(columns)": "columns of constants written there, joined",
        "where": "one of two conditions written there",
    },
    "ingest/versions.py": {
        "table.name": "of a table contract, market/tables.py",
        "self.table.name": "of a table contract",
        "key": "columns of a table contract, joined",
        "name": "a column of a table contract",
        "on_key": "comparisons of columns of a table contract",
        "differs": "comparisons of columns of a table contract",
        "standing(table)": "made of a table contract alone",
        "', '.join(_physical_order(self.table))": "columns of a table contract",
        "wrong": "one of two conditions written here",
        "used": "made of a table contract alone",
        "night": "one of two expressions written here",
        "source": "one of two joins written here",
        "changed": "one of two statements written here",
        "statement": "made of one of them",
    },
    "serving/questions/ask.py": {
        "self.statement": "the asker's own, which is what the command is for: tests/test_attacks.py",
        "setting": "of the constant _CLOSED",
        "quoted": "by quoted_name, a line above",
    },
    "serving/export.py": {"table": "a key of TABLES: the command offers no other"},
    "serving/publication/contents.py": {
        "name": "of TABLES, or written here",
        "view": "of VIEWS",
        "text": "of a file of sql/serve/",
        "store": "the database that this connection opened",
        "_HASHES.format(relation)": "a constant about one of two relations written here",
        "total": "a constant, a line above",
    },
    "serving/publication/generations.py": {
        "name": "file_<n>, counted here",
        "_FACTS.format(name)": "a constant about it",
    },
    "serving/publication/news.py": {
        "table": "of TABLES, or written here",
        "_SUM.format(statement)": "a constant about a file of sql/serve/ or one of those tables",
    },
    "serving/replay/night_features.py": {
        "ticker": "one of two expressions written here",
        "table.name": "of a table contract",
        "by_day": "a column of a table contract",
    },
    "serving/targets/content.py": {
        "', '.join(cells)": "quoted names, joined",
        "relation": "a key of KEYS",
        "rows": "made of the two above",
        "order": "quoted names of KEYS, joined",
        "some": "dates, as Python writes them",
    },
    "serving/targets/parquet.py": {
        "relation": "a key of KEYS",
        "rows": "made of it",
        "options": "constants",
    },
    "serving/targets/postgres.py": {
        "statement": "written in this module",
        "relation": "a key of KEYS",
        "', '.join(columns)": "quoted names and constants, joined",
        "primary": "quoted names of KEYS, joined",
        "table": "a key of KEYS or of _OF_OURS",
        "columns_of_ours": "of _OF_OURS",
        "view": "of VIEWS",
        "portable_view(view)": "a file of sql/serve/",
    },
    "serving/targets/sqlite.py": {
        "relation": "a key of KEYS",
        "', '.join('?' * len(columns))": "a parameter for each column",
        "', '.join(columns)": "quoted names and constants, joined",
        "key": "quoted names of KEYS, joined",
        "insert": "made of these",
        "view": "of VIEWS",
        "portable_view(view)": "a file of sql/serve/",
    },
    "serving/snapshot.py": {"table": "of TABLES, or written here", "facts": "a constant"},
    "serving/publication/standalone.py": {
        "name": "a constant of the caller's: CATALOGUE or HANDED_OUT",
        "options": "constants",
    },
    "store/catalogue.py": {
        "_name(query)": "the name of a file of sql/views/",
        "', '.join(query.declared)": "the parameters in its header",
        "text": "its text, parameters as plain names",
        "_DROPPED[kind]": "one of two words written here",
        "_definition(query)": "made of these",
        "what": "a kind written here, a database attached by this program, and quoted names",
    },
    "store/migrations.py": {"step.read_text(encoding='utf-8')": "a file of sql/schema/"},
    "store/warehouse.py": {
        "table": "a constant of the caller's",
        "order": "a constant of the caller's",
        "sort": "ORDER BY and that constant",
    },
}


def is_harmless(value: ast.expr) -> bool:
    """Return whether an expression is made of constants, quoted values and files of sql/ alone."""
    if isinstance(value, ast.Constant):
        return True
    if isinstance(value, ast.Call) and ast.unparse(value.func) in QUOTERS:
        return True
    if re.fullmatch(r"(Query\.load\(.+\)|query|self)\.text", ast.unparse(value)):
        return True
    loaded = {node.id for node in ast.walk(value) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in ast.walk(value) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    free = loaded - bound - set(dir(builtins)) - QUOTERS - {"fields"}
    attributes = {node.attr for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    return attributes <= {"join", "items", "name"} and all(re.fullmatch(r"_?[A-Z]\w*", name) for name in free)


def built(module: ast.Module) -> list[tuple[int, str]]:
    """Return (line, expression) of all that reaches a statement and is not harmless by itself."""
    found, inside = [], set()
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr) and id(node) not in inside:
            words = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if not SQL.search(words):
                continue
            for part in node.values:
                if isinstance(part, ast.FormattedValue):
                    inside |= {id(inner) for inner in ast.walk(part)}
                    if not is_harmless(part.value):
                        found.append((node.lineno, ast.unparse(part.value)))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found += _called(node, node.func)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            sides = (node.left, node.right)
            if any(isinstance(s, ast.Constant) and isinstance(s.value, str) and SQL.search(s.value) for s in sides):
                found.append((node.lineno, ast.unparse(node)))
    return found


def _called(call: ast.Call, func: ast.Attribute) -> list[tuple[int, str]]:
    """Return the statement a call runs unless it is a text, and one that a call of a text's method makes."""
    given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg in ("query", "sql")), None)
    if func.attr in RUNS and given is not None:
        is_text = isinstance(given, ast.JoinedStr) or is_harmless(given)
        return [] if is_text else [(call.lineno, ast.unparse(given))]
    made_of = func.value
    is_sql = isinstance(made_of, ast.Constant) and isinstance(made_of.value, str) and SQL.search(made_of.value)
    if func.attr in ("format", "replace", "join", "format_map") and (is_sql or ast.unparse(made_of).endswith(".text")):
        return [(call.lineno, ast.unparse(call))]
    return []


MACRO = ("store/catalogue.py", "query.text.replace('$', '')")  # a file of sql/ as the body of a macro


@every_module
def test_no_statement_is_built_from_input(path):
    ours = OURS.get(name_of(path), {})
    odd = [(line, text) for line, text in built(tree(path)) if text not in ours and (name_of(path), text) != MACRO]
    assert odd == [], f"{name_of(path)}: quote it (quoting.py), give it as a parameter, or justify it in OURS"


@pytest.mark.parametrize(
    "planted",
    [
        'con.execute(f"SELECT * FROM prediction WHERE ticker = {ticker}")',
        "con.execute(f\"SELECT * FROM prediction WHERE ticker = '{ticker}'\")",
        'con.sql(f"FROM {self.table}")',
        'con.execute("SELECT " + column)',
        "con.execute(\"SELECT * FROM run WHERE as_of = '%s'\" % as_of)",
        'con.execute("SELECT * FROM {}".format(table))',
        'con.execute(Query.load("a").text.replace("$n", str(n)))',
        "con.execute(statement)",
        "con.sql(query=statement)",
        'statement = f"DELETE FROM run WHERE run_id = {run_id}"',
        'where = f"WHERE ticker = {ticker.upper()}"',
        "con.execute(f\"ATTACH '{path}' AS p\")",
        'con.execute(f"SELECT {settings.column} FROM run")',
    ],
)
def test_a_statement_built_from_input_is_found(planted):
    assert built(ast.parse(planted))


@pytest.mark.parametrize(
    "sound",
    [
        'con.execute("SELECT 1")',
        "con.execute(_SELECT, {'n': 1})",
        'con.execute(f"ATTACH {quoted_text(path)} AS p")',
        'con.execute(f"CREATE TABLE {CATALOGUE}.t AS {Query.load(name).text}")',
        'raise Error(f"no {name} here")',
    ],
)
def test_a_statement_of_constants_and_quoted_values_is_none(sound):
    assert built(ast.parse(sound)) == []


def test_every_justification_is_still_needed():
    for name, ours in OURS.items():
        assert {text for _, text in built(tree(PACKAGE / name))} >= ours.keys(), name


@every_module
def test_quotes_are_doubled_in_one_place(path):
    doubled = re.search(r"""replace\((["'])['"]\1, """, path.read_text(encoding="utf-8"))
    assert path.name == "quoting.py" or doubled is None


# HTML is written by one template, which escapes every value


@every_module
def test_no_module_writes_html_but_the_reports_drawings(path):
    assert html_of(tree(path)) == (["<svg"] if path.name == "drawing.py" else [])


def test_the_reports_template_escapes_everything_but_its_own_drawings():
    folder = PACKAGE / "serving" / "report"
    assert "autoescape=True" in (folder / "page.py").read_text(encoding="utf-8")
    template = (folder / "report.html.j2").read_text(encoding="utf-8")
    assert re.findall(r"\{\{[^}]*\bsafe\b[^}]*\}\}", template) == ["{{ spark | safe }}", "{{ section.svg | safe }}"]
    assert "autoescape" not in template
    backtest = PACKAGE / "backtest"
    assert "autoescape=True" in (backtest / "page.py").read_text(encoding="utf-8")
    page = (backtest / "backtest.html.j2").read_text(encoding="utf-8")
    assert re.findall(r"\{\{[^}]*\bsafe\b[^}]*\}\}", page) == ["{{ svg | safe }}"]
    assert "autoescape" not in page
    assert "{" + "{" not in (folder / "style.html.j2").read_text(encoding="utf-8"), "the style says nothing of data"
    assert sorted(path.name for path in PACKAGE.rglob("*.j2")) == [
        *("backtest.html.j2", "report.html.j2", "style.html.j2"),
    ]


TAG = re.compile(
    r"<(!doctype html|/?(html|head|body|div|span|table|t[rdh]|thead|tbody|p|a|b|i|em|[uo]l|li|h[1-6]|img|script|style"
    r"|svg|pre|br|form|input|link|meta)( [a-z-]+=[^<]*)?/?)>?(?![\w.])",
    re.IGNORECASE,
)


def html_of(module: ast.Module) -> list[str]:
    """Return the texts of a module that hold a tag."""
    texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if TAG.search(text)]


@pytest.mark.parametrize("planted", ["'<td>'", "f'<p class={name}>{text}</p>'", "'<!DOCTYPE html>'", "'</table>'"])
def test_html_is_found(planted):
    assert html_of(ast.parse(planted))


# SECURITY.md


def test_every_promise_of_security_md_names_a_test_that_exists():
    rows = re.findall(r"^\| (.+) \| (`test_.+`) \|$", SECURITY, re.MULTILINE)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", tests, re.MULTILINE))
    assert len(rows) == SECURITY.count("\n| ") - 1, "a row without a test"
    for promise, named in rows:
        assert set(re.findall(r"`(\w+)`", named)) <= defined, promise


def test_security_md_states_the_limits_and_names_that_are():
    from kstock_batch.cli.questions import SHOWN_ROWS, TIMEOUT_S, WRITTEN_ROWS
    from kstock_batch.redaction import _SECRET_NAME, SHORTEST
    from kstock_batch.serving.questions.limits import GRACE_S, HEADROOM

    assert f"`--timeout` ({TIMEOUT_S} s)" in SECURITY
    assert f"{SHOWN_ROWS:,} in a table, {WRITTEN_ROWS:,} else" in SECURITY
    assert (GRACE_S, HEADROOM, SHORTEST) == (2, 2**30, 6)
    names = SECURITY[SECURITY.index("A secret is") :]
    assert all(_SECRET_NAME.search(f"A_{name}") for name in re.findall(r"`([A-Z]+)`", names.partition("and the")[0]))
