"""The examples for Dagster and Airflow: always read; run where these are installed (`make orchestrators`).

An orchestrator stands in an environment of its own: DAGSTER_PYTHON and AIRFLOW_PYTHON name its interpreter.
"""

import ast
import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from call_tree import parsed
from factories import LAST, TINY, asked_json, copy_root, done, read_folder, sessions_between, write_folder
from kstock_batch.errors import ChallengerRefused, CheckFailed, DataNotReady, SourceUnreachable, WarehouseLocked
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.operating.timetable import NIGHTLY, WEEKLY

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = {kind: REPOSITORY / "docs" / "examples" / f"{kind}_night.py" for kind in ("dagster", "airflow")}
SUNDAY = date(2026, 11, 22)
STEPS = {
    "dagster": ("raw_rows", "features", "predictions", "predictions_all_is_well", "model"),
    "airflow": ("ingest", "features", "score", "check", "retrain"),
}
every_example = pytest.mark.parametrize("kind", EXAMPLES)


def tree(kind):
    return ast.parse(EXAMPLES[kind].read_text(encoding="utf-8"))


def constants(kind):
    """Return the constants that an example's module defines."""
    found = {}
    for node in tree(kind).body:
        if isinstance(node, ast.Assign):
            targets = node.targets[0].elts if isinstance(node.targets[0], ast.Tuple) else [node.targets[0]]
            values = node.value.elts if isinstance(node.targets[0], ast.Tuple) else [node.value]
            for target, value in zip(targets, values, strict=True):
                try:
                    found[target.id] = ast.literal_eval(value)
                except (ValueError, TypeError):
                    continue
    return found


