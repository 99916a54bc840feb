"""Snapshot: a DuckDB file of an analyst's own that answers as the store does, in older DuckDBs too."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from factories import asked_json, copy_root, done, fill_disk, opened, run, sentence
from kstock_batch.serving import snapshot as snapshots
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

QUESTIONS = (
    "SELECT count(*), sum(hash(f)) FROM feature AS f",
    "SELECT count(*), sum(hash(f)) FROM labelled_feature AS f",
    "SELECT count(*), sum(hash(p)) FROM judged_prediction AS p",
    "FROM listing ORDER BY ALL",
    "FROM session ORDER BY ALL",
)


@pytest.fixture(scope="module")
def taken(walked, tmp_path_factory):
    """A snapshot that no test may change."""
    path = tmp_path_factory.mktemp("taken") / "it's mine.duckdb"
    done(walked, "snapshot", "--out", path)
    return path


def test_a_snapshot_answers_as_the_store_does(walked, taken):
    with opened(Settings(root=walked).store) as store, opened(taken) as copy:
        for question in QUESTIONS:
            assert copy.execute(question).fetchall() == store.execute(question).fetchall(), question
        ticker, as_of = store.execute("SELECT ticker, max(as_of) FROM feature_window GROUP BY 1 ORDER BY 1").fetchall()[
            0
        ]
        for macro in (
            f"window_20d('{ticker}', '{as_of}')",
            f"feature_history('{ticker}')",
            f"cross_section('{as_of}')",
        ):
            assert copy.execute(f"FROM {macro}").fetchall() == store.execute(f"FROM {macro}").fetchall() != []


def test_a_snapshot_says_what_every_column_means_and_what_it_is_of(walked, taken):
    with opened(taken) as con:
        told = "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        assert con.execute(told).fetchall() == []
        whole = con.execute("SELECT min(as_of), max(as_of), count(*) FROM feature_daily").fetchall()
        assert con.execute("SELECT from_session, through_session, n_features FROM snapshot").fetchall() == whole


def test_a_snapshot_from_a_session_on_keeps_the_numbers_of_sessions(walked, tmp_path):
    with opened(Settings(root=walked).store) as con:
        by_session = "SELECT DISTINCT as_of, session_number FROM feature ORDER BY as_of OFFSET 100"
        day, number = con.execute(by_session).fetchall()[0]
    told = asked_json(walked, "snapshot", "--out", tmp_path / "some.duckdb", "--from", day)
    assert told["start"] == str(day)
    with opened(tmp_path / "some.duckdb") as con:
        for table in ("feature_daily", "label_daily"):
            assert con.execute(f"SELECT min(as_of) FROM {table}").fetchall() == [(day,)]
        assert con.execute("SELECT min(session_number) FROM feature").fetchall() == [(number,)]


def test_its_format_is_one_that_older_duckdbs_read(taken):
    magic, version = struct.unpack("<8x4sQ", taken.read_bytes()[:20])
    assert (magic, version <= 67) == (b"DUCK", True)  # 67 = DuckDB 1.4; 68 = 1.5; 69 = 2.0


def test_a_bare_process_with_only_duckdb_reads_it(taken, tmp_path):
    alone = shutil.copy(taken, tmp_path / "sent.duckdb")
    script = (
        "import duckdb, sys; con = duckdb.connect(sys.argv[1], read_only=True);"
        "print(con.execute('SELECT count(*) > 0 FROM labelled_feature').fetchall()[0][0])"
    )
    answer = subprocess.run([sys.executable, "-c", script, alone], cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.strip() == "True", answer.stderr


def test_a_new_snapshot_replaces_the_old_while_it_is_open(walked, tmp_path):
    out = tmp_path / "mine.duckdb"
    done(walked, "snapshot", "--out", out)
    reading = duckdb.connect(str(out), read_only=True)
    done(walked, "snapshot", "--out", out)
    assert reading.execute("SELECT count(*) > 0 FROM feature").fetchall() == [(True,)]
    reading.close()
    assert os.listdir(tmp_path) == [out.name]


def test_a_log_left_beside_the_old_one_does_not_make_the_new_one_unreadable(walked, tmp_path):
    out = tmp_path / "mine.duckdb"
    done(walked, "snapshot", "--out", out)
    script = (
        "import duckdb, os, sys; con = duckdb.connect(sys.argv[1]);"
        "con.execute(\"SET checkpoint_threshold = '1TB'\"); con.execute('DELETE FROM feature_daily'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, out], check=False)
    assert Path(f"{out}.wal").exists()
    done(walked, "snapshot", "--out", out)
    assert os.listdir(tmp_path) == [out.name]
    with opened(out) as con:
        assert con.execute("SELECT count(*) > 0 FROM feature").fetchall() == [(True,)]


def test_a_file_that_is_no_snapshot_is_not_replaced(walked, tmp_path):
    (tmp_path / "thesis.docx").write_bytes(b"years of work")
    for out, says in (
        (tmp_path / "thesis.docx", "is no DuckDB file"),
        (tmp_path, "it is a folder"),
        (Settings(root=walked).store, "belongs to this installation"),
        (Settings(root=walked).published, "belongs to this installation"),
        (tmp_path / "thesis.docx" / "a.duckdb", "cannot be written"),
    ):
        refused = run(walked, "snapshot", "--out", out)
        assert (refused.exit_code, says in sentence(refused)) == (2, True), refused.stderr
    assert (tmp_path / "thesis.docx").read_bytes() == b"years of work"


def test_a_snapshot_that_fails_leaves_the_old_one_and_no_part_of_the_new(walked, tmp_path, monkeypatch):
    out = tmp_path / "mine.duckdb"
    done(walked, "snapshot", "--out", out)
    before = out.read_bytes()
    monkeypatch.setattr(snapshots, "_verify", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(walked, "snapshot", "--out", out)
    assert (os.listdir(tmp_path), out.read_bytes() == before) == ([out.name], True)


def test_while_one_is_taken_others_read_and_a_writer_is_named(walked, tmp_path):
    home = copy_root(walked, tmp_path / "home")
    with Warehouse.read(Settings(root=home)):
        done(home, "snapshot", "--out", tmp_path / "a.duckdb")
    with Warehouse.open(Settings(root=home)):
        refused = run(home, "snapshot", "--out", tmp_path / "b.duckdb")
    assert (refused.exit_code, f"PID {os.getpid()}" in sentence(refused)) == (6, True)


def test_a_full_disk_is_named_and_nothing_is_left(small_disk, walked):
    filler = fill_disk(small_disk, leave=500_000)
    refused = run(walked, "snapshot", "--out", small_disk / "mine.duckdb")
    assert refused.exit_code == 12, refused.stderr
    assert f"no space left on the disk of {small_disk}" in sentence(refused)
    assert os.listdir(small_disk) == [filler.name]
