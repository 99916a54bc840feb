"""The yearly files of marcap, made of the fake market: parquet, and the older compressed CSV of texts."""

from __future__ import annotations

import gzip
import io

import polars as pl

from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Reply

PATH = "/master/data"
_IDS = {"KOSPI": "STK", "KOSDAQ": "KSQ", "KONEX": "KNX"}


def year_of(market: Market, year: int) -> pl.DataFrame:
    """Return the rows of a year as the file holds them: names of the source, whole numbers, a day as an instant."""
    rows = market.price.filter(pl.col("session").dt.year() == year)
    change = pl.col("close") - pl.col("base")
    return rows.select(
        pl.col("ticker").alias("Code"),
        pl.col("name").alias("Name"),
        pl.col("close").alias("Close"),
        pl.lit("중견기업부").alias("Dept"),
        pl.when(change > 0)
        .then(pl.lit("1"))
        .when(change < 0)
        .then(pl.lit("2"))
        .otherwise(pl.lit("3"))
        .alias("ChangeCode"),
        change.alias("Changes"),
        pl.col("change_pct").alias("ChagesRatio"),
        pl.col("volume").alias("Volume"),
        pl.col("traded_value").alias("Amount"),
        pl.col("open").alias("Open"),
        pl.col("high").alias("High"),
        pl.col("low").alias("Low"),
        pl.col("market_cap").alias("Marcap"),
        pl.col("shares").alias("Stocks"),
        pl.col("market").alias("Market"),
        pl.col("market").replace(_IDS).alias("MarketId"),
        pl.col("market_cap").rank("ordinal", descending=True).over("session").alias("Rank"),
        pl.col("session").cast(pl.Datetime("ns")).alias("Date"),
    )


def parquet(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_parquet(buffer)
    return buffer.getvalue()


def csv_gz(rows: pl.DataFrame) -> bytes:
    """Return the same as compressed CSV; a code loses no zero, a day is a text."""
    return gzip.compress(rows.with_columns(pl.col("Date").dt.date()).write_csv().encode())


def serve_marcap(exchange: FakeExchange, market: Market, year: int = 2026, *, suffix: str = "parquet") -> None:
    """Serve the file of a year; every other one is not there."""
    content = (parquet if suffix == "parquet" else csv_gz)(year_of(market, year))
    exchange.serve(f"{PATH}/*", Reply(b"404: Not Found", status=404, content_type="text/plain"))
    exchange.serve(f"{PATH}/marcap-{year}.{suffix}", Reply(content, content_type="application/octet-stream"))
