"""The ledger: what ran, how it ended, and that a killed run does not look alive."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest

from kstock_batch.errors import ChallengerRefused, DataNotReady
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import fail_abandoned_runs, opened_run, recorded_run
from kstock_batch.store.warehouse import Warehouse

NOON = datetime(2024, 6, 28, 3)


@pytest.fixture
def settings(tmp_path):
    return Settings(root=tmp_path)


def runs(settings: Settings) -> list[tuple]:
    with Warehouse.read(settings) as warehouse:
        return warehouse.con.execute(
            "SELECT command, status, summary, error, finished_at IS NOT NULL FROM run ORDER BY run_id"
        ).fetchall()


def test_a_run_that_ends_is_done_with_its_summary_and_stages(settings):
    with opened_run(settings, "features", at=NOON) as run:
        with run.stage("read") as stage:
            stage.n_rows = 7
        run.summary = "seven rows"
    assert runs(settings) == [("features", "done", "seven rows", None, True)]
    with Warehouse.read(settings) as warehouse:
        stages = warehouse.con.execute("SELECT run_id, stage, n_rows, seconds >= 0 FROM run_stage").fetchall()
    assert stages == [(run.run_id, "read", 7, True)]


def test_while_it_runs_it_is_running_under_this_process(settings):
    with opened_run(settings, "score", at=NOON) as run:
        found = run.warehouse.con.execute("SELECT status, pid > 0, finished_at FROM run").fetchall()
    assert found == [("running", True, None)]


def test_a_run_that_fails_is_failed_with_the_sentence_and_the_error_goes_on(settings):
    with pytest.raises(DataNotReady), opened_run(settings, "score", at=NOON):
        raise DataNotReady("half a session", fix="ingest the rest")
    assert runs(settings) == [("score", "failed", None, "half a session\n  fix: ingest the rest", True)]


def test_a_retrain_whose_model_the_gate_refuses_is_refused_and_not_failed(settings):
    with pytest.raises(ChallengerRefused), opened_run(settings, "retrain", at=NOON):
        raise ChallengerRefused("model-2 was not promoted", fix="the champion serves on")
    said = "model-2 was not promoted\n  fix: the champion serves on"
    assert runs(settings) == [("retrain", "refused", None, said, True)]


def test_a_stage_that_fails_is_not_recorded_as_done(settings):
    with pytest.raises(DataNotReady), opened_run(settings, "score", at=NOON) as run, run.stage("audit"):
        raise DataNotReady("half a session", fix="ingest the rest")
    with Warehouse.read(settings) as warehouse:
        assert warehouse.con.execute("SELECT * FROM run_stage").fetchall() == []


def test_a_killed_run_is_marked_failed_by_the_next_writer(settings):
    with Warehouse.open(settings) as warehouse:
        killed = recorded_run(warehouse, "ingest files", at=NOON)
        killed.__enter__()  # and never left
    with opened_run(settings, "features", at=NOON):
        pass
    told = {command: (status, error) for command, status, _, error, _ in runs(settings)}
    assert told == {"ingest files": ("failed", "killed before it ended"), "features": ("done", None)}


def test_runs_that_ended_are_not_called_abandoned(settings):
    with opened_run(settings, "features", at=NOON):
        pass
    with Warehouse.open(settings) as warehouse:
        assert fail_abandoned_runs(warehouse) == 0


def test_two_runs_of_the_same_second_have_names_of_their_own(settings):
    for _ in range(2):
        with opened_run(settings, "features", at=NOON) as run:
            assert run.run_id.startswith("20240628T030000Z-")
    assert len(runs(settings)) == 2


def test_each_stage_is_one_line_of_log_that_can_be_searched(settings, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("kstock_batch"), "propagate", True)
    caplog.set_level(logging.INFO, "kstock_batch")
    with opened_run(settings, "features", at=NOON) as run, run.stage("read") as stage:
        stage.n_rows = 7
    record = next(record for record in caplog.records if record.message == "stage done")
    assert (record.run_id, record.stage, record.rows) == (run.run_id, "read", 7)
