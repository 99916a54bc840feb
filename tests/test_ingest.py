"""Ingest of a folder: what is kept, what is set aside, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pytest

from factories import (
    FIRST,
    FUTURE,
    HYNIX,
    LAST,
    NEW_CODE,
    RAW_TABLES,
    SAMSUNG,
    SATURDAY,
    asked_json,
    content,
    done,
    flip_byte,
    hand_made,
    run,
    sentence,
    store_rows,
    with_cell,
    write_folder,
)
from kstock_batch.errors import SourceError
from kstock_batch.ingest.sources.files import PANEL_MAPPING, load_mapping

PRICES = hand_made()["prices"]
N_PRICES = PRICES.height


def refused(root: Path, folder: Path, code: int, *says: str) -> str:
    """Ingest a folder that must be refused; return the sentence. Every raw table must be as it was."""
    before = content(root, (*RAW_TABLES, "quarantine", "feature_due"))
    result = run(root, "ingest", "files", folder)
    told = sentence(result)
    assert result.exit_code == code, told
    for words in says:
        assert words in told, told
    assert content(root, (*RAW_TABLES, "quarantine", "feature_due")) == before
    return told


def with_bad_cell(folder: Path, **cell: object) -> Path:
    """The hand-made folder with one bad price row among many."""
    return write_folder(folder, prices=with_cell(PRICES, 7, **cell))


# What a folder becomes


def test_every_row_of_a_folder_lands_in_its_table_with_the_time_it_was_known(root):
    found = store_rows(root, "SELECT table_name, estimated_size FROM duckdb_tables() WHERE estimated_size > 0")
    sizes = dict(found)
    assert (sizes["raw_price"], sizes["raw_listing"], sizes["raw_financial"]) == (N_PRICES, 4, 2)
    known = store_rows(
        root,
        f"SELECT close, volume, price_basis, source, available_at FROM raw_price"
        f" WHERE ticker = '{SAMSUNG}' AND session = '2024-06-28'",
    )
    last = PRICES.filter(pl.col("ticker") == SAMSUNG, pl.col("date") == LAST).row(0, named=True)
    at_1545_in_seoul = datetime(2024, 6, 28, 6, 45)
    assert known == [(last["close"], last["volume"], "adjusted", "adjusted_prices", at_1545_in_seoul)]
    filed = store_rows(root, f"SELECT available_at FROM raw_financial WHERE ticker = '{SAMSUNG}'")
    assert filed == [(datetime(2024, 3, 11, 15, 0),)]


def test_a_us_session_is_known_only_the_next_morning(root):
    rows = store_rows(root, "SELECT available_at FROM raw_macro WHERE series = 'VIX' AND event_date = '2024-06-27'")
    assert rows == [(datetime(2024, 6, 27, 22, 0),)]


def test_new_codes_with_letters_are_tickers(root):
    assert store_rows(root, f"SELECT count(*) FROM raw_price WHERE ticker = '{NEW_CODE}'") == [(N_PRICES // 4,)]


def test_ingesting_a_folder_twice_changes_nothing_not_even_the_time_of_ingest(root):
    before = content(root)
    rows = asked_json(root, "ingest", "files", root / "source")["datasets"]
    assert {(row["new"], row["changed"]) for row in rows} == {(0, 0)}
    assert [row["unchanged"] for row in rows] == [row["read"] for row in rows]
    assert content(root) == before


def test_one_changed_price_is_one_changed_row_and_retroactive_it_reopens_its_session_for_the_features(root):
    done(root, "features")
    assert store_rows(root, "SELECT * FROM feature_due") == []
    n = 40  # a row of the first ticker
    folder = write_folder(root / "mended", prices=with_cell(PRICES, n, close=PRICES["close"][n] + 1))
    rows = asked_json(root, "ingest", "files", folder, "--retroactive")["datasets"]
    assert [(row["table"], row["changed"], row["new"]) for row in rows if row["changed"]] == [("raw_price", 1, 0)]
    due = store_rows(root, "SELECT table_name, from_date FROM feature_due")
    assert due == [("raw_price", PRICES["date"][n])]
    built = asked_json(root, "features")
    assert built["start"] == str(PRICES["date"][n])


def test_a_price_that_is_corrected_reopens_no_night_that_could_not_know_it(root):
    done(root, "features")
    folder = write_folder(root / "mended", prices=with_cell(PRICES, 40, close=PRICES["close"][40] + 1))
    done(root, "ingest", "files", folder)
    ((due,),) = store_rows(root, "SELECT from_date FROM feature_due")
    assert due > LAST
    built = asked_json(root, "features")
    assert (built["n_rows"], built["n_labels"] > 0) == (0, True)


def test_a_filing_whose_date_moves_later_reopens_the_sessions_that_already_used_it(root):
    done(root, "features")
    financials = hand_made()["financials"]
    later = with_cell(financials, 0, available_from=date(2024, 4, 30))
    done(root, "ingest", "files", write_folder(root / "corrected", financials=later))
    due = store_rows(root, "SELECT table_name, from_date FROM feature_due")
    assert due == [("raw_financial", financials["available_from"][0])]


def test_dates_with_a_time_of_day_are_that_day(tmp_path, root):
    as_instants = PRICES.with_columns(pl.col("date").cast(pl.Datetime("ns")) + timedelta(hours=15))
    rows = asked_json(root, "ingest", "files", write_folder(tmp_path / "instants", prices=as_instants))["datasets"]
    price = next(row for row in rows if row["table"] == "raw_price")
    assert (price["new"], price["rejected"]) == (0, 0)


def test_numbers_that_pandas_made_float_because_some_are_missing_are_still_counts(tmp_path, root):
    as_floats = PRICES.with_columns(pl.col("volume").cast(pl.Float64), shares_outstanding=pl.lit(float("nan")))
    rows = asked_json(root, "ingest", "files", write_folder(tmp_path / "floats", prices=as_floats))["datasets"]
    price = next(row for row in rows if row["table"] == "raw_price")
    assert (price["rejected"], price["changed"]) == (0, N_PRICES)
    assert store_rows(root, "SELECT count(shares_outstanding) FROM price") == [(0,)]


def test_a_suspended_stock_printed_without_open_high_and_low_stands_at_its_last_close(tmp_path, root):
    halted = with_cell(PRICES, 3, open=0.0, high=0.0, low=0.0, volume=0)
    done(root, "ingest", "files", write_folder(tmp_path / "halted", prices=halted))
    day, close = PRICES["date"][3], PRICES["close"][3]
    rows = store_rows(
        root, f"SELECT open, high, low, close FROM price WHERE ticker = '{SAMSUNG}' AND session = '{day}'"
    )
    assert rows == [(close,) * 4]


# Rows set aside


def lenient(root: Path) -> Path:
    (root / "kstock.toml").write_text("max_rejected_share = 0.01\n", encoding="utf-8")
    return root


def test_a_few_bad_rows_go_to_quarantine_under_the_rule_they_break_and_are_counted(root, tmp_path):
    bad = with_cell(with_cell(PRICES, 7, close=-5.0), 9, high=1.0)
    rows = asked_json(lenient(root), "ingest", "files", write_folder(tmp_path / "bad", prices=bad))["datasets"]
    price = next(row for row in rows if row["table"] == "raw_price")
    assert (price["rejected"], price["reasons"]) == (2, "high_below_low 1, price_is_not_positive 1")
    kept = store_rows(root, "SELECT table_name, source, rule, row_json FROM quarantine ORDER BY rule")
    assert [row[:3] for row in kept] == [
        ("raw_price", "adjusted_prices", "high_below_low"),
        ("raw_price", "adjusted_prices", "price_is_not_positive"),
    ]
    rejected = json.loads(kept[1][3])
    assert (rejected["ticker"], rejected["session"], rejected["close"]) == (SAMSUNG, str(PRICES["date"][7]), -5.0)


def test_a_runs_summary_counts_what_was_rejected_and_why(root, tmp_path):
    bad = with_cell(with_cell(with_cell(PRICES, 7, close=-5.0), 8, close=-5.0), 9, high=1.0)
    done(lenient(root), "ingest", "files", write_folder(tmp_path / "bad", prices=bad))
    ((told,),) = store_rows(root, "SELECT summary FROM run ORDER BY started_at DESC LIMIT 1")
    assert told == "0 new, 0 changed, 3 rejected (price_is_not_positive 2, high_below_low 1)"


def test_a_calendar_file_that_cannot_be_used_is_refused_and_changes_nothing(root):
    (root / "calendar.toml").write_text('[closed]\n2024-06-28 = "wrong: it traded"\n', encoding="utf-8")
    refused(root, root / "source", 2, "calendar.toml closes 2024-06-28, but the store holds prices of 4 stocks")
    (root / "calendar.toml").write_text("[closed]\n28 = 1\n", encoding="utf-8")
    refused(root, root / "source", 2, "calendar.toml: [closed] 28 = 1 is no text")


def test_a_rejected_row_leaves_the_good_one_that_was_stored_before(root, tmp_path):
    before = content(root)
    done(lenient(root), "ingest", "files", with_bad_cell(tmp_path / "bad", close=-5.0))
    assert content(root) == before


def test_bad_rows_ingested_twice_are_kept_once(root, tmp_path):
    folder = with_bad_cell(tmp_path / "bad", close=-5.0)
    for _ in range(2):
        done(lenient(root), "ingest", "files", folder)
    assert store_rows(root, "SELECT count(*), count(DISTINCT row_json) FROM quarantine") == [(1, 1)]


def test_rows_rejected_from_one_folder_are_kept_when_the_next_one_is_clean(root, tmp_path):
    done(lenient(root), "ingest", "files", with_bad_cell(tmp_path / "bad", close=-5.0))
    done(root, "ingest", "files", root / "source")
    assert store_rows(root, "SELECT rule FROM quarantine") == [("price_is_not_positive",)]


def test_exactly_the_allowed_share_may_be_set_aside_and_one_row_more_is_refused(root, tmp_path):
    allowed = int(0.01 * N_PRICES)
    bad = PRICES.with_columns(volume=pl.when(pl.int_range(pl.len()) < allowed).then(-1).otherwise("volume"))
    done(lenient(root), "ingest", "files", write_folder(tmp_path / "bad", prices=bad))
    refused(root, write_folder(tmp_path / "worse", prices=with_cell(bad, allowed, volume=-1)), 8, "volume_is_negative")


# Rows refused: one bad row among 400 is more than one in a thousand

BAD_CELLS = MappingProxyType(
    {
        "price_is_not_positive": {"close": 0.0},
        "high_below_low": {"high": 100.0},
        "high_below_open_or_close": {"high": PRICES["low"][7] + 1, "low": PRICES["low"][7] - 1},
        "low_above_open_or_close": {"low": PRICES["open"][7] + 1},
        "volume_is_negative": {"volume": -1},
        "date_in_the_future": {"date": FUTURE},
        "not_a_session": {"date": SATURDAY},
        "ticker_is_not_six_characters": {"ticker": "5930"},
        "duplicate_key": {"date": PRICES["date"][8]},
        "ticker_is_missing": {"ticker": None},
        "session_is_missing": {"date": None},
        "close_is_missing": {"close": None},
        "close_is_not_finite": {"close": float("inf")},
    }
)


@pytest.mark.parametrize("rule", BAD_CELLS)
def test_a_row_that_breaks_a_rule_is_refused_with_the_rule_and_the_row(rule, root, tmp_path):
    cell = BAD_CELLS[rule]
    told = refused(root, with_bad_cell(tmp_path / "bad", **cell), 8, "prices.parquet", rule, "max_rejected_share")
    for value in cell.values():
        assert value is None or str(value) in told or repr(value) in told, told


@pytest.mark.parametrize("price", [0.0, -1.0], ids=["zero", "negative"])
@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_no_price_may_be_zero_or_negative(column, price, root, tmp_path):
    refused(
        root, with_bad_cell(tmp_path / "bad", **{column: price}), 8, "price_is_not_positive", f"'{column}': {price}"
    )


@pytest.mark.parametrize("ticker", ["00593", "0059300", "00593O ", "a05930", "", "００５９３０", "005930\n"])
def test_codes_that_are_not_six_capital_letters_or_digits_are_refused(ticker, root, tmp_path):
    refused(root, with_bad_cell(tmp_path / "bad", ticker=ticker), 8, "ticker_is_not_six_characters", repr(ticker))


def test_tomorrow_is_the_future_even_where_it_is_a_session(root, tmp_path):
    sessions = store_rows(root, "SELECT min(session) FROM raw_calendar WHERE session > now()::DATE + 1")
    refused(root, with_bad_cell(tmp_path / "bad", date=sessions[0][0]), 8, "date_in_the_future")


def test_a_repeated_row_is_refused_even_where_both_say_the_same(root, tmp_path):
    folder = write_folder(tmp_path / "twice", prices=pl.concat([PRICES, PRICES[:1]]))
    refused(root, folder, 8, "duplicate_key", SAMSUNG, str(FIRST))


def test_a_market_nobody_knows_is_refused(root, tmp_path):
    folder = write_folder(tmp_path / "bad", listings=with_cell(hand_made()["listings"], 1, market="NASDAQ"))
    refused(root, folder, 8, "unknown_market", "NASDAQ")


@pytest.mark.parametrize(
    ("filed", "rule"), [(date(2023, 11, 1), "known_before_period_end"), (None, "available_at_is_missing")]
)
def test_a_filing_known_before_its_period_or_never_is_refused(filed, rule, root, tmp_path):
    folder = write_folder(tmp_path / "bad", financials=with_cell(hand_made()["financials"], 1, available_from=filed))
    refused(root, folder, 8, rule, HYNIX)


def test_a_refused_file_takes_the_good_ones_of_its_folder_with_it(root, tmp_path):
    """The macro file is read after the prices, which are good and changed."""
    prices, macro = with_cell(PRICES, 0, close=PRICES["close"][0] + 1), with_cell(hand_made()["macro"], 0, close=None)
    refused(root, write_folder(tmp_path / "bad", prices=prices, macro=macro), 8, "macro.parquet", "close_is_missing")


def test_a_refused_folder_is_a_failed_run_with_its_reason_in_the_ledger(root, tmp_path):
    refused(root, with_bad_cell(tmp_path / "bad", close=-5.0), 8)
    runs = store_rows(root, "SELECT status, error, finished_at IS NOT NULL FROM run ORDER BY started_at DESC LIMIT 1")
    assert runs[0][0] == "failed"
    assert "price_is_not_positive" in runs[0][1]
    assert runs[0][2]


# Files and folders that are none


def test_a_missing_folder_is_named_and_creates_no_store(tmp_path):
    root = tmp_path / "new"
    assert "no/such/place does not exist" in refused(root, Path("no/such/place"), 7)
    assert not (root / "warehouse").exists()


def test_a_file_is_no_folder(tmp_path, root):
    (tmp_path / "prices.parquet").write_bytes(b"x")
    refused(root, tmp_path / "prices.parquet", 7, "prices.parquet is a file", "folder")


def test_an_empty_folder_is_told_what_it_should_hold_and_creates_no_store(tmp_path):
    (tmp_path / "empty").mkdir()
    told = refused(
        tmp_path / "new", tmp_path / "empty", 7, "prices.parquet", "listings.parquet", str(tmp_path / "empty")
    )
    assert "holds none of" in told
    assert not (tmp_path / "new" / "warehouse").exists()


def test_a_folder_without_its_required_file_is_refused(tmp_path, root):
    refused(root, write_folder(tmp_path / "part", prices=None), 7, "lacks ['prices.parquet']")


def test_a_folder_without_an_optional_file_is_ingested(tmp_path, root):
    done(root, "ingest", "files", write_folder(tmp_path / "part", macro=None, financials=None))


@pytest.mark.parametrize("column", ["close", "ticker", "date", "shares_outstanding"])
def test_a_missing_column_is_named_beside_those_there_are(column, tmp_path, root):
    folder = write_folder(tmp_path / "lacking", prices=PRICES.drop(column))
    refused(root, folder, 7, "prices.parquet", f"lacks the columns ['{column}']", "volume", "--mapping")


WRONG_TYPES = MappingProxyType(
    {
        "ticker as int": (pl.col("ticker").replace(NEW_CODE, "000040").cast(pl.Int64), "column ticker has type Int64"),
        "close as text": (pl.col("close").cast(pl.String), "column close has type String"),
        "volume as text": (pl.col("volume").cast(pl.String), "column volume has type String"),
        "date as text": (pl.col("date").cast(pl.String), "column date has type String"),
        "date as number": (pl.col("date").cast(pl.Int32), "column date has type Int32"),
        "date with a zone": (pl.col("date").cast(pl.Datetime).dt.replace_time_zone("Asia/Seoul"), "time_zone"),
    }
)


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_a_column_of_the_wrong_type_is_named_with_its_type(wrong, tmp_path, root):
    expression, says = WRONG_TYPES[wrong]
    folder = write_folder(tmp_path / "wrong", prices=PRICES.with_columns(expression))
    refused(root, folder, 7, "prices.parquet", says, "raw_price")


def test_a_truncated_parquet_is_named_with_its_size(folder, root):
    path = folder / "prices.parquet"
    path.write_bytes(path.read_bytes()[:-500])
    refused(root, folder, 7, f"{path} ({path.stat().st_size:,} bytes)", "truncated or damaged")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"ticker,date\n005930,2024-06-28\n"], ids=["0 bytes", "magic", "csv"])
def test_what_is_no_parquet_is_said_to_be_none(data, folder, root):
    (folder / "prices.parquet").write_bytes(data)
    refused(root, folder, 7, "prices.parquet", f"({len(data)} bytes)", "cannot be read as parquet")


def test_flipped_bytes_in_a_parquet_never_end_in_a_traceback(folder):
    """A flip may go unseen (parquet has no checksum here), but it may not surprise."""
    path = folder / "prices.parquet"
    whole, dataset = path.read_bytes(), next(d for d in load_mapping() if d.file == ("prices.parquet",))
    n_refused = 0
    for at in range(4, len(whole), len(whole) // 150):
        path.write_bytes(whole)
        flip_byte(path, at)
        try:
            dataset.read(path)
        except SourceError as error:
            assert "prices.parquet" in str(error), at
            n_refused += 1
    assert n_refused > 20


# Mapping files


def mapping(tmp_path: Path, change: tuple[str, str]) -> Path:
    """The panel's mapping with one change, which must be there to make."""
    text = PANEL_MAPPING.read_text(encoding="utf-8")
    assert change[0] in text
    path = tmp_path / "mapping.toml"
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    return path


