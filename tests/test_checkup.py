"""The check-up: each thing that would keep a night from going well is told, whatever else is wrong."""

import os
import shutil
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path

import duckdb
import pytest

from factories import asked_json, done
from kstock_batch.operating import checkup
from kstock_batch.operating.checkup import examine
from kstock_batch.serving.alerts import Alert
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

NOW = datetime(2026, 6, 15, 9, 30)


def looked(
    root: Path, part: str, *, newest_run: datetime | None = None, alerts=(), **settings
) -> list[tuple[str, str]]:
    """Return what is said of a part: its states and its sentences with their fixes."""
    found = examine(Settings(root=root, **settings), alerts, now=NOW, newest_run=newest_run)
    return [(one.state, f"{one.told} | {one.fix}") for one in found if one.part == part]


@pytest.fixture
def store(tmp_path):
    with Warehouse.open(Settings(root=tmp_path)):
        pass
    return Settings(root=tmp_path).store


def test_where_all_is_well_everything_is_said_to_be(store, tmp_path):
    found = examine(Settings(root=tmp_path), [], now=NOW, newest_run=NOW)
    assert {one.part: one.state for one in found if one.state != "note"} == dict.fromkeys(
        ("python", "packages", "machine", "disk", "permissions", "clock", "store"), "ok"
    )
    assert {one.part for one in found if one.state == "note"} <= {"packages", "machine", "disk"}  # of this machine
    assert looked(tmp_path, "clock") == [("ok", "it is 2026-06-15 18:30 in Seoul | ")]


@pytest.mark.parametrize(
    ("name", "version", "state", "told"),
    [
        ("polars", "1.30.0", "problem", "polars is 1.30.0, 2.0 is needed | install kstock-batch again"),
        ("torch", None, "note", "torch is absent: models are trained and scored without the LSTM | pip install torch"),
        ("lightgbm", None, "note", "lightgbm is absent: models are trained and scored without LightGBM"),
        ("click", None, "problem", "click is absent | install kstock-batch again"),
        ("optuna", None, "note", "the extra tune is not installed (optuna is absent): `kstock-batch tune` needs it"),
    ],
)
def test_a_package_that_is_absent_or_too_old_is_told_with_what_it_is_needed_for(
    name, version, state, told, tmp_path, monkeypatch
):
    real = metadata.version

    def pretended(asked):
        if asked != name:
            return real(asked)
        if version is None:
            raise metadata.PackageNotFoundError(asked)
        return version

    monkeypatch.setattr(checkup.metadata, "version", pretended)
    assert any(found == state and told in sentence for found, sentence in looked(tmp_path, "packages"))


def test_versions_are_compared_as_numbers():
    assert checkup._numbers("2.10.1+cpu") > checkup._numbers("2.8")
    assert checkup._numbers("2026.10.19.post1") > checkup._numbers("2026.9")


@pytest.mark.parametrize(("free", "state"), [(0.5e9, "problem"), (2e9, "note"), (50e9, "ok")])
def test_a_disk_is_told_by_what_a_night_needs(free, state, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free))
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: usage)
    ((found, told),) = looked(tmp_path, "disk")
    assert found == state and f"{free / 1e9:.1f} GB free" in told


def test_more_threads_than_processors_and_little_memory_are_told(tmp_path, monkeypatch):
    assert looked(tmp_path, "machine", threads=1000)[0][0] == "note"
    monkeypatch.setattr(checkup.os, "sysconf", lambda name: 2**20 if name == "SC_PHYS_PAGES" else 4096)
    assert "a retrain on the whole market needs 6 GB" in looked(tmp_path, "machine", threads=1)[0][1]


