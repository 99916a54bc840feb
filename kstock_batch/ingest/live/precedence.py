"""Which rows of an answer are news: of two sources the one that comes first in the order is believed.

- A key nobody has told of is news.
- Another value is news from the source that told the stored one, from one before it in the order, and from one that is
  not in the order (a folder of files) never more than from a live one. Differences within tolerance are none.
- A source that leaves a column blank contradicts nobody: what another one knows is kept, and a source further down the
  order may fill what those before it leave blank.
- Facts that sources tell anew every evening (listings, designations, filings, series) are known since they were first
  told. A later repetition is no news; an earlier one is, as long as nothing else was told in between.
"""

from collections.abc import Mapping, Sequence

import duckdb
import polars as pl

from kstock_batch.ingest.live.agreement import is_other
from kstock_batch.ingest.versions import standing
from kstock_batch.market.tables import Table

NEVER_FILLED = {"last_seen"}  # blank means that the stock is listed


def news(con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """Return the rows that say something the store does not hold, each merged with what it leaves blank."""
    rank = {source: n for n, source in enumerate(order)}
    key, values = key_of(table), [name for name in table.columns if name not in table.key]
    both = rows.join(stored(con, table, rows, rank), on=key, how="left", validate="m:1")
    is_new = pl.col("source_stored").is_null()
    wins = is_new | (_rank("source", rank) <= _rank("source_stored", rank))
    contradicts = pl.any_horizontal(pl.lit(False), *(_contradicts(name) for name in values))
    merged = both.with_columns(
        wins.alias("wins"),
        contradicts.alias("contradicts"),
        *(_merged(name, wins).alias(name) for name in values),
        source=pl.when(wins).then("source").otherwise("source_stored"),
    )
    differs = pl.any_horizontal(pl.lit(False), *(_is_news(table, name) for name in values))
    in_time = pl.col("available_at") >= pl.col("available_at_stored")
    kept = is_new | (differs if table.on_session else differs & in_time)
    if not table.on_session:
        sooner = (pl.col("available_at") < pl.col("available_at_stored")) & ~pl.col("contradicts")
        kept = kept | (sooner & (pl.col("available_at") > pl.col("available_at_before")).fill_null(True))
    return merged.filter(kept).select(rows.columns)


def key_of(table: Table) -> list[str]:
    """Return what identifies a fact, whoever tells it."""
    return [name for name in table.key if name != "source"]


def stored(con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, rank: Mapping[str, int]) -> pl.DataFrame:
    """Return what stands of the keys of ``rows``: every column with the suffix _stored, of the source that is believed.

    ``available_at_before`` is that of the version before the standing one.
    """
    key = key_of(table)
    columns = [name for name in (*table.columns, "source", "available_at") if name not in key]
    on_key = " AND ".join(f"b.{name} = s.{name}" for name in key)
    before, within, days = "NULL::TIMESTAMP", "", {}
    if table.on_session and table.day:
        within = f"WHERE s.{table.day} BETWEEN $first AND $last"
        days = {"first": rows[table.day].min(), "last": rows[table.day].max()}
    else:
        before = (
            f"(SELECT max(b.available_at) FROM {table.name} AS b WHERE {on_key}"
            f" AND b.retracted_at IS NULL AND b.version < s.version)"
        )
    kept = ", ".join([*(f"s.{name}" for name in key), *(f"s.{name} AS {name}_stored" for name in columns)])
    known: pl.DataFrame = con.sql(
        f"SELECT {kept}, {before} AS available_at_before FROM ({standing(table)}) AS s {within}", params=days or None
    ).pl()
    return known.sort(_rank("source_stored", rank), "source_stored").unique(key, keep="first", maintain_order=True)


def _rank(column: str, rank: Mapping[str, int]) -> pl.Expr:
    return pl.col(column).replace_strict(rank, default=len(rank), return_dtype=pl.Int64)


def _merged(name: str, wins: pl.Expr) -> pl.Expr:
    ours, theirs = pl.col(name), pl.col(f"{name}_stored")
    if name in NEVER_FILLED:
        return pl.when(wins).then(ours).otherwise(theirs)
    return pl.when(wins).then(pl.coalesce(ours, theirs)).otherwise(pl.coalesce(theirs, ours))


def _contradicts(name: str) -> pl.Expr:
    """Return whether a value as it was told, not as it is merged, is another than the stored one."""
    is_blank = pl.lit(False) if name in NEVER_FILLED else pl.col(name).is_null()
    return ~is_blank & _is_exactly_other(name)


def _is_news(table: Table, name: str) -> pl.Expr:
    """Return whether the merged value is another than the stored one: of the same source to the last digit."""
    is_own = (pl.col("source") == pl.col("source_stored")) & pl.col("wins")
    return pl.when(is_own).then(_is_exactly_other(name)).otherwise(is_other(table, name, f"{name}_stored"))


def _is_exactly_other(name: str) -> pl.Expr:
    return pl.col(name).ne_missing(pl.col(f"{name}_stored"))