UNUSABLE = MappingProxyType(
    {
        "not toml": (('table = "raw_listing"', "table = raw_listing"), "is no mapping file"),
        "unknown table": (('table = "raw_listing"', 'table = "raw_listings"'), "raw_listings"),
        "unknown column": (('is_spac = "is_spac"', 'is_spak = "is_spac"'), "is_spak"),
        "unknown key": (("required = true", "requird = true"), "requird"),
        "file is a text": (('file = ["listings.parquet"]', 'file = "listings.parquet"'), "listings.parquet"),
        "no source": (('source = "krx_listings"', ""), "source"),
        "key not mapped": (('ticker = "ticker"', ""), "ticker"),
        "impossible time": (('at = "15:45"', 'at = "25:45"'), "25:45"),
        "time as toml time": (('at = "15:45"', "at = 15:45:00"), "datetime.time(15, 45)"),
        "days as text": (("plus_days = 1", 'plus_days = "1"'), "plus_days"),
        "unknown key of available": (("plus_days = 1", "plus_hours = 1"), "plus_hours"),
        "only is a text": (('only = { series = ["USDKRW"] }', 'only = { series = "USDKRW" }'), "USDKRW"),
        "required is a text": (("required = true", 'required = "yes"'), "required"),
    }
)


@pytest.mark.parametrize("fault", UNUSABLE)
def test_a_mapping_file_that_cannot_be_used_is_named_with_what_is_wrong(fault, tmp_path, folder):
    change, says = UNUSABLE[fault]
    path = mapping(tmp_path, change)
    result = run(tmp_path / "new", "ingest", "files", folder, "--mapping", path)
    told = sentence(result)
    assert result.exit_code == 2, told
    assert str(path) in told
    assert says in told, told
    assert not (tmp_path / "new" / "warehouse").exists()