def calls(kind, folder):
    """Return the words of each command that an example gives, and the keys of its document that the function reads."""
    found = {}
    functions = [node for node in ast.walk(tree(kind)) if isinstance(node, ast.FunctionDef) and node.name != "ask"]
    for function in functions:
        if any(isinstance(inner, ast.FunctionDef) for inner in function.body):
            continue  # a Dag: its tasks are looked at one by one
        told = ast.walk(function)
        keys = {
            node.slice.value
            for node in told
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id == "told"
            and isinstance(node.slice, ast.Constant)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "ask":
                words = [word_of(arg, folder) for arg in node.args if getattr(arg, "id", "") != "context"]
                found[tuple(words)] = keys
    return found


def word_of(argument, folder):
    if isinstance(argument, ast.Constant):
        return argument.value
    named = argument.attr if isinstance(argument, ast.Attribute) else getattr(argument, "id", "day")
    return str(folder) if named == "folder" else "2026-11-25"


def fired(cron, start, days=28):
    """Return when a cron line of plain numbers and one range of weekdays (0 = Sunday) fires, minute by its fields."""
    minute, hour, day, month, weekdays = cron.split()
    assert (day, month) == ("*", "*")
    first, _, last = weekdays.partition("-")
    allowed = set(range(int(first), int(last or first) + 1))
    dates = (start + timedelta(days=n) for n in range(days))
    return [(d, int(hour), int(minute)) for d in dates if (d.weekday() + 1) % 7 in allowed]


def due(job, start, days=28):
    dates = (start + timedelta(days=n) for n in range(days))
    return [(d, job.at.hour, job.at.minute) for d in dates if d.isoweekday() in job.weekdays]


# Read


@every_example
def test_every_command_of_an_example_is_one_of_the_program(kind, tmp_path):
    asked = calls(kind, tmp_path)
    assert {words[0] for words in asked} == {"ingest", "features", "score", "check", "retrain"}
    assert len(asked) == 6
    for words in asked:
        assert parsed([*words, "--json"]), words


def test_what_the_examples_read_of_a_document_is_in_it(trained_root, monkeypatch):
    monkeypatch.setenv("KSTOCK_MAX_AGE_SESSIONS", "100000")
    read = {}
    for kind in EXAMPLES:
        for words, keys in calls(kind, trained_root / "next").items():
            if words[0] != "ingest":  # one function reads the documents of both ways to ingest
                read.setdefault(words[0], set()).update(keys)
    assert "datasets" in asked_json(trained_root, "ingest", "files", trained_root / "next")
    for name in ("features", "score", "check"):
        assert read[name] <= {*asked_json(trained_root, name)}, name
    night = asked_json(trained_root, "ingest", "--as-of", SUNDAY)
    assert night["is_closed"]
    assert {"n_new", "n_changed", "seconds", "missing"} <= {*night}


@every_example
def test_an_example_fires_when_the_timetable_says_and_not_on_saturday(kind):
    told, start = constants(kind), date(2026, 11, 23)
    assert told["SEOUL"] == "Asia/Seoul"
    assert fired(told["NIGHT"], start) == due(NIGHTLY, start)
    assert fired(told["WEEKLY"], start) == due(WEEKLY, start)
    assert {d.isoweekday() for d, *_ in fired(told["WEEKLY"], start)} == {7}
    # Both lines and the zone are what the schedules are made of.
    text = EXAMPLES[kind].read_text(encoding="utf-8")
    assert text.count("imezone=SEOUL") == 2 and text.count("NIGHT,") == 2 and text.count("WEEKLY,") == 1


@every_example
def test_an_example_knows_the_exit_codes_by_their_errors(kind):
    told = constants(kind)
    assert told["WORTH_WAITING"] == {error.exit_code for error in (DataNotReady, WarehouseLocked, SourceUnreachable)}
    assert (told["REFUSED"], told["ALERTS"]) == (ChallengerRefused.exit_code, CheckFailed.exit_code)


# Run


@pytest.fixture(scope="module")
def python_of():
    """How to find an orchestrator's interpreter; the test is skipped where there is none."""

    def find(kind):
        named = os.environ.get(f"{kind.upper()}_PYTHON", sys.executable)
        if subprocess.run([named, "-c", f"import {kind}"], capture_output=True, check=False).returncode:
            pytest.skip(f"{kind} is not installed: `make orchestrators` installs it apart and runs this")
        return str(REPOSITORY / named) if not Path(named).is_absolute() else named

    return find


def told_of(kind, python, situations, home):
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "AIRFLOW_HOME": str(home), "DAGSTER_HOME": ""}
    environ |= {"AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES[kind].parent)}
    after = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    ran = subprocess.run(
        [python, str(Path(__file__).parent / "orchestrated" / f"by_{kind}.py")],
        input=json.dumps({"situations": situations, "after": after}),
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout.splitlines()[-1]), ran.stdout + ran.stderr


def situation(root, job="night", *, folder="", day=None, **settings):
    """Return what a driver is told: settings that are not given are put back, for one process runs them all."""
    given = {"max_age_sessions": "100000", "min_session_share": "0.9", **settings}
    environ = {"KSTOCK_ROOT": str(root)} | {f"KSTOCK_{name.upper()}": value for name, value in given.items()}
    command = f"{sys.executable} -m kstock_batch"
    return {"job": job, "command": command, "environ": environ, "folder": str(folder), "day": day and str(day)}


def without_a_name(root):
    """A folder like ``next`` whose newest session lacks one stock."""
    frames = read_folder(root / "next")
    prices = frames["prices"]
    newest = prices["date"].max()
    gone = prices.filter(pl.col("date") == newest)["ticker"][0]
    lacking = prices.filter((pl.col("date") != newest) | (pl.col("ticker") != gone))
    return write_folder(root / "lacking", {**frames, "prices": lacking})


@every_example
def test_nights_and_retrains_of_all_kinds_end_as_the_guide_says(kind, python_of, trained_root, tmp_path):
    python = python_of(kind)
    gated, hopeless = copy_root(trained_root, tmp_path / "gated"), tmp_path / "hopeless"
    hopeless.mkdir()
    (hopeless / "kstock.toml").write_text(TINY, encoding="utf-8")
    days = sessions_between(LAST.replace(year=2023, month=5), LAST)[-220:]
    generate(days, n_tickers=40, seed=7, signal=0.0).write(hopeless / "source")
    done(hopeless, "ingest", "files", hopeless / "source")
    today = datetime.now(UTC).date()
    tomorrow = sessions_between(today + timedelta(days=1), today + timedelta(days=14))[0]
    told, text = told_of(
        kind,
        python,
        {
            "well": situation(trained_root, folder=trained_root / "next"),
            "day off": situation(trained_root, day=SUNDAY),
            "too early": situation(trained_root, day=tomorrow),
            "gated": situation(gated, folder=without_a_name(gated), min_session_share="1"),
            "stale": situation(trained_root, folder=trained_root / "next", max_age_sessions="3"),
            "retrain": situation(trained_root, "retrain"),
            "no better": situation(hopeless, "retrain"),
        },
        tmp_path / "home",
    )
    ingest, features, score, check, retrain = STEPS[kind]
    ended = told["outcomes"]
    assert {name: one["is_well"] for name, one in ended.items()} == {
        **{"well": True, "day off": True, "too early": False, "gated": False, "stale": False},
        **{"retrain": True, "no better": True},
    }
    assert set(ended["well"]["steps"].values()) == {"success"}
    shown = ended["well"]["shown"][score]
    assert (shown["n_scored"] > 30, shown["as_of"]) == (True, str(LAST))
    assert {"model_version", "seconds", "n_published"} <= {*shown}
    assert [ended["day off"]["steps"][step] for step in (features, score, check)] == ["skipped"] * 3
    assert f"{SUNDAY} is no session of the exchange" in text
    assert ended["too early"]["tries"][ingest] == 3, "tried twice more"
    assert f"the prices of {tomorrow} are provisional until " in text
    assert ended["gated"]["steps"][score].startswith("fail")
    assert ended["gated"]["tries"][score] == 1, "what waiting does not mend is not tried again"
    assert f"{LAST} fails 1 of 5 gates: completeness: " in text
    assert (ended["stale"]["steps"][score], ended["stale"]["steps"][check][:4]) == ("success", "fail")
    assert ended["no better"]["shown"][retrain]["is_champion"] is False
    assert "was stored but not promoted" in ended["no better"]["shown"][retrain]["note"]
    for job, times in told["fires"].items():
        timetable = NIGHTLY if job == "night" else WEEKLY
        for at in map(datetime.fromisoformat, times):
            assert (at.isoweekday() in timetable.weekdays, at.time()) == (True, timetable.at)
            assert at.utcoffset() == timedelta(hours=9)
