"""The store: one writer, all of a transaction or none of it, nothing opened that is not ours."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from datetime import date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from factories import LAST, RAW_TABLES, content, done, flip_byte, run, sentence, store_rows
from kstock_batch.errors import DataNotReady, StoreIncompatible, WarehouseLocked
from kstock_batch.serving.replay.scoring_run import ScoringRun
from kstock_batch.settings import Settings
from kstock_batch.store import lock as lock_module
from kstock_batch.store import migrations
from kstock_batch.store import warehouse as store_module
from kstock_batch.store.lock import lock_holder
from kstock_batch.store.queries import sql_folder
from kstock_batch.store.warehouse import Warehouse, insert_rows, replace_rows

MONDAY, TUESDAY = date(2024, 6, 24), date(2024, 6, 25)


def replace_partition(warehouse, table, as_of, rows):
    with warehouse.transaction() as con:
        return replace_rows(con, table, rows, start=as_of, end=as_of)


def labels(*days: date) -> pl.DataFrame:
    rows = [(ticker, day, 0.05, 1, False, LAST) for day in days for ticker in ("005930", "000660")]
    names = ["ticker", "as_of", "forward_return", "label_5d", "is_delisted", "known_on"]
    return pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"label_5d": pl.UInt8})


@pytest.fixture
def settings(tmp_path):
    return Settings(root=tmp_path)


@pytest.fixture
def warehouse(settings):
    with Warehouse.open(settings) as opened:
        yield opened


@pytest.fixture
def impatient(monkeypatch):
    """A second writer waits seconds for a reader to go; a test of what it says then need not."""
    monkeypatch.setattr(lock_module, "_PAUSES", (0.01,))


def n_labels(warehouse: Warehouse) -> int:
    return int(warehouse.con.execute("SELECT count(*) FROM label_daily").fetchall()[0][0])


# Writing


def test_replacing_a_partition_twice_leaves_it_once_and_its_neighbours_alone(warehouse):
    with warehouse.transaction() as con:
        replace_rows(con, "label_daily", labels(MONDAY, TUESDAY), start=MONDAY, end=TUESDAY)
    for _ in range(2):
        assert replace_partition(warehouse, "label_daily", TUESDAY, labels(TUESDAY)) == 2
    found = warehouse.con.execute("SELECT as_of, count(*) FROM label_daily GROUP BY ALL ORDER BY ALL").fetchall()
    assert found == [(MONDAY, 2), (TUESDAY, 2)]


def test_rows_of_another_day_are_refused_before_anything_is_deleted(warehouse):
    replace_partition(warehouse, "label_daily", MONDAY, labels(MONDAY))
    with pytest.raises(ValueError, match="2 of 4 rows are outside 2024-06-24"):
        replace_partition(warehouse, "label_daily", MONDAY, labels(MONDAY, TUESDAY))
    assert n_labels(warehouse) == 2


def test_a_transaction_that_fails_half_way_leaves_the_table_as_it_was(warehouse):
    replace_partition(warehouse, "label_daily", MONDAY, labels(MONDAY))
    half_broken = labels(MONDAY).with_columns(ticker=pl.Series(["005930", None]))
    with pytest.raises(duckdb.ConstraintException):
        replace_partition(warehouse, "label_daily", MONDAY, half_broken)
    assert n_labels(warehouse) == 2
    replace_partition(warehouse, "label_daily", TUESDAY, labels(TUESDAY))  # and the store goes on
    assert n_labels(warehouse) == 4


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_a_transaction_rolls_it_back(stop, warehouse):
    with pytest.raises(stop), warehouse.transaction() as con:
        insert_rows(con, "label_daily", labels(MONDAY), order="as_of, ticker")
        raise stop
    assert n_labels(warehouse) == 0


def test_a_store_opened_again_holds_what_was_written(settings):
    with Warehouse.open(settings) as warehouse:
        replace_partition(warehouse, "label_daily", MONDAY, labels(MONDAY))
    with Warehouse.open(settings) as warehouse:
        assert n_labels(warehouse) == 2


# One writer


def test_a_second_writer_in_this_process_is_told_who_holds_the_store(settings, warehouse, impatient):
    with pytest.raises(WarehouseLocked, match=rf"is being written by PID {os.getpid()} since 20\d\d-"):
        Warehouse.open(settings)


def test_a_reader_is_told_who_writes(settings, warehouse):
    with pytest.raises(WarehouseLocked, match=rf"is being written by PID {os.getpid()} since"):
        Warehouse.read(settings)


def test_once_closed_the_store_is_anybodys(settings):
    with Warehouse.open(settings):
        assert lock_holder(settings.store.with_suffix(".lock")).startswith(f"PID {os.getpid()} since")
    assert lock_holder(settings.store.with_suffix(".lock")) is None
    with Warehouse.read(settings), Warehouse.read(settings):
        pass


@pytest.mark.parametrize("opened", [Warehouse.open, Warehouse.read])
def test_a_link_in_the_place_of_the_lock_is_not_followed(opened, settings, tmp_path):
    Warehouse.open(settings).__exit__(None, None, None)
    victim, lock = tmp_path / "of somebody else", settings.store.with_suffix(".lock")
    victim.write_bytes(b"precious")
    lock.unlink()
    lock.symlink_to(victim)
    with pytest.raises(StoreIncompatible, match=r"store\.duckdb cannot be written: .*store\.lock"):
        opened(settings)
    assert victim.read_bytes() == b"precious"


def test_a_look_at_the_lock_does_not_turn_a_writer_away(settings):
    Warehouse.open(settings).__exit__(None, None, None)
    looking = os.open(settings.store.with_suffix(".lock"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.15, os.close, [looking]).start()
    with Warehouse.open(settings):
        pass


def test_a_store_that_another_program_reads_is_said_to_be_open_there(root):
    store = Settings(root=root).store
    script = f"import duckdb; con = duckdb.connect({str(store)!r}, read_only=True); print(); input()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    try:
        result = run(root, "features")
    finally:
        other.communicate("\n", timeout=30)
    assert (result.exit_code, f"PID {other.pid}" in sentence(result)) == (6, True), result.stderr
    done(root, "features")


def test_a_failed_open_lets_the_next_one_in(settings, monkeypatch):
    def fail(*_):
        raise RuntimeError("stop")

    monkeypatch.setattr(store_module, "migrate", fail)
    with pytest.raises(RuntimeError):
        Warehouse.open(settings)
    monkeypatch.undo()
    with Warehouse.open(settings):
        pass


def test_a_reader_keeps_a_writer_waiting_only_until_it_has_read(settings):
    Warehouse.open(settings).__exit__(None, None, None)
    reading = Warehouse.read(settings)
    threading.Timer(0.15, reading.__exit__, [None, None, None]).start()
    with Warehouse.open(settings):
        pass


# What is opened


def test_a_new_store_has_every_table_and_knows_its_version(warehouse):
    tables = {name for (name,) in warehouse.con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    assert {*RAW_TABLES, "raw_calendar", "feature_daily", "label_daily", "prediction", "run", "quarantine"} <= tables
    steps = sorted(path.stem for path in (sql_folder() / "schema").glob("*.sql"))
    found = warehouse.con.execute("SELECT version, name FROM schema_version ORDER BY version").fetchall()
    assert found == list(enumerate(steps, start=1))


def test_times_are_utc_whatever_the_machine_thinks(warehouse):
    assert warehouse.con.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


def migrated_to(settings: Settings, version: int) -> None:
    with Warehouse.open(settings) as warehouse:
        warehouse.con.execute(f"INSERT INTO schema_version VALUES ({version}, 'of tomorrow')")


@pytest.mark.parametrize("command", [("features",), ("audit",), ("score",), ("ingest", "files", "source")])
def test_a_store_of_a_newer_program_is_refused_with_both_versions_and_left_alone(command, root, monkeypatch):
    migrated_to(Settings(root=root), 99)
    before = content(root, (*RAW_TABLES, "schema_version", "run"))
    monkeypatch.chdir(root)
    result = run(root, *command)
    told = sentence(result)
    assert result.exit_code == 9, told
    assert f"schema version 99, this program knows up to {len(migrations._migrations())}" in told
    assert content(root, (*RAW_TABLES, "schema_version", "run")) == before


def test_a_step_is_migrated_once_and_a_failing_one_leaves_the_version_before_it(settings, monkeypatch, tmp_path):
    steps = tmp_path / "steps"
    shutil.copytree(sql_folder() / "schema", steps)
    Warehouse.open(settings).__exit__(None, None, None)
    n = len(list(steps.iterdir()))
    good, bad = steps / f"{n + 1:04}_more.sql", steps / f"{n + 2:04}_broken.sql"
    good.write_text("CREATE TABLE more (n INTEGER);", encoding="utf-8")
    bad.write_text("CREATE TABLE half (n INTEGER); SELECT no_such_function();", encoding="utf-8")
    monkeypatch.setattr(migrations, "_migrations", lambda: sorted(steps.iterdir()))
    with pytest.raises(duckdb.Error, match="no_such_function"):
        Warehouse.open(settings)
    bad.unlink()
    with Warehouse.open(settings) as warehouse:
        tables = {name for (name,) in warehouse.con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
        assert ("more" in tables, "half" in tables) == (True, False)
        versions = warehouse.con.execute("SELECT version FROM schema_version ORDER BY version").fetchall()
        assert versions == [(k,) for k in range(1, n + 2)]


def test_predictions_of_before_explanations_say_that_they_explain_nothing(settings, monkeypatch):
    steps = migrations._migrations()
    monkeypatch.setattr(migrations, "_migrations", lambda: steps[:2])
    monkeypatch.setattr(store_module, "install_catalogue", lambda con: None)  # today's views need today's columns
    with Warehouse.open(settings) as warehouse:
        warehouse.con.execute(
            "INSERT INTO prediction VALUES ('2024-06-24', '005930', 0.3, 0.6, 'NEUTRAL', 5, 0.24, 1.25, 1, 100.0,"
            " 0.3, 0.3, NULL, 'model-1', 'abc', 'run-1', '2024-06-24 10:00:00')"
        )
    monkeypatch.undo()
    with Warehouse.open(settings) as warehouse:
        found = warehouse.con.execute("SELECT ticker, scored_at, shap_top3 FROM prediction").fetchall()
        judged = warehouse.con.execute("SELECT ticker FROM judged_prediction").fetchall()
    assert found == [("005930", datetime(2024, 6, 24, 10), "[]")]
    assert judged == [("005930",)]  # a view made before the column answers after it


def test_runs_of_before_provenance_say_that_it_is_not_known(settings, monkeypatch):
    steps = migrations._migrations()
    monkeypatch.setattr(migrations, "_migrations", lambda: steps[:5])
    monkeypatch.setattr(store_module, "install_catalogue", lambda con: None)
    with Warehouse.open(settings) as warehouse:
        warehouse.con.execute("INSERT INTO run VALUES ('r', 'score', NULL, 'done', 1, '2024-06-24', NULL, NULL, NULL)")
        warehouse.con.execute("INSERT INTO scored_session VALUES ('2024-06-24', 'model-1', 'abc', 'r')")
    monkeypatch.undo()
    with Warehouse.open(settings) as warehouse:
        assert ScoringRun.find(warehouse.con, "r", date(2024, 6, 24)) == ScoringRun(datetime(2024, 6, 24), None, None)
        assert ScoringRun.find(warehouse.con, "another", date(2024, 6, 24)) is None


def test_a_reader_does_not_migrate_but_says_what_does(settings, monkeypatch):
    Warehouse.open(settings).__exit__(None, None, None)
    n = len(migrations._migrations())
    monkeypatch.setattr(migrations, "_migrations", lambda: [Path(str(step)) for step in range(n + 1)])
    with pytest.raises(StoreIncompatible, match=f"has schema version {n}, this program reads {n + 1}"):
        Warehouse.read(settings)


@pytest.mark.parametrize("command", [("features",), ("audit",)])
@pytest.mark.parametrize("harm", ["text", "cut short", "foreign", "folder"])
def test_a_file_that_is_no_store_of_ours_is_named_and_left_alone(harm, command, tmp_path):
    store = Settings(root=tmp_path).store
    store.parent.mkdir(parents=True)
    if harm == "text":
        store.write_bytes(b"not a database" * 1000)
    elif harm == "folder":
        store.mkdir()
    else:
        con = duckdb.connect(str(store))
        con.execute("CREATE TABLE theirs AS SELECT range AS n FROM range(200000)")
        con.close()
    if harm == "cut short":
        os.truncate(store, 5000)
    before = None if harm == "folder" else store.read_bytes()
    result = run(tmp_path, *command)
    told = sentence(result)
    assert (result.exit_code, str(store) in told) == (9, True), told
    assert (None if harm == "folder" else store.read_bytes()) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "warehouse").write_text("in the way", encoding="utf-8")
    result = run(tmp_path, "features")
    assert (result.exit_code, "store.duckdb cannot be written" in sentence(result)) == (9, True)


def test_reading_without_a_store_says_how_to_make_one(settings):
    with pytest.raises(DataNotReady, match=r"there is no store at(.|\n)*kstock-batch demo"):
        Warehouse.read(settings)
    assert not settings.warehouse.exists()


def test_a_store_in_a_place_with_an_odd_name_works(tmp_path):
    root = tmp_path / "it's 주식 100%"
    with Warehouse.open(Settings(root=root)) as warehouse:
        replace_partition(warehouse, "label_daily", MONDAY, labels(MONDAY))
    assert store_rows(root, "SELECT count(*) FROM label_daily") == [(2,)]


def test_a_store_with_a_flipped_byte_is_damaged_never_a_traceback(root):
    store = Settings(root=root).store
    whole, n_refused = store.read_bytes(), 0
    for at in range(len(whole) // 10, len(whole), len(whole) // 9):
        store.write_bytes(whole)
        flip_byte(store, at)
        result = run(root, "features", "--rebuild")
        assert result.exit_code in (0, 9), result.stderr
        if result.exit_code:
            assert f"{store} cannot be read: " in sentence(result)
            n_refused += 1
    assert n_refused