@pytest.mark.parametrize("text", ["", "dataset = []\n", "dataset = 3\n", "[dataset]\ntable = 'raw_price'\n"])
def test_a_mapping_file_that_describes_no_dataset_is_none(text, tmp_path, folder):
    path = tmp_path / "mapping.toml"
    path.write_text(text, encoding="utf-8")
    result = run(tmp_path / "new", "ingest", "files", folder, "--mapping", path)
    assert (result.exit_code, str(path) in sentence(result)) == (2, True)


def test_a_mapping_file_that_is_not_there_is_named(tmp_path, folder):
    result = run(tmp_path / "new", "ingest", "files", folder, "--mapping", tmp_path / "none.toml")
    assert (result.exit_code, "none.toml" in sentence(result)) == (2, True)


def test_a_column_to_filter_by_that_the_file_lacks_is_said_to_be_lacking(tmp_path, folder, root):
    path = mapping(tmp_path, ('only = { series = ["USDKRW"] }', 'only = { country = ["KR"] }'))
    result = run(root, "ingest", "files", folder, "--mapping", path)
    assert (result.exit_code, "lacks the columns ['country']" in sentence(result)) == (7, True)


def test_another_folder_needs_only_another_mapping(tmp_path):
    frames = hand_made()
    prices = frames["prices"].rename({"ticker": "code", "date": "day"})
    listings = frames["listings"].with_columns(board=pl.col("market").replace({"KOSPI": "P", "KOSDAQ": "Q"}))
    folder = write_folder(tmp_path / "theirs", {"bars": prices, "names": listings.drop("market")})
    path = tmp_path / "theirs.toml"
    path.write_text(
        """
[[dataset]]
file = ["names.parquet"]
table = "raw_listing"
replace = { market = { P = "KOSPI", Q = "KOSDAQ" } }
columns = { ticker = "ticker", name = "name", market = "board" }
constants = { source = "theirs" }

[[dataset]]
file = ["bars.parquet"]
table = "raw_price"
available = { column = "day", at = "16:00" }
constants = { source = "theirs", price_basis = "adjusted" }
[dataset.columns]
ticker = "code"
session = "day"
open = "open"
high = "high"
low = "low"
close = "close"
volume = "volume"
""",
        encoding="utf-8",
    )
    done(tmp_path / "root", "ingest", "files", folder, "--mapping", path)
    found = store_rows(tmp_path / "root", "SELECT market, is_spac, is_preferred FROM raw_listing ORDER BY ticker")
    # What the source left out is told by the name and the code.
    assert found == [
        ("KOSDAQ", False, False),
        ("KOSPI", False, False),
        ("KOSPI", False, False),
        ("KOSDAQ", True, False),
    ]
    assert store_rows(tmp_path / "root", "SELECT count(*) FROM raw_price") == [(N_PRICES,)]


def test_the_panel_mapping_names_each_table_that_has_a_source():
    assert {dataset.table.name for dataset in load_mapping()} == set(RAW_TABLES)


@pytest.mark.panel
def test_the_files_of_the_real_panel_have_the_columns_and_types_the_mapping_says(real_panel):
    for dataset in load_mapping():
        path = dataset.find(real_panel)
        assert path is not None, dataset.file
        dataset._check(pl.scan_parquet(path).collect_schema(), path)


@pytest.mark.panel
def test_a_month_of_the_real_panel_is_ingested_without_a_rejected_row(real_panel, tmp_path):
    recent = pl.col("date") >= date(2024, 6, 1)
    folder = tmp_path / "month"
    folder.mkdir()
    for stem in ("prices", "official_rows", "market_caps_weekly"):
        rows = pl.scan_parquet(real_panel / f"{stem}.parquet").filter(recent).collect()
        rows.write_parquet(folder / f"{stem}.parquet")
    (folder / "listings.parquet").symlink_to(real_panel / "listings.parquet")
    result = done(tmp_path / "root", "ingest", "files", folder)
    assert re.search(r"[\d,]{6,} new, 0 changed, 0 rejected", result.stdout), result.stdout
