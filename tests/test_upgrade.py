"""Upgrades of the store: every older schema comes forward with all its rows, a copy from before, and a way back."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from factories import asked_json, done, run, sentence
from kstock_batch.errors import StoreIncompatible
from kstock_batch.settings import Settings
from kstock_batch.store import backups, migrations
from kstock_batch.store.backups import kept_backups
from kstock_batch.store.migrations import newest_version
from kstock_batch.store.queries import sql_folder
from kstock_batch.store.warehouse import Warehouse

STEPS = sorted((sql_folder() / "schema").glob("*.sql"))
A_VALUE = {
    "VARCHAR": "'x'",
    "DATE": "DATE '2024-01-02'",
    "TIMESTAMP": "TIMESTAMP '2024-01-02 09:30'",
    "BOOLEAN": "true",
}


def store_of(root: Path, version: int) -> Path:
    """Write a store of an older schema with a row in each of its tables, the log not yet in the file."""
    path = Settings(root=root).store
    path.parent.mkdir(parents=True)
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE schema_version (version INTEGER, name VARCHAR)")
        for number, step in enumerate(STEPS[:version], start=1):
            con.execute(step.read_text(encoding="utf-8"))
            con.execute("INSERT INTO schema_version VALUES ($n, $name)", {"n": number, "name": step.stem})
        for (table,) in con.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall():
            if table == "schema_version":
                continue
            types = con.execute(f"SELECT data_type FROM duckdb_columns() WHERE table_name = '{table}'").fetchall()
            values = ", ".join(A_VALUE.get(kind, f"CAST(1 AS {kind})") for (kind,) in types)
            con.execute(f"INSERT INTO {table} VALUES ({values})")
    return path


def n_rows(path: Path) -> dict[str, int]:
    with duckdb.connect(str(path), read_only=True) as con:
        tables = con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        return {table: con.table(table).count("*").fetchall()[0][0] for (table,) in tables}


def version_of(path: Path) -> int:
    with duckdb.connect(str(path), read_only=True) as con:
        return con.execute("SELECT max(version) FROM schema_version").fetchall()[0][0]


# Forward


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_a_store_of_every_older_schema_comes_forward_with_all_its_rows(version, tmp_path):
    path = store_of(tmp_path, version)
    before = n_rows(path)
    assert min(before.values()) >= 1 and len(before) > 5
    told = done(tmp_path, "upgrade").stdout
    assert f"went from schema version {version} to {len(STEPS)}; from before: " in told
    after = n_rows(path)
    gone = {"feature_build"} if version == 1 else set()  # what it held is in no table since 0002
    assert {table for table, n in before.items() if after.get(table, 0) < n} == gone
    assert version_of(path) == newest_version() == len(STEPS)
    (kept,) = kept_backups(path)
    assert n_rows(kept) == before and version_of(kept) == version
    assert "the newest: nothing to do" in done(tmp_path, "upgrade").stdout


def test_a_dry_run_tells_the_steps_and_changes_no_byte(tmp_path):
    path = store_of(tmp_path, 5)
    before = path.read_bytes()
    told = asked_json(tmp_path, "upgrade", "--dry-run")
    assert (told["from_version"], told["to_version"], told["is_done"]) == (5, len(STEPS), False)
    assert told["steps"] == [step.stem for step in STEPS[5:]] and told["store_bytes"] == len(before)
    assert "0006_provenance" in done(tmp_path, "upgrade", "--dry-run").stdout
    assert path.read_bytes() == before and kept_backups(path) == []


def test_any_writing_command_upgrades_with_a_backup_and_says_where_it_is(tmp_path):
    path = store_of(tmp_path, 5)
    result = run(tmp_path, "features")  # which may then fail for want of data
    (kept,) = kept_backups(path)
    assert f"warning: upgrading the store; a copy from before is {kept}" in result.stderr
    assert version_of(path) == len(STEPS)


def test_a_new_store_and_one_of_today_are_not_copied(tmp_path):
    for _ in range(2):
        with Warehouse.open(Settings(root=tmp_path)):
            pass
    assert not (tmp_path / "warehouse" / "backups").exists()


def test_reading_an_older_store_changes_nothing_and_says_what_to_run(tmp_path):
    path = store_of(tmp_path, 5)
    before = path.read_bytes()
    told = sentence(run(tmp_path, "sql", "--store", "SELECT 1"))
    assert f"has schema version 5, this program reads {len(STEPS)}" in told and "run `kstock-batch upgrade`" in told
    assert path.read_bytes() == before


def test_without_room_for_a_copy_nothing_is_upgraded_unless_none_is_wanted(tmp_path, monkeypatch):
    path = store_of(tmp_path, 5)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(backups.shutil, "disk_usage", lambda _: usage)
    result = run(tmp_path, "upgrade")
    assert result.exit_code == 12
    assert f"needs {path.stat().st_size:,} bytes, 1,000 are free" in sentence(result)
    assert "upgrade --no-backup" in sentence(result) and version_of(path) == 5
    assert "nothing is kept from before" in done(tmp_path, "upgrade", "--no-backup").stdout
    assert version_of(path) == len(STEPS) and kept_backups(path) == []


def test_a_copy_that_does_not_read_back_stops_the_upgrade_and_says_what_may_be_damaged(tmp_path, monkeypatch):
    path = store_of(tmp_path, 5)

    def copied_badly(source, target):
        target.write_bytes(source.read_bytes()[:4096] + bytes(4096))

    monkeypatch.setattr(backups.shutil, "copyfile", copied_badly)
    result = run(tmp_path, "upgrade")
    assert (result.exit_code, version_of(path), kept_backups(path)) == (StoreIncompatible.exit_code, 5, [])
    assert f"the copy of {path} that was just made cannot be read" in sentence(result)
    assert "the store or its disk is damaged: `kstock-batch upgrade --restore FILE` brings" in sentence(result)


@pytest.mark.parametrize("command", ["upgrade", "restore"])
def test_a_folder_that_cannot_be_written_is_one_sentence(command, tmp_path, monkeypatch):
    path = store_of(tmp_path, 5)
    kept = backups.back_up(path, 5)

    def refused(source, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(backups.shutil, "copyfile", refused)
    result = run(tmp_path, "upgrade", *(["--restore", kept] if command == "restore" else []))
    assert (result.exit_code, version_of(path)) == (StoreIncompatible.exit_code, 5)
    assert "cannot be written: [Errno 13] Permission denied" in sentence(result)
    assert "make its folder writable for this user" in sentence(result)


def test_the_newest_two_copies_are_kept(tmp_path):
    path = store_of(tmp_path, 7)
    made = [backups.back_up(path, 7) for _ in range(4)]
    assert kept_backups(path) == [made[3], made[2]]
    assert sorted(path.parent.joinpath("backups").iterdir()) == made[2:]


def test_a_step_that_loses_rows_is_undone_and_the_others_stand(tmp_path, monkeypatch):
    path = store_of(tmp_path, 6)
    thief = tmp_path / "0008_thief.sql"
    thief.write_text("DELETE FROM raw_listing", encoding="utf-8")
    monkeypatch.setattr(migrations, "_migrations", lambda: [*STEPS[:7], thief])
    told = sentence(run(tmp_path, "upgrade", "--no-backup"))
    assert f"the step 0008_thief would bring {path} raw_listing from 1 to 0 rows: it was undone" in told
    assert version_of(path) == 7 and n_rows(path)["raw_listing"] == 1


def test_an_upgrade_that_was_killed_after_any_step_goes_on(tmp_path):
    """Killed as by the system: no unwinding, the log of the last step still beside the file."""
    killed_after = """
