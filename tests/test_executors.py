"""Executors of this machine: the same results in this process and beside it; a death costs its own job only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from kstock_batch.cli.options import executor_options
from kstock_batch.errors import ConfigError, JobFailed, NotEnoughHistory
from kstock_batch.executors import KINDS, Job, make_executor
from kstock_batch.executors.choice import chosen_kind
from kstock_batch.executors.ray_cluster import _own_folder
from kstock_batch.executors.threads import limited, threads_a_worker

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def jobs_are_found(monkeypatch):
    """A worker imports the tests' jobs by their path, as it imports our own from where this package lies."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))


def job(key, function, reads=(), **arguments):
    return Job(key, f"executor_jobs:{function}", arguments, reads)


def results(kind, jobs, workers=2, **given):
    with make_executor(kind, workers=1 if kind == "serial" else workers, **given) as executor:
        for one in jobs:
            executor.submit(one)
        return {done.key: done for done in executor.finished()}


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found


def is_alive(pid):
    """Return whether a process runs; a zombie whose parent has not asked for it yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.parent.parent.joinpath("self").exists() or stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def fits(folder):
    """Return small real jobs: each member trained on 24 stocks of 30 columns in a Parquet file."""
    rng = np.random.default_rng(7)
    n_tickers, n_sessions = 24, 60
    values = rng.normal(size=(n_tickers * n_sessions, 30)).astype(np.float32)
    label = (values[:, 0] + rng.normal(size=len(values)) > 0.5).astype(np.float32)
    frame = pl.DataFrame(values, schema=[f"x{number}" for number in range(30)]).with_columns(
        session=pl.Series(np.tile(np.arange(n_sessions), n_tickers), dtype=pl.Int64), label=pl.Series(label)
    )
    path = folder / "rows.parquet"
    frame.write_parquet(path)
    return [
        job(f"{member} {seed}", "fit", (str(path),), member=member, rows=str(path), seed=seed, threads=1,
            scratch=str(folder / f"scratch-{member}"))
        for member, seed in (("lgbm", 1), ("lgbm", 2), ("xgb", 1), ("lstm", 1))
    ]  # fmt: skip


def assert_same_models(folder, kinds):
    """Train in this process, as the command line would, and by each of ``kinds``: the same to the last bit."""
    jobs = fits(folder)
    with threadpool_limits(1, user_api="blas"):  # as kstock_batch/cli/__init__.py has it from the start
        here = results("serial", jobs)
    assert [done.error for done in here.values()] == [None] * 4
    assert {name for done in here.values() for name in done.files} == {"lgbm.txt", "xgb.ubj", "lstm.safetensors"}
    assert here["lgbm 1"].files != here["lgbm 2"].files
    for kind, given in kinds.items():
        there = results(kind, jobs, **given)
        assert [done.error for done in there.values()] == [None] * 4
        assert {key: done.facts for key, done in there.items()} == {key: done.facts for key, done in here.items()}
        assert {key: done.files for key, done in there.items()} == {key: done.files for key, done in here.items()}


def test_models_trained_in_this_process_and_in_workers_are_the_same_bytes(tmp_path):
    assert_same_models(tmp_path, {"process": {}})


@pytest.mark.parametrize("kind", ["serial", "process"])
def test_what_ends_a_job_comes_back_and_the_others_go_on(kind):
    found = results(
        kind,
        [
            job("refused", "refuse"),
            job("wrong", "divide"),
            job("away", "echo", reads=(str(HERE / "nowhere.parquet"),)),
            job("here", "echo", reads=(str(HERE),), size=70_000),
        ],
    )
    refused = found["refused"].error
    assert type(refused) is NotEnoughHistory
    assert str(refused) == "60 sessions are stored, 120 are needed\n  fix: ingest more"
    with pytest.raises(NotEnoughHistory, match="60 sessions are stored"):
        found["refused"].required()
    wrong = found["wrong"].error
    assert type(wrong) is JobFailed
    assert wrong.what.startswith("job wrong ended with ZeroDivisionError: division by zero\nTraceback")
    assert "in divide" in wrong.what
    away = found["away"].error
    assert type(away) is ConfigError
    assert f", which was to do away, does not see {HERE / 'nowhere.parquet'}\n" in str(away)
    assert found["here"].required().files == {"a.bin": bytes(70_000)}
    assert found["here"].facts["given"] == {"size": 70_000}
    assert {done.attempts for done in found.values()} == {1}


def test_facts_are_what_json_makes_of_them_wherever_a_job_ran():
    given = {"pair": (1, 2), "none": None}
    for kind in ("serial", "process"):
        facts = results(kind, [job("a", "echo", **given)])["a"].facts
        assert facts["given"] == {"pair": [1, 2], "none": None}
        assert facts["kinds"]["pair"] == "list", "a job never sees what JSON cannot say"


def test_a_killed_worker_costs_one_retry_and_a_second_death_that_job_alone(tmp_path):
    found = results(
        "process",
        [
            job("once", "die", first_only=str(tmp_path / "flag")),
            job("always", "die"),
            job("left", "leave", status=3),
            *(job(f"other {number}", "echo") for number in range(4)),
        ],
    )
    assert (found["once"].error, found["once"].attempts) == (None, 2)
    assert found["always"].attempts == 2
    assert str(found["always"].error) == (
        "job always was begun 2 times and its worker ended each time, at last by signal 9 (SIGKILL);"
        " its log ends with: the last words\n"
        "  fix: if memory ran out, use fewer --workers or lower train_sessions; what is finished is kept"
    )
    assert "with exit status 3; its log is empty" in str(found["left"].error)
    assert [(done.error, done.attempts) for key, done in found.items() if key.startswith("other")] == [(None, 1)] * 4


def test_jobs_taken_while_others_finish_are_done_too():
    with make_executor("process", workers=1) as executor:
        executor.submit(job("0", "echo"))
        seen = []
        for done in executor.finished():
            seen.append(done.key)
            if len(seen) < 3:
                executor.submit(job(str(len(seen)), "echo"))
        assert seen == ["0", "1", "2"]
        assert list(executor.finished()) == []


def test_a_worker_goes_on_while_the_caller_looks_at_what_it_found(tmp_path):
    flag = tmp_path / "flag"
    with make_executor("process", workers=1) as executor:
        executor.submit(job("0", "echo"))
        executor.submit(job("1", "linger", flag=str(flag)))
        assert next(executor.finished()).key == "0"
        assert until(flag.exists)


def test_a_worker_has_its_share_of_threads_and_this_process_keeps_its_own():
    before = dict(os.environ)
    facts = results("process", [job("a", "threads")], threads=3)["a"].facts
    assert facts == {"OMP_NUM_THREADS": "3", "POLARS_MAX_THREADS": "3"}
    assert dict(os.environ) == before
    assert limited({"OMP_NUM_THREADS": "8", "OMP_WAIT_POLICY": "ACTIVE"}, 2)["OMP_NUM_THREADS"] == "2"
    assert limited({"OMP_WAIT_POLICY": "ACTIVE"}, 2)["OMP_WAIT_POLICY"] == "ACTIVE"
    assert [threads_a_worker(workers, cores=4) for workers in (1, 2, 3, 9)] == [4, 2, 1, 1]


def test_closing_kills_workers_and_what_their_jobs_started(tmp_path):
    flag = tmp_path / "flag"
    executor = make_executor("process", workers=1)
    executor.submit(job("a", "linger", flag=str(flag)))
    pids = [int(pid) for pid in until(lambda: flag.exists() and flag.read_text()).split()]
    assert all(map(is_alive, pids))
    executor.close()
    executor.close()
    until(lambda: not any(map(is_alive, pids)))


PARENT = """
from kstock_batch.executors import Job, make_executor

