"""The sample market as a source: made once, made again where it is not whole, never mixed with real data."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories import RAW_TABLES, asked_json, content, done, run, sentence, store_rows, write_folder

SMALL = ("demo", "--tickers", 20, "--sessions", 120)


@pytest.fixture(scope="module")
def demo_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    done(root, *SMALL)
    return root


def files(root: Path) -> dict[str, tuple[bytes, int]]:
    folder = root / "warehouse" / "sample"
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def test_the_demo_fills_every_raw_table_and_rejects_nothing(demo_root):
    sizes = {table: n for table, (n, _) in content(demo_root).items()}
    assert all(sizes.values()), sizes
    assert store_rows(demo_root, "SELECT count(*) FROM quarantine") == [(0,)]
    assert store_rows(demo_root, "SELECT count(DISTINCT session) FROM raw_price") == [(120,)]


def test_a_second_demo_neither_writes_nor_changes_anything(demo_root):
    before = files(demo_root), content(demo_root)
    rows = asked_json(demo_root, *SMALL)["datasets"]
    assert {(row["new"], row["changed"], row["rejected"]) for row in rows} == {(0, 0, 0)}
    assert (files(demo_root), content(demo_root)) == before


@pytest.mark.parametrize("harm", ["cut", "deleted", "replaced"])
def test_a_sample_folder_that_is_not_whole_is_made_again(harm, demo_root):
    before = {name: data for name, (data, _) in files(demo_root).items()}
    path = demo_root / "warehouse" / "sample" / "prices.parquet"
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(before["prices.parquet"][:-100] if harm == "cut" else before["listings.parquet"])
    rows = asked_json(demo_root, *SMALL)["datasets"]
    assert {(row["new"], row["changed"]) for row in rows} == {(0, 0)}
    assert {name: data for name, (data, _) in files(demo_root).items()} == before


def test_out_writes_the_files_and_no_store(tmp_path):
    done(tmp_path / "root", *SMALL, "--out", tmp_path / "sample")
    assert (tmp_path / "sample" / "prices.parquet").exists()
    assert not (tmp_path / "root").exists()


def test_invented_prices_are_refused_where_real_ones_are(root):
    before = content(root)
    result = run(root, *SMALL)
    assert (result.exit_code, "holds data of `ingest files`" in sentence(result)) == (2, True), result.stderr
    assert content(root) == before


def test_real_prices_are_refused_where_invented_ones_are(demo_root, tmp_path):
    before = content(demo_root, RAW_TABLES)
    result = run(demo_root, "ingest", "files", write_folder(tmp_path / "source"))
    assert (result.exit_code, "holds data of `demo`" in sentence(result)) == (2, True), result.stderr
    assert content(demo_root, RAW_TABLES) == before


def test_another_sample_market_is_refused_where_one_is_stored(demo_root):
    before = content(demo_root)
    refused = run(demo_root, "demo", "--tickers", 21, "--sessions", 120)
    assert refused.exit_code == 2
    assert "another sample market" in sentence(refused)
    assert "21 tickers" in sentence(refused)
    assert content(demo_root) == before
