"""The marcap files as a source: a year at a time, kept here, a damaged one named and fetched anew."""

import logging
import os
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fake_exchange.marcap import PATH, csv_gz, parquet, serve_marcap, year_of
from fake_exchange.market import HALTED, small_market
from fake_exchange.server import BLOCK_PAGE, FakeExchange, Reply, replaced
from kstock_batch.errors import SourceBlocked, SourceChanged, SourceUnreachable
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.marcap import Marcap
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.settings import Settings

MARKET = small_market()
FIRST, LAST = MARKET.sessions[0], MARKET.sessions[-1]
NEW_YEAR, NEW_YEARS_EVE = date(2026, 1, 1), date(2026, 12, 31)
FILE = f"{PATH}/marcap-2026.parquet"


@pytest.fixture
def exchange():
    with FakeExchange() as running:
        serve_marcap(running, MARKET)
        yield running


@pytest.fixture
def marcap(exchange, tmp_path):
    return opened(exchange, tmp_path)


def opened(exchange, root):
    """Return the source as a new run makes it."""
    session = PoliteSession("marcap", SourceState(root / "state"), Limits(attempts=1, min_interval_s=0, timeout_s=5))
    return Marcap(Settings(root=root, marcap_url=exchange.url), session, {})


def cached(root, name="marcap-2026.parquet"):
    return root / "warehouse" / "sources" / "cache" / name


def serve(exchange, rows, path=FILE, write=parquet):
    exchange.serve(path, Reply(write(rows), content_type="application/octet-stream"))


def prices_of(session):
    """Return what raw_price must hold of a session: a halted stock traded nowhere but at its last close."""
    rows = MARKET.of("price", session)
    won = {
        name: pl.when(pl.col("volume") == 0).then("close").otherwise(name).cast(float)
        for name in ("open", "high", "low")
    }
    return rows.select(
        "ticker", "session", pl.lit("raw").alias("price_basis"), *(value.alias(name) for name, value in won.items()),
        pl.col("close").cast(float), "volume", pl.col("traded_value").cast(float), "change_pct",
        pl.col("shares").alias("shares_outstanding"), pl.lit("marcap").alias("source"),
        pl.lit(datetime.combine(session, datetime.min.time()).replace(hour=6, minute=45)).alias("available_at"),
    )  # fmt: skip


@pytest.mark.parametrize("session", [FIRST, MARKET.sessions[20], LAST])
def test_prices_come_as_printed_to_the_last_digit_and_count_from_a_quarter_to_four_in_seoul(marcap, session):
    assert_frame_equal(marcap.fetch("price", session, session), prices_of(session))
    assert marcap.n_calls == 1


def test_a_halted_stock_stands_at_its_last_close(marcap):
    day = MARKET.sessions[21]
    row = marcap.fetch("price", day, day).filter(ticker=HALTED).row(0, named=True)
    assert row["open"] == row["high"] == row["low"] == row["close"] > 0 == row["volume"]


def test_market_capitalisation_is_in_won_and_shares(marcap):
    rows = marcap.fetch("market_cap", LAST, LAST)
    told = rows.select("ticker", pl.col("market_cap").cast(int), pl.col("shares_outstanding").cast(int))
    assert_frame_equal(
        told, MARKET.of("price", LAST).select("ticker", "market_cap", pl.col("shares").alias("shares_outstanding"))
    )
    assert rows.columns == [*DATASETS["market_cap"].table.columns, "source", "available_at"]


def test_a_listing_is_the_last_row_of_each_ticker_in_these_days(marcap):
    rows = marcap.fetch("listing", FIRST, LAST)
    last = MARKET.price.group_by("ticker").agg(pl.col("session").max()).sort("ticker")
    assert rows["ticker"].to_list() == last["ticker"].to_list()
    at = datetime.combine(last["session"][0], datetime.min.time()).replace(hour=6, minute=45)
    assert rows["available_at"][0] == at
    names = MARKET.listing.filter(pl.col("ticker").is_in(rows["ticker"].implode())).sort("ticker")
    for column in ("name", "market", "is_spac"):
        assert rows[column].to_list() == names[column].to_list(), column


def test_a_day_on_which_the_exchange_was_closed_has_no_rows(marcap):
    assert marcap.fetch("price", date(2026, 6, 3), date(2026, 6, 3)).is_empty()


def test_a_year_without_a_file_has_no_rows(marcap, exchange):
    rows = marcap.fetch("price", date(1990, 1, 1), date(1990, 12, 31))
    assert rows.is_empty()
    assert rows.columns == [*DATASETS["price"].table.columns, "source", "available_at"]
    assert exchange.n_calls() == 2, "the parquet file, then the older form"


def test_an_older_year_comes_as_compressed_csv_with_the_same_rows(exchange, tmp_path):
    serve_marcap(exchange, MARKET, suffix="csv.gz")
    exchange.serve(FILE, Reply(b"404: Not Found", status=404))
    assert_frame_equal(opened(exchange, tmp_path).fetch("price", LAST, LAST), prices_of(LAST))
    assert cached(tmp_path, "marcap-2026.csv.gz").is_file()


def test_codes_that_lost_their_zeros_have_them_again(exchange, tmp_path):
    rows = year_of(MARKET, 2026).with_columns(pl.col("Code").str.strip_chars_start("0"))
    serve(exchange, rows)
    assert (
        opened(exchange, tmp_path).fetch("price", LAST, LAST)["ticker"].to_list() == prices_of(LAST)["ticker"].to_list()
    )


