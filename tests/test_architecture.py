"""The house: imports point down the floors, modules stay small, words with one meaning stay where they belong."""

import ast
import re

import pytest

from modules import MODULES, PACKAGE, every_module, name_of, room

# The page's table is the rule: | floor | `room` `room` | responsibility |
HOUSE = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
FLOOR = {
    room: int(floor)
    for floor, rooms in re.findall(r"^\| (-?\d) \| (`[^|]*`) \|", HOUSE, re.MULTILINE)
    for room in re.findall(r"`(\w+)`", rooms)
}
LEARNING_LIBRARIES = {"torch", "lightgbm", "xgboost"}
PICKLING = {"pickle", "joblib", "cloudpickle", "shelve"}
CHECKPOINT = PACKAGE / "learners" / "lstm_checkpoint.py"  # the one file format that is torch's own
MAX_LINES = 300
# What the bot imports of the other rooms as it starts; it must stand on as little as the bot itself.
OPEN_TO_THE_BOT = ("errors", "quoting", "wording")
BOTS = sorted((PACKAGE / "bot").glob("*.py")) + [PACKAGE / f"{name}.py" for name in OPEN_TO_THE_BOT]
# What the bot opens once it is asked for a model, and not before: test_lstm_predictor.py shows what that needs.
LAZY_DOORS = {"numpy", "kstock_batch.learners.lstm_probability", "kstock_batch.market.contract"}


def imported(path):
    """Yield (line, full module name) of every import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "kstock_batch":  # a room itself
            yield from ((node.lineno, f"kstock_batch.{name.name}") for name in node.names if name.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def imported_at_once(path):
    """Yield (line, full module name) of every import that runs when the module is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt) and node not in later}
    yield from ((line, name) for line, name in imported(path) if line in lines)


def names_from(path, module):
    """Return the names ``path`` imports out of ``module``; "*" and ``import module`` count as everything."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import) and any(name.name.split(".")[0] == module for name in node.names):
            found.add("*")
        elif isinstance(node, ast.ImportFrom) and node.module == module:
            found |= {name.name for name in node.names}
    return found


@every_module
def test_a_module_imports_only_from_floors_below(path):
    own = room(path)
    if own == "__init__":
        return
    for line, name in imported(path):
        parts = name.split(".")
        if parts[0] != "kstock_batch" or len(parts) == 1:
            continue
        if own == "bot" and name in LAZY_DOORS and (line, name) not in set(imported_at_once(path)):
            continue
        other = parts[1]
        assert other == own or FLOOR[other] < FLOOR[own], f"{path.name}:{line}: {own} may not import {other}"


def test_every_room_has_its_floor_and_every_floor_its_rooms():
    assert {room(path) for path in MODULES} - {"__init__"} == FLOOR.keys()


@pytest.mark.parametrize("path", BOTS, ids=name_of)
def test_the_bots_door_needs_only_the_standard_library_and_duckdb(path):
    import sys

    for line, name in imported(path):
        root = name.split(".")[0]
        allowed = root in sys.stdlib_module_names or root == "duckdb"
        ours = name.startswith("kstock_batch.bot") or name in {f"kstock_batch.{own}" for own in OPEN_TO_THE_BOT}
        lazy = name in LAZY_DOORS and (line, name) not in set(imported_at_once(path))
        assert allowed or ours or lazy, f"{path.name}:{line}: the bot's environment has no {name}"


@every_module
def test_learning_libraries_are_imported_only_by_learners(path):
    roots = {name.split(".")[0] for _, name in imported(path)}
    assert room(path) == "learners" or not roots & LEARNING_LIBRARIES


@every_module
def test_a_module_is_one_noun_of_readable_length(path):
    assert path.stem not in {"utils", "helpers", "common", "misc"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


@every_module
def test_nothing_is_pickled_and_nobody_prints_but_the_console(path):
    text = path.read_text(encoding="utf-8")
    pickling = {name for _, name in imported(path) if name.split(".")[0] in PICKLING}
    assert not pickling or (path == CHECKPOINT and names_from(path, "pickle") == {"UnpicklingError"})
    assert not re.search(r"(?<![.\w])(eval|exec)\(", text)
    assert path == CHECKPOINT or not re.search(r"torch\.(save|load)\(", text)
    assert path.name == "console.py" or not re.search(r"^\s*print\(", text, re.MULTILINE)


def test_torch_reads_weights_only():
    tree = ast.parse(CHECKPOINT.read_text(encoding="utf-8"))
    loads = [call for call in ast.walk(tree) if isinstance(call, ast.Call) and ast.unparse(call.func) == "torch.load"]
    assert loads
    for call in loads:
        assert "weights_only=True" in [ast.unparse(keyword) for keyword in call.keywords], f"line {call.lineno}"


@every_module
def test_only_labels_look_forward(path):
    text = path.read_text(encoding="utf-8")
    assert path.name == "labels.py" or not re.search(r"shift\(-|\.lead\(|FOLLOWING", text)


def test_except_exception_exists_where_a_run_and_where_a_job_ends():
    found = [name_of(path) for path in MODULES if "except Exception" in path.read_text(encoding="utf-8")]
    assert found == ["executors/jobs.py", "store/ledger.py"]


def test_ray_is_imported_only_by_its_executor():
    found = {name_of(path) for path in MODULES for _, name in imported(path) if name.split(".")[0] == "ray"}
    assert found == {"executors/ray_cluster.py"}


def test_the_clock_is_read_only_at_the_border():
    found = {name_of(path) for path in MODULES if re.search(r"\.now\(|time\.time\(", path.read_text(encoding="utf-8"))}
    # the lock says since when it is held, the reader compares with the bot's own clock, a log line has its time, and a
    # source is shut, waited for and counted by the hour at which it is asked, within a night that lasts hours; a backup
    # is named by when it was made
    at_the_border = {"cli/options.py", "store/lock.py", "store/backups.py", "bot/reader.py", "logs.py"}
    assert found <= at_the_border | {"ingest/web/state.py"}
