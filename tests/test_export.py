"""Export: hive-partitioned Parquet that every engine reads, whole or visibly not."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from polars.testing import assert_frame_equal

from factories import asked_json, copy_root, done, fill_disk, opened, run, sentence
from kstock_batch.cli.handout import EXPORTED
from kstock_batch.serving import export as exporting
from kstock_batch.serving.export import TABLES
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse


def stored(root: Path, table: str) -> pl.DataFrame:
    with opened(Settings(root=root).store) as con:
        return con.sql(f"FROM {table} ORDER BY as_of, ticker").pl()


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def built(root):
    done(root, "features")
    return root


def test_what_the_commands_offer_is_what_can_be_exported():
    assert set(TABLES) == set(EXPORTED)


@pytest.mark.parametrize("table", EXPORTED)
def test_polars_pyarrow_and_duckdb_read_the_rows_of_the_store(table, walked, tmp_path):
    out = tmp_path / "it's out"
    told = asked_json(walked, "export", "--out", out, "--table", table)
    wanted = stored(walked, table)
    assert told["n_rows"] == wanted.height > 20
    by_polars = pl.scan_parquet(out).collect()
    by_pyarrow = pl.from_arrow(ds.dataset(out, partitioning="hive").to_table())
    by_pyarrow = by_pyarrow.with_columns(pl.col("as_of").cast(pl.String).str.to_date())
    pattern = str(out / "*" / "*.parquet").replace("'", "''")
    by_duckdb = duckdb.sql(f"FROM '{pattern}'").pl()
    for read in (by_polars, by_pyarrow, by_duckdb):
        assert_frame_equal(read.select(wanted.columns).sort("as_of", "ticker"), wanted)


def test_a_second_export_has_the_same_bytes_and_writes_nothing(built, tmp_path):
    done(built, "export", "--out", tmp_path / "a")
    before = files(tmp_path / "a")
    again = asked_json(built, "export", "--out", tmp_path / "a")
    assert (again["n_written"], again["n_removed"]) == (0, 0)
    done(built, "export", "--out", tmp_path / "b")
    assert files(tmp_path / "a") == before == files(tmp_path / "b")


def test_a_range_changes_its_own_sessions_only(built, tmp_path):
    done(built, "export", "--out", tmp_path / "out")
    days = sorted(path.name for path in (tmp_path / "out").glob("as_of=*"))
    first, last = (day.removeprefix("as_of=") for day in (days[10], days[12]))
    with Warehouse.open(Settings(root=built)) as warehouse:
        warehouse.con.execute("UPDATE feature_daily SET close = close + 1")
        warehouse.con.execute("DELETE FROM feature_daily WHERE as_of = $d", {"d": days[11].removeprefix("as_of=")})
    before = files(tmp_path / "out")
    told = done(built, "export", "--out", tmp_path / "out", "--from", first, "--to", last).stdout
    assert "2 of 2 sessions written, 1 removed" in told
    after = files(tmp_path / "out")
    changed = {name.split("/")[0] for name in before if after.get(name) != before[name]}
    assert changed == {days[10], days[11], days[12]}
    assert "_SUCCESS" in after


@pytest.mark.parametrize("stop", ["write_atomically", "_remove_others"])
def test_an_export_that_was_stopped_says_so_and_the_next_one_mends_it(stop, built, tmp_path, monkeypatch):
    out = tmp_path / "out"
    done(built, "export", "--out", out)
    whole = files(out)
    with Warehouse.open(Settings(root=built)) as warehouse:
        warehouse.con.execute("UPDATE feature_daily SET close = close + 1")
    calls = iter(range(99))
    real = getattr(exporting, stop)

    def die_later(*args):
        if next(calls) >= (5 if stop == "write_atomically" else 0):
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(exporting, stop, die_later)
    with pytest.raises(KeyboardInterrupt):
        exporting.export_table(Settings(root=built), "feature_daily", out, since=None, until=None)
    monkeypatch.undo()
    assert not (out / "_SUCCESS").exists()
    assert all(pl.read_parquet(path).height for path in out.rglob("*.parquet"))
    day = next(out.glob("as_of=*"))
    (day / ".part-0.parquet.killed").write_bytes(b"half")  # what a kill leaves
    done(built, "export", "--out", out)
    assert files(out).keys() == whole.keys()


def test_a_folder_of_something_else_is_refused_and_left_alone(built, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    refused = run(built, "export", "--out", tmp_path)
    assert (refused.exit_code, "photo.jpg" in sentence(refused)) == (2, True)
    refused = run(built, "export", "--out", tmp_path / "photo.jpg")
    assert (refused.exit_code, "it is a file" in sentence(refused)) == (2, True)
    refused = run(built, "export", "--out", built / "warehouse")
    assert (refused.exit_code, "belongs to this installation" in sentence(refused)) == (2, True)
    assert os.listdir(tmp_path).count("photo.jpg") == 1


def test_two_tables_do_not_share_a_folder(built, tmp_path):
    done(built, "export", "--out", tmp_path / "out")
    before = files(tmp_path / "out")
    refused = run(built, "export", "--out", tmp_path / "out", "--table", "label_daily")
    assert (refused.exit_code, "other columns" in sentence(refused)) == (2, True)
    assert files(tmp_path / "out") == before


def test_what_cannot_be_exported_is_said(root, built, tmp_path):
    for args, code, says in (
        (("--from", "2024-06-02", "--to", "2024-06-01"), 2, "--from 2024-06-02 is after --to 2024-06-01"),
        (("--from", "2031-01-01"), 3, "nothing from 2031-01-01"),
        (("--table", "prediction"), 3, "run `kstock-batch score` first"),
    ):
        refused = run(built, "export", "--out", tmp_path / "out", *args)
        assert (refused.exit_code, says in sentence(refused)) == (code, True), refused.stderr
    assert run(built, "export", "--out", tmp_path / "out", "--table", "run").exit_code == 2
    assert not (tmp_path / "out").exists()


def test_without_features_one_is_told_to_compute_them(root, tmp_path):
    for command in ("export", "snapshot"):
        refused = run(root, command, "--out", tmp_path / command)
        assert (refused.exit_code, "kstock-batch features" in sentence(refused)) == (3, True)
    assert os.listdir(tmp_path) == ["root"]


def test_a_full_disk_is_named_and_the_export_is_not_called_whole(small_disk, built, tmp_path):
    home = copy_root(built, tmp_path / "home")
    fill_disk(small_disk, leave=200_000)
    refused = run(home, "export", "--out", small_disk / "out")
    assert (refused.exit_code, "no space left on the disk of" in sentence(refused)) == (12, True)
    assert not (small_disk / "out" / "_SUCCESS").exists()
    assert all(pl.read_parquet(path).height for path in (small_disk / "out").rglob("*.parquet"))