import os, sys
from pathlib import Path
from kstock_batch.settings import Settings
from kstock_batch.store import migrations
from kstock_batch.store.warehouse import Warehouse
steps, stop, asked = migrations._migrations(), int(sys.argv[2]), []
class Steps(list):
    def __getitem__(self, at):
        for number, step in enumerate(list.__getitem__(self, at), start=at.start + 1):
            if number == stop + 1:
                os.kill(os.getpid(), 9)
            asked.append(step); yield step
migrations._migrations = lambda: Steps(steps)
Warehouse.open(Settings(root=Path(sys.argv[1])))
"""
    for stop in (5, 6, 7):
        root = tmp_path / str(stop)
        path = store_of(root, 4)
        before = n_rows(path)
        ended = subprocess.run([sys.executable, "-c", killed_after, str(root), str(stop)], check=False)
        assert ended.returncode == -9
        with duckdb.connect(str(path)) as con:
            assert con.execute("SELECT max(version) FROM schema_version").fetchall() == [(stop,)]
        done(root, "upgrade")
        assert version_of(path) == len(STEPS)
        after = n_rows(path)
        assert {table: n for table, n in before.items() if after[table] < n} == {}
        assert version_of(kept_backups(path)[-1]) == 4


# Back


def test_a_restore_puts_the_copy_back_and_keeps_what_it_replaced(tmp_path):
    path = store_of(tmp_path, 5)
    before = n_rows(path)
    done(tmp_path, "upgrade")
    upgraded, (kept,) = path.read_bytes(), kept_backups(path)
    told = asked_json(tmp_path, "upgrade", "--restore", kept)
    assert n_rows(path) == before and version_of(path) == 5
    assert Path(told["replaced"]).read_bytes() == upgraded
    assert kept.exists() and kept.stat().st_ino != path.stat().st_ino  # the copy is not what is written to now
    done(tmp_path, "upgrade")
    assert version_of(path) == len(STEPS) and version_of(kept) == 5


@pytest.mark.parametrize("what", ["nothing", "a text", "half of it", "another database", "a newer store"])
def test_what_is_no_backup_is_refused_and_the_store_stays(what, tmp_path):
    path = store_of(tmp_path, 7)
    before, odd = path.read_bytes(), tmp_path / "odd.duckdb"
    if what == "a text":
        odd.write_text("no database")
    elif what == "half of it":
        odd.write_bytes(before[: len(before) // 2])
    elif what != "nothing":
        with duckdb.connect(str(odd)) as con:
            con.execute(
                "CREATE TABLE schema_version (version INTEGER, name VARCHAR)" if "store" in what else "SELECT 1"
            )
            con.execute("INSERT INTO schema_version VALUES (99, 'x')" if "store" in what else "CREATE TABLE t (a INT)")
    result = run(tmp_path, "upgrade", "--restore", odd)
    assert result.exit_code == StoreIncompatible.exit_code and str(odd) in sentence(result)
    assert path.read_bytes() == before and not (path.parent / "backups").exists()


def test_a_restore_replaces_a_store_that_is_damaged_and_the_log_beside_it(tmp_path):
    path = store_of(tmp_path, 7)
    kept = backups.back_up(path, 7)
    path.write_bytes(b"damaged")
    log = path.with_name("store.duckdb.wal")
    log.write_bytes(b"of another")
    replaced = backups.restore(path, kept)
    assert replaced is not None and replaced.read_bytes() == b"damaged"
    assert replaced.with_name(replaced.name + ".wal").read_bytes() == b"of another" and not log.exists()
    assert version_of(path) == 7


def test_a_restore_keeps_what_it_replaced_where_the_file_system_has_no_hard_links(tmp_path, monkeypatch):
    def no_links(source, target):
        raise OSError("not supported")

    path = store_of(tmp_path, 7)
    kept, before = backups.back_up(path, 7), path.read_bytes()
    monkeypatch.setattr(os, "link", no_links)
    replaced = backups.restore(path, kept)
    assert replaced is not None and replaced.read_bytes() == before and version_of(path) == 7


def test_a_restore_waits_for_nobody_who_writes(tmp_path, monkeypatch):
    from kstock_batch.store import lock

    monkeypatch.setattr(lock, "_PAUSES", (0.01,))
    path = store_of(tmp_path, 7)
    kept = backups.back_up(path, 7)
    with Warehouse.open(Settings(root=tmp_path)):
        told = sentence(run(tmp_path, "upgrade", "--restore", kept))
    assert f"is being written by PID {os.getpid()}" in told and version_of(path) == len(STEPS)


def test_options_that_contradict_each_other_are_refused(tmp_path):
    told = sentence(run(tmp_path, "upgrade", "--restore", "x", "--dry-run"))
    assert "--restore goes with neither --dry-run nor --no-backup" in told