def test_secrets_that_others_can_read_are_a_problem(tmp_path):
    secrets = tmp_path / "kstock.env"
    secrets.write_text("KSTOCK_KRX_KEY=x")
    secrets.chmod(0o640)
    assert looked(tmp_path, "permissions") == [
        ("problem", f"{secrets} holds secrets and others may read it (mode 640) | chmod 600 {secrets}")
    ]
    secrets.chmod(0o600)
    assert looked(tmp_path, "permissions")[0][0] == "ok"


def test_a_root_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup.os, "access", lambda path, mode: False)
    assert [state for state, _ in looked(tmp_path, "permissions")] == ["problem", "problem"]


def test_a_store_of_another_user_is_told(store, tmp_path, monkeypatch):
    monkeypatch.setattr(checkup.os, "geteuid", lambda: os.getuid() + 7)
    assert "run the jobs as one user" in looked(tmp_path, "permissions")[0][1]


def test_a_clock_that_was_set_back_is_told_by_what_the_ledger_knows(tmp_path):
    ((state, told),) = looked(tmp_path, "clock", newest_run=NOW + timedelta(hours=2))
    assert state == "problem" and "a run began at 2026-06-15 11:30 UTC: the clock was set back" in told
    assert looked(tmp_path, "clock", newest_run=NOW + timedelta(minutes=1))[0][0] == "ok"


def test_a_store_that_is_absent_old_new_damaged_or_written_is_told_as_that(tmp_path, store):
    assert looked(tmp_path / "elsewhere", "store")[0][0] == "note"
    with Warehouse.open(Settings(root=tmp_path)):
        assert f"it is being written by PID {os.getpid()}" in looked(tmp_path, "store")[0][1]
    for version, state, told in ((3, "note", "the next night upgrades it"), (99, "problem", "upgrade kstock-batch")):
        with duckdb.connect(str(store)) as con:
            con.execute("DELETE FROM schema_version")
            con.execute(f"INSERT INTO schema_version VALUES ({version}, 'x')")
        ((found, sentence),) = looked(tmp_path, "store")
        assert found == state and f"its schema is {version}" in sentence and told in sentence
    store.write_bytes(b"x" * 20_000)
    assert looked(tmp_path, "store")[0][0] == "problem"


def test_what_a_kill_left_is_told_once_it_is_a_day_old(store, tmp_path):
    left = store.parent / ".predictions.duckdb.ab12cd34"
    left.write_bytes(b"x" * 1000)
    day_before = NOW.timestamp() - 10 * 24 * 3600
    assert looked(tmp_path, "left over") == []
    os.utime(left, (day_before, day_before))
    ((state, told),) = looked(tmp_path, "left over")
    assert state == "note" and str(left) in told and "delete them" in told


def test_alerts_are_told_too_but_the_stores_once(store, tmp_path):
    alerts = [Alert("champion", "fail", "there is none", "retrain"), Alert("store", "fail", "it cannot be read", "x")]
    assert looked(tmp_path, "champion", alerts=alerts) == [("problem", "there is none | retrain")]
    assert [state for state, _ in looked(tmp_path, "store", alerts=alerts)] == ["ok"]


@pytest.mark.parametrize("what", ["nothing", "garbage"])
def test_the_command_tells_everything_of_a_root_in_any_state_and_changes_nothing(what, tmp_path):
    if what == "garbage":
        for path in (
            Settings(root=tmp_path).store,
            Settings(root=tmp_path).published,
            tmp_path / "models" / "champion.json",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"garbage" * 3000)
    before = sorted(tmp_path.rglob("*.duckdb"))
    told = asked_json(tmp_path, "doctor")
    assert {one["part"] for one in told["examined"]} >= {"python", "disk", "clock", "store", "publication", "timers"}
    assert all(one["fix"] for one in told["examined"] if one["state"] != "ok")
    last = done(tmp_path, "doctor").stdout.splitlines()[-1]
    n = sum(one["state"] == "problem" for one in told["examined"])
    assert n >= 1 and last.startswith(f"{n} problem")
    assert sorted(tmp_path.rglob("*.duckdb")) == before