with make_executor("process", workers=2) as executor:
    for number in range(2):
        executor.submit(Job(str(number), "executor_jobs:linger", {{"flag": {folder!r} + f"/{{number}}"}}))
    print("ready", flush=True)
    list(executor.finished())
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_parent_that_was_stopped(tmp_path, how):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    code = PARENT.format(folder=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], env=environ, stderr=subprocess.DEVNULL) as parent:
        flags = [tmp_path / str(number) for number in range(2)]
        until(lambda: all(flag.exists() for flag in flags))
        pids = [int(pid) for flag in flags for pid in flag.read_text().split()]
        parent.send_signal(how)
        parent.wait(20)
    assert len(pids) == 4
    until(lambda: not any(map(is_alive, pids)))


def test_a_job_is_written_as_one_line_whatever_its_arguments_hold():
    given = job("a\nb", "echo", text="한글\n")
    assert "\n" not in given.written()
    assert Job.read(given.written()).arguments == {"text": "한글\n"}
    assert json.loads(given.written())["key"] == "a\nb"


def test_commands_offer_the_executors_there_are():
    command = click.command()(executor_options(lambda **_: None))
    offered = {option.name: option for option in command.params}
    assert list(offered) == ["executor", "workers", "address"]
    assert tuple(offered["executor"].type.choices) == KINDS


def test_an_executor_that_does_not_exist_or_cannot_be_at_an_address_is_refused():
    with pytest.raises(ConfigError) as refused:
        make_executor("dask", workers=1)
    assert str(refused.value) == "there is no executor 'dask'\n  fix: use one of ['serial', 'process', 'ray']"
    with pytest.raises(ConfigError) as refused:
        make_executor("process", workers=1, address="10.0.0.1:6379")
    assert str(refused.value) == (
        "--address 10.0.0.1:6379 is of a Ray cluster\n  fix: add --executor ray, or leave it out"
    )


def test_without_a_name_the_workers_and_the_address_say_which_executor_it_is():
    assert chosen_kind(None, 1, None) == "serial"
    assert chosen_kind(None, 2, None) == "process"
    assert chosen_kind(None, 1, "10.0.0.1:6379") == "ray"
    with pytest.raises(ConfigError) as refused:
        chosen_kind("serial", 3, None)
    assert str(refused.value) == (
        "--executor serial has one worker, not 3\n  fix: leave --workers out, or use --executor process"
    )


def test_the_folder_of_a_cluster_whose_process_was_killed_is_cleared_away(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in (f"kstock-{ended.pid}-a", "kstock-1-a", "kstock-notes-a"):
        (tmp_path / name / "session").mkdir(parents=True)
    own = Path(_own_folder()).name
    assert own.startswith(f"kstock-{os.getpid()}-")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["kstock-1-a", "kstock-notes-a", own])


def test_an_absent_ray_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr("kstock_batch.executors.ray_cluster.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as refused:
        make_executor("ray", workers=1)
    assert str(refused.value) == (
        "--executor ray needs ray, which is not installed\n  fix: pip install 'kstock-batch[ray]'"
    )
