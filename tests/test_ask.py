"""Questions in SQL: answers as tables and files, from the published file or the store, and nothing else reached."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import polars as pl
import pytest

from factories import asked_json, copy_root, done, fill_disk, run, sentence
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

LISTING = "SELECT ticker, name, sector, is_spac, last_seen FROM listing ORDER BY ticker"
ODD = (
    "SELECT '쉼표, \"따옴표\"' AS text, '' AS empty, NULL AS nothing, [1, 2] AS list, {'a': '값'} AS struct,"
    " INTERVAL 3 DAY AS span, sum(7) AS huge, 'nan'::DOUBLE AS nan, DATE '2024-06-28' AS day,"
    " 1.50::DECIMAL(5, 2) AS won"
)


def ask_file(root: Path, statement: str, out: Path, *args: object) -> str:
    return done(root, "sql", "--store", statement, "--out", out, *args).stdout


# Formats


def test_csv_json_and_parquet_hold_the_same_rows_with_korean_names(walked, tmp_path):
    told = [ask_file(walked, LISTING, tmp_path / f"out.{ending}") for ending in ("csv", "json", "parquet")]
    read = pl.read_parquet(tmp_path / "out.parquet")
    assert read.height > 20
    assert all(f"{read.height} rows from " in line and "written to" in line for line in told)
    assert any("표본" in name for name in read["name"])
    from_json = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in from_json] == read["name"].to_list()
    from_csv = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(encoding="utf-8"))))
    assert [row["name"] for row in from_csv] == read["name"].to_list()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.json", "out.parquet"]


@pytest.mark.parametrize("form", ["csv", "json"])
def test_on_stdout_is_the_document_alone_and_the_summary_on_stderr(form, walked, tmp_path):
    answered = done(walked, "sql", "--store", LISTING, "--format", form)
    ask_file(walked, LISTING, tmp_path / "same", "--format", form)
    assert answered.stdout == (tmp_path / "same").read_text(encoding="utf-8")
    assert "rows from" in answered.stderr


def test_values_of_every_kind_survive(walked, tmp_path):
    (row,) = csv.DictReader(io.StringIO(done(walked, "sql", ODD, "--format", "csv").stdout))
    assert row == {
        "text": '쉼표, "따옴표"',
        "empty": "",
        "nothing": "",
        "list": "[1,2]",
        "struct": '{"a":"값"}',
        "span": "3 days",
        "huge": "7",
        "nan": "NaN",
        "day": "2024-06-28",
        "won": "1.50",
    }
    (row,) = asked_json(walked, "sql", ODD)
    assert (row["nan"], row["huge"], row["list"], row["struct"], row["nothing"]) == (None, 7, [1, 2], {"a": "값"}, None)
    ask_file(walked, ODD, tmp_path / "odd.parquet")
    (row,) = pl.read_parquet(tmp_path / "odd.parquet").to_dicts()
    assert (row["list"], row["struct"], row["span"], int(row["huge"])) == ([1, 2], {"a": "값"}, "3 days", 7)


def test_the_limit_is_of_the_table_unless_it_is_given(walked):
    many = "SELECT range AS n FROM range(120000)"
    assert "1,000 rows from" in (table := done(walked, "sql", many).stdout)
    assert "cut at --limit 1000" in table
    assert len(asked_json(walked, "sql", many)) == 120_000
    assert done(walked, "sql", many, "--format", "csv").stdout.count("\n") == 120_001
    few = done(walked, "sql", many, "--format", "csv", "--limit", 60_000)
    assert (few.stdout.count("\n"), "cut at --limit 60000" in few.stderr) == (60_001, True)
    assert asked_json(walked, "sql", many, "--limit", 2) == [{"n": 0}, {"n": 1}]
    exact = done(walked, "sql", "SELECT 1 AS n", "--limit", 1)
    assert "cut" not in exact.stdout


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_answer_without_rows_is_one(form, walked, tmp_path):
    nothing = "SELECT 1 AS n WHERE false"
    text = done(walked, "sql", nothing, "--format", form).stdout
    assert {"table": "no rows" in text, "csv": text == "n\n", "json": text == "[]\n"}[form]
    ask_file(walked, nothing, tmp_path / "no.parquet")
    assert pl.read_parquet(tmp_path / "no.parquet").shape == (0, 1)


# What may be asked


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM feature_daily", "of kind DELETE"),
        ("SELECT 1; SELECT 2", "holds 2 statements"),
        ("", "holds 0 statements"),
        ("SELEC 1", "syntax error"),
        ("SET enable_external_access = true", "of kind SET"),
        ("WITH gone AS (DELETE FROM run RETURNING run_id) SELECT * FROM gone", "read-only"),
        ("SELECT 1 AS a, 2 AS a", "several columns are called a"),
        ("FROM window_20d('005930', 'no date')", "invalid date"),
        ("SELECT * FROM no_such_table", "no_such_table does not exist"),
    ],
)
@pytest.mark.parametrize("store", [(), ("--store",)], ids=["published", "store"])
def test_what_is_no_question_is_refused_in_one_sentence(statement, says, store, walked):
    if "window" in statement and not store:
        says = "window_20d"
    refused = run(walked, "sql", statement, *store)
    assert refused.exit_code == 2, refused.stderr
    told = sentence(refused)
    assert "the statement cannot be answered" in told
    assert says.lower() in told.lower()


@pytest.mark.parametrize("store", [(), ("--store",)], ids=["published", "store"])
def test_no_other_file_can_be_read_or_written(store, walked, tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n", encoding="utf-8")
    kept = Settings(root=walked).store.read_bytes()
    for statement in (
        f"SELECT * FROM read_csv('{secret}')",
        f"SELECT * FROM '{secret}'",
        f"SELECT content FROM read_text('{secret}')",
        f"SELECT * FROM glob('{tmp_path}/*')",
        "SELECT * FROM answer",  # a variable of the program is no table
    ):
        refused = run(walked, "sql", statement, *store)
        assert (refused.exit_code, "cannot be answered" in sentence(refused)) == (2, True), statement
    assert Settings(root=walked).store.read_bytes() == kept


def test_the_store_is_not_waited_for_while_it_is_written(root):
    with Warehouse.open(Settings(root=root)):
        refused = run(root, "sql", "--store", "SELECT 1 AS n")
    assert (refused.exit_code, f"PID {os.getpid()}" in sentence(refused)) == (6, True)


def test_show_describe_and_explain_are_questions(walked):
    names = {row["name"] for row in asked_json(walked, "sql", "--store", "SHOW TABLES")}
    assert {"feature", "labelled_feature", "feature_daily"} <= names
    assert asked_json(walked, "sql", "--store", "DESCRIBE feature")[0]["column_name"] == "ticker"
    assert "feature_daily" in done(walked, "sql", "--store", "EXPLAIN FROM feature").stdout.lower()


# Where an answer may go


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--format", "parquet"), "--out FILE.parquet"),
        (("--format", "table", "--out", "x.txt"), "--format table is no format of a file"),
        (("--out", "x.txt"), "the ending of x.txt is no format"),
        (("--format", "csv", "--json"), "contradict each other"),
        (("--format", "csv", "--out", "folder"), "it is a folder"),
        (("--format", "csv", "--out", "file/x.csv"), "cannot be written"),
        (("--format", "csv", "--out", "warehouse/store.duckdb"), "belongs to this installation"),
        (("--format", "csv", "--out", "warehouse/serving/predictions.duckdb"), "belongs to this installation"),
    ],
)
def test_a_place_where_no_answer_can_go_is_named(args, says, root, monkeypatch):
    monkeypatch.chdir(root)
    (root / "folder").mkdir()
    (root / "file").write_text("in the way", encoding="utf-8")
    before = Settings(root=root).store.read_bytes()
    refused = run(root, "sql", "--store", "SELECT 1 AS n", *args)
    assert (refused.exit_code, says in sentence(refused)) == (2, True), refused.stderr
    assert Settings(root=root).store.read_bytes() == before


def test_an_unknown_format_is_a_usage_error(walked):
    refused = run(walked, "sql", "SELECT 1", "--format", "excel")
    assert (refused.exit_code, "'table', 'csv', 'json', 'parquet'" in refused.stderr) == (2, True)


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_an_answer_that_fails_half_way_leaves_the_old_file_alone(form, walked, tmp_path):
    out = tmp_path / f"old.{form}"
    out.write_bytes(b"old")
    fails_late = "SELECT CASE WHEN range = 150000 THEN error('too far') ELSE random() END AS n FROM range(200000)"
    refused = run(walked, "sql", fails_late, "--out", out)
    assert (refused.exit_code, "too far" in sentence(refused)) == (2, True)
    assert (os.listdir(tmp_path), out.read_bytes()) == ([out.name], b"old")


@pytest.mark.parametrize("form", ["csv", "json", "parquet"])
def test_a_full_disk_is_named_and_leaves_no_half_of_a_file(form, small_disk, root, tmp_path):
    home = copy_root(root, tmp_path / "home")
    filler = fill_disk(small_disk, leave=100_000)
    out = small_disk / f"out.{form}"
    refused = run(home, "sql", "--store", "SELECT random() AS a, uuid() AS b FROM range(200000)", "--out", out)
    assert (refused.exit_code, "no space left on the disk of" in sentence(refused)) == (12, True), refused.stderr
    assert os.listdir(small_disk) == [filler.name]