def test_stocks_of_the_third_market_are_left_out(exchange, tmp_path):
    rows = year_of(MARKET, 2026)
    small = pl.when(pl.col("Code") == HALTED).then(pl.lit("KNX")).otherwise("MarketId").alias("MarketId")
    serve(exchange, rows.with_columns(small))
    told = opened(exchange, tmp_path).fetch("price", LAST, LAST)["ticker"].to_list()
    assert told == [ticker for ticker in prices_of(LAST)["ticker"] if ticker != HALTED]


def test_what_is_here_is_not_fetched_again(exchange, tmp_path):
    for _ in range(2):
        marcap = opened(exchange, tmp_path)
        for dataset in ("price", "market_cap", "listing"):
            marcap.fetch(dataset, FIRST, LAST)
    assert exchange.n_calls() == 1


def test_the_growing_year_is_fetched_again_for_a_day_it_has_not_yet_and_once_a_run(exchange, tmp_path):
    yesterday, today = MARKET.sessions[30:32]
    serve(exchange, year_of(MARKET.until(yesterday), 2026))
    marcap = opened(exchange, tmp_path)
    assert not marcap.fetch("price", yesterday, yesterday).is_empty()
    assert marcap.fetch("price", today, today).is_empty(), "not published yet"
    assert marcap.fetch("market_cap", today, today).is_empty()
    assert exchange.n_calls() == 2
    serve(exchange, year_of(MARKET.until(today), 2026))
    assert_frame_equal(opened(exchange, tmp_path).fetch("price", today, today), prices_of(today))
    assert exchange.n_calls() == 3


@pytest.mark.parametrize(
    ("fetched_on", "n_calls"), [(datetime(2027, 1, 4, tzinfo=UTC), 2), (datetime(2027, 1, 5, tzinfo=UTC), 1)]
)
def test_the_file_of_a_year_that_was_over_when_it_came_is_whole(exchange, tmp_path, fetched_on, n_calls):
    opened(exchange, tmp_path).fetch("price", NEW_YEAR, NEW_YEARS_EVE)
    os.utime(cached(tmp_path), (fetched_on.timestamp(),) * 2)
    opened(exchange, tmp_path).fetch("price", NEW_YEAR, NEW_YEARS_EVE)
    assert exchange.n_calls() == n_calls


def damage(path, kind):
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "page": b"<html>sorry</html>"}[kind])


@pytest.mark.parametrize("suffix", ["parquet", "csv.gz"])
@pytest.mark.parametrize("kind", ["cut", "empty", "page"])
def test_a_damaged_file_is_named_and_fetched_anew(exchange, tmp_path, suffix, kind, caplog):
    serve_marcap(exchange, MARKET, suffix=suffix)
    if suffix == "csv.gz":
        exchange.serve(FILE, Reply(b"404: Not Found", status=404))
    sound = opened(exchange, tmp_path).fetch("price", FIRST, LAST)
    path, n_before = cached(tmp_path, f"marcap-2026.{suffix}"), exchange.n_calls()
    damage(path, kind)
    with caplog.at_level(logging.WARNING):
        assert_frame_equal(opened(exchange, tmp_path).fetch("price", FIRST, LAST), sound)
    assert f"marcap-2026.{suffix} (" in caplog.text
    assert "it is fetched anew" in caplog.text
    assert exchange.n_calls() > n_before


def test_a_file_that_comes_damaged_twice_is_named_and_not_kept(exchange, tmp_path):
    content = parquet(year_of(MARKET, 2026))
    exchange.serve(FILE, Reply(content[: len(content) // 2], content_type="application/octet-stream"))
    with pytest.raises(SourceUnreachable, match=r"marcap: .*marcap-2026.parquet \([0-9,]+ bytes\) is damaged: "):
        opened(exchange, tmp_path).fetch("price", FIRST, LAST)
    assert exchange.n_calls() == 2
    assert not cached(tmp_path).exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (
            year_of(MARKET, 2026).rename({"ChagesRatio": "ChangesRatio"}),
            r"lacks \['ChagesRatio'\]; it has \['Amount', ",
        ),
        (year_of(MARKET, 2026).drop("Stocks"), r"marcap marcap-2026.parquet lacks \['Stocks'\]"),
        (
            year_of(MARKET, 2026).with_columns(MarketId=pl.lit("NXT")),
            r"marcap-2026.parquet has unknown markets \['NXT'\]",
        ),
    ],
)
def test_a_column_or_market_that_changed_is_named(exchange, tmp_path, rows, says):
    serve(exchange, rows)
    with pytest.raises(SourceChanged, match=says):
        opened(exchange, tmp_path).fetch("price", LAST, LAST)


def test_a_page_instead_of_the_file_shuts_the_source_and_is_not_kept(exchange, marcap, tmp_path):
    exchange.fail("*", BLOCK_PAGE)
    with pytest.raises(SourceBlocked, match="marcap has shut us out"):
        marcap.fetch("price", LAST, LAST)
    assert not cached(tmp_path).exists()


def test_another_answer_than_the_file_is_named(exchange, marcap, tmp_path):
    exchange.fail("*", replaced(Reply(b"gone", status=410, content_type="text/plain")))
    with pytest.raises(SourceChanged, match=r"marcap marcap-2026.parquet answers 410 Gone"):
        marcap.fetch("price", LAST, LAST)
    assert not cached(tmp_path).exists()


def test_two_years_are_two_files(exchange, marcap):
    rows = year_of(MARKET, 2026).with_columns(pl.col("Date").dt.offset_by("-1y"))
    serve(exchange, rows, f"{PATH}/marcap-2025.csv.gz", csv_gz)
    told = marcap.fetch("price", date(2025, 7, 1), date(2026, 7, 31))
    assert set(told["session"].dt.year()) == {2025, 2026}
    assert exchange.n_calls() == 3
    assert marcap.needs() == []
