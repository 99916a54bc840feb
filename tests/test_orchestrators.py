"""The examples for Dagster and Airflow: what they call exists, and both do with each end of a job what the job means.

Neither belongs to the project's packages. What really runs them needs the Python of an environment that has them:
DAGSTER_PYTHON and AIRFLOW_PYTHON name its path; docs/deploying.md tells how to make one.
"""

import ast
import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from call_tree import parsed
from factories import copy_root, read_folder, write_folder

REPOSITORY = Path(__file__).parents[1]
EXAMPLES = REPOSITORY / "docs" / "examples"
KINDS = ("dagster", "airflow")
AFTER = datetime.fromisoformat("2026-11-05T12:00+09:00")  # a Thursday
STEPS = {
    "dagster": {
        "ingest": "raw_rows",
        "features": "features",
        "score": "predictions",
        "check": "predictions_all_is_well",
    },
    "airflow": {name: name for name in ("ingest", "features", "score", "check")},
}


def calls(kind: str) -> list[list[str]]:
    """Return the words of each command that an example asks, a placeholder for what is not written there."""
    tree = ast.parse((EXAMPLES / f"{kind}_night.py").read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == "ask":
            words = [
                one.value if isinstance(one, ast.Constant) else "2026-11-05" for one in node.args if not is_context(one)
            ]
            found.append(words)
    return found


def is_context(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "context"


@pytest.mark.parametrize("kind", KINDS)
def test_every_command_of_an_example_is_one_of_the_program_and_answers_as_json(kind):
    asked = calls(kind)
    for words in asked:
        assert parsed([*words, "--json"]), words
    assert {words[0] for words in asked} == {"ingest", "features", "score", "check", "retrain"}


@pytest.fixture(scope="module")
def outcomes(_trained, tmp_path_factory):
    """Return what became of each situation, by orchestrator; each is run once."""
    known = {}

    def run(kind):
        python = os.environ.get(f"{kind.upper()}_PYTHON")
        if not python:
            pytest.skip(f"{kind.upper()}_PYTHON names no Python that has {kind}")
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            asked = {"situations": situations(_trained, folder), "after": AFTER.timestamp()}
            places = {"AIRFLOW_HOME": str(folder / "home"), "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES)}
            told = subprocess.run(
                [python, str(REPOSITORY / "tests" / "orchestrated" / f"by_{kind}.py")],
                input=json.dumps(asked),
                env={**os.environ, **places, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert told.returncode == 0, told.stderr[-3000:]
            known[kind] = json.loads(told.stdout.splitlines()[-1])
        return known[kind]

    return run


def situations(trained, folder):
    """Return the situations: a night that goes well, a day off, a session that lacks rows, alerts, a retrain."""
    command = f"{sys.executable} -m kstock_batch"

    def place(name, **settings):
        root = copy_root(trained, folder / name)
        environ = {"PYTHONPATH": str(REPOSITORY), "KSTOCK_ROOT": str(root), "KSTOCK_MAX_AGE_SESSIONS": "100000"}
        return root, {"command": command, "environ": environ | settings}

    (well, of_well), (gated, of_gated) = place("well"), place("gated", KSTOCK_MIN_SESSION_SHARE="1")
    stale, of_stale = place("stale", KSTOCK_MAX_AGE_SESSIONS="3")
    frames = read_folder(gated / "next")
    last, lacking = frames["prices"]["date"].max(), frames["prices"]["ticker"].min()
    prices = frames["prices"].filter(~((pl.col("date") == last) & (pl.col("ticker") == lacking)))
    write_folder(gated / "lacking", frames, prices=prices)
    return {
        "well": {"job": "night", "folder": str(well / "next"), **of_well},
        "day off": {"job": "night", "day": "2024-06-29", **of_well},
        "gated": {"job": "night", "folder": str(gated / "lacking"), **of_gated},
        "stale": {"job": "night", "folder": str(stale / "next"), **of_stale},
        "retrain": {"job": "retrain", **place("retrain")[1]},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_night_goes_through_and_shows_what_it_did(kind, outcomes):
    told, steps = outcomes(kind)["outcomes"]["well"], STEPS[kind]
    assert told["is_well"], told
    assert {told["steps"][step] for step in steps.values()} == {"success"}
    shown = told["shown"][steps["score"]]
    assert (
        shown["as_of"] == "2024-06-28" and shown["n_scored"] >= 30 and shown["model_version"] and shown["seconds"] > 0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_day_off_what_follows_the_ingest_is_skipped_and_nothing_failed(kind, outcomes):
    told, steps = outcomes(kind)["outcomes"]["day off"], STEPS[kind]
    assert told["is_well"], told
    assert {told["steps"].get(steps[name], "skipped") for name in ("features", "score", "check")} == {"skipped"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_that_lacks_rows_fails_the_night_at_the_score(kind, outcomes):
    told, steps = outcomes(kind)["outcomes"]["gated"], STEPS[kind]
    assert not told["is_well"]
    assert "fail" in told["steps"][steps["score"]] or "retry" in told["steps"][steps["score"]]
    assert told["steps"].get(steps["check"], "skipped") != "success"


@pytest.mark.parametrize("kind", KINDS)
def test_alerts_fail_the_night_although_its_predictions_are_published(kind, outcomes):
    told, steps = outcomes(kind)["outcomes"]["stale"], STEPS[kind]
    assert told["steps"][steps["score"]] == "success"
    assert not told["is_well"] or told["steps"][steps["check"]] != "success"


@pytest.mark.parametrize("kind", KINDS)
def test_a_retrain_ends_well_and_shows_its_version_whether_or_not_it_serves(kind, outcomes):
    told = outcomes(kind)["outcomes"]["retrain"]
    assert told["is_well"], told
    (shown,) = told["shown"].values()
    assert shown["version"] and shown["note"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_night_is_due_on_weekdays_and_the_retrain_on_sunday_by_seouls_clock(kind, outcomes):
    fires = outcomes(kind)["fires"]
    nights = [datetime.fromisoformat(at) for at in fires["night"]]
    assert {f"{at:%H:%M %z}" for at in nights} == {"18:35 +0900"}
    assert [f"{at:%a}" for at in nights[:5]] == ["Thu", "Fri", "Mon", "Tue", "Wed"]
    retrains = [datetime.fromisoformat(at) for at in fires["retrain"]]
    assert {f"{at:%a %H:%M %z}" for at in retrains} == {"Sun 03:00 +0900"}
