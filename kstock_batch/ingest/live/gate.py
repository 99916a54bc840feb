"""The gate: what may not count as a whole day. Half a market must neither be scored nor be learnt from."""

from datetime import date, timedelta

import duckdb
import polars as pl

from kstock_batch.ingest.live.datasets import LiveDataset
from kstock_batch.market.tables import Table
from kstock_batch.settings import Settings

MARKETS = ("KOSPI", "KOSDAQ")
USUAL_OF = 20  # stored sessions whose median is the usual count
NEAR = timedelta(days=60)  # a market grows: sessions farther away tell another one
# A table without sessions near the day is measured by the listing, which knows more names than any of them has rows:
# preferred shares have no earnings, many small stocks no foreigner. It tells half a market, not a tenth of one.
SHARE_OF_LISTED = 0.5
MOST_REPEATED = 0.5  # of the stocks that traded; two sessions in a row share 0.0 % of their closes and volumes
# What features read, and how many weekdays before the session its newest known close is: a rate is known a day later.
SERIES = {"VIX": 1, "SP500": 1, "USDKRW": 2}


def shortfall(
    con: duckdb.DuckDBPyConnection, dataset: LiveDataset, day: date, rows: pl.DataFrame, settings: Settings
) -> str | None:
    """Return why the rows are no whole day, as part of a sentence; None = they are."""
    if dataset.name == "macro":
        return _late_series(con, rows, day)
    if not dataset.is_whole_market:
        return None
    if dataset.name == "price" and (why := _repeated(con, rows, day)):
        return why
    n_rows, (usual, share) = _by_market(con, dataset.table, rows), _usual(con, dataset.table, rows, day, settings)
    short = [
        f"{n_rows.get(market, 0):,} {market} names of the usual {n:,.0f}"
        for market, n in sorted(usual.items())
        if n_rows.get(market, 0) < share * n
    ]
    return f"gave only {' and '.join(short)}" if short else None


def is_untraded(dataset: LiveDataset, rows: pl.DataFrame) -> bool:
    """Whether the prices are those a source invents for a day on which nothing traded."""
    return dataset.name == "price" and not rows.is_empty() and rows["volume"].fill_null(0).sum() == 0


def _by_market(con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame) -> dict[str, int]:
    if "market" in table.columns:
        counts = rows.group_by("market").len()
    else:
        market_of = con.sql("SELECT ticker, market FROM listing").pl()
        counts = rows.join(market_of, on="ticker", how="inner", validate="m:1").group_by("market").len()
    return {market: n for market, n in counts.iter_rows() if market in MARKETS}


def _usual(
    con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, day: date, settings: Settings
) -> tuple[dict[str, float], float]:
    """Return each market's usual number of rows, and which share of it makes a whole day."""
    if table.day is not None and (usual := _median_nearby(con, table, rows, day)):
        return usual, settings.min_session_share
    listed = con.execute(
        "SELECT market, count(*) FROM listing WHERE market IN ('KOSPI', 'KOSDAQ')"
        " AND coalesce(first_seen <= $day, true) AND coalesce(last_seen >= $day, true) GROUP BY market",
        {"day": day},
    ).fetchall()
    if not listed and table.name == "raw_listing":  # the first list of all: there must be something of each
        return dict.fromkeys(MARKETS, 1.0), 1.0
    (newest,) = con.execute("SELECT max(available_at)::DATE FROM raw_listing").fetchall()[0]
    is_next_list = table.name == "raw_listing" and newest <= day
    return dict(listed), settings.min_session_share if is_next_list else SHARE_OF_LISTED


def _median_nearby(con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, day: date) -> dict[str, float]:
    """Return the median of the stored sessions nearest to ``day``, none if there is no such session."""
    has_basis = "price_basis" in table.columns
    basis = "AND t.price_basis = $basis" if has_basis else ""
    of_basis = {"basis": rows["price_basis"][0]} if has_basis else {}
    counts = con.sql(
        f"SELECT l.market, t.session, count(DISTINCT t.ticker) AS n FROM {table.name} AS t"
        f" JOIN listing AS l ON l.ticker = t.ticker AND l.market IN ('KOSPI', 'KOSDAQ')"
        f" WHERE t.session BETWEEN $first AND $last AND t.session <> $day AND t.retracted_at IS NULL {basis}"
        f" GROUP BY l.market, t.session",
        params={"first": day - NEAR, "last": day + NEAR, "day": day} | of_basis,
    ).pl()
    nearest = counts.with_columns(away=(pl.col("session") - day).abs()).sort("market", "away", "session")
    return dict(nearest.group_by("market").head(USUAL_OF).group_by("market").agg(pl.col("n").median()).iter_rows())


def _repeated(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, day: date) -> str | None:
    """Return a sentence if the prices are those of the session before under another date."""
    before = con.sql(
        "SELECT ticker, session, close, volume FROM price WHERE price_basis = $basis AND session = (SELECT max(session)"
        " FROM raw_price WHERE session < $day AND session >= $day - INTERVAL 30 DAY AND price_basis = $basis)",
        params={"day": day, "basis": rows["price_basis"][0]},
    ).pl()
    traded = rows.filter(pl.col("volume") > 0)
    same = traded.join(before, on=["ticker", "close", "volume"], how="semi")
    if same.height <= MOST_REPEATED * max(traded.height, 1):
        return None
    return f"repeats {before['session'][0]}: {same.height:,} of {traded.height:,} closes and volumes are the same"


def _late_series(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, day: date) -> str | None:
    """Return which series end too early, those of other sources that are stored included.

    A holiday abroad looks the same; the next night then asks once more.
    """
    stored = con.execute(
        "SELECT series, max(event_date) FROM raw_macro WHERE event_date <= $day AND retracted_at IS NULL"
        " GROUP BY series",
        {"day": day},
    ).fetchall()
    newest = dict(stored)
    for series, last in rows.group_by("series").agg(pl.col("event_date").max()).iter_rows():
        newest[series] = max(last, newest.get(series, last))
    late = [name for name, back in SERIES.items() if newest.get(name, date.min) < _weekday_before(day, back)]
    return f"has nothing new of {' and '.join(late)}" if late else None


def _weekday_before(day: date, n: int) -> date:
    for _ in range(n):
        day -= timedelta(days=3 if day.weekday() == 0 else 1)
    return day
