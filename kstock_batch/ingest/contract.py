"""The contract of a batch: every rule of its table, asked of each row, and of the rows together with what is stored.

The rules are our own rather than a schema library's (dataframely 3.1 was tried: sound, and on 3.4 million rows 0.5 s
faster). Half of them are told only as a batch comes in: the calendar, the clock, what the store holds. And the tables'
columns and keys are read by the mapping of files, by the versions and by the SQL: a second description of the same
tables would have to be kept equal, for 8.7 MB of compiled code.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from kstock_batch.ingest.calendar import Calendar, frame_of
from kstock_batch.market.price_moves import BEFORE, N_FOLLOWED, is_traded_raw, move_rules, with_moves
from kstock_batch.market.sessions import SETTLING, Sessions, seoul_date
from kstock_batch.market.tables import Rule, Table, rules_for
from kstock_batch.store.queries import Query

CAP_TOLERANCE = 0.001  # of close times shares: all 322,525 official rows and 346,262 weekly ones hold it to the won


@dataclass(frozen=True)
class Judged:
    """A batch's rows: those that keep every rule, and the others with the name of the first ``rule`` they break."""

    good: pl.DataFrame
    bad: pl.DataFrame

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows broke which rule."""
        return dict(Counter(self.bad["rule"].to_list()))


def judge(rows: pl.DataFrame, rules: tuple[Rule, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that keep every rule, and the others with the name of the first ``rule`` they break."""
    broken = pl.coalesce(
        *(pl.when(rule.is_broken.fill_null(False)).then(pl.lit(rule.name)) for rule in rules),
        pl.lit(None, dtype=pl.String),
    )
    judged = rows.with_columns(broken.alias("rule"))
    return judged.filter(pl.col("rule").is_null()).drop("rule"), judged.filter(pl.col("rule").is_not_null())


def judge_batch(
    con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, calendar: Calendar, now: datetime
) -> Judged:
    """Return what the whole contract makes of rows of ``table``; what is stored is read, nothing is written."""
    cutoffs = {day: hours.cutoff_at for day, hours in calendar.items()}
    rules = rules_for(table, sessions=calendar.keys(), now=now, today=seoul_date(now), cutoffs=cutoffs)
    good, bad = judge(rows, rules)
    if table.name == "raw_price":
        good, moved = _judge_moves(con, good, calendar)
        bad = pl.concat([bad, moved])
    elif table.name == "raw_market_cap":
        good, other = _judge_caps(con, good)
        bad = pl.concat([bad, other])
    return Judged(good, bad)


def final_rows(table: Table, rows: pl.DataFrame, calendar: Calendar) -> pl.DataFrame:
    """Return rows of a live source with the table's habits repaired, none known before its session's prices are final.

    A source says 15:45 of every day; when the exchange closes an hour late, that is an hour early.
    """
    rows = rows.with_columns(**table.derived)
    if not (table.day and table.on_session) or table.is_announced:
        return rows
    final = {day: hours.closes_at + SETTLING for day, hours in calendar.items()}
    final_at = pl.col(table.day).replace_strict(final, default=None, return_dtype=pl.Datetime("us"))
    return rows.with_columns(pl.max_horizontal("available_at", final_at).alias("available_at"))


def _judge_moves(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, calendar: Calendar
) -> tuple[pl.DataFrame, pl.DataFrame]:
    raw = rows.filter(is_traded_raw())
    if raw.is_empty():
        return rows, rows.clear().with_columns(rule=pl.lit(None, dtype=pl.String))
    start, end = _span(raw)
    days = {"start": Sessions(list(calendar)).back(start, N_FOLLOWED), "end": end}
    stored = Query.load("ingest/traded").frame(con, **days)
    stated = Query.load("ingest/stated_action").frame(con, **days)
    sessions = frame_of(calendar).select("session", session_number=pl.int_range(pl.len()))

    def broken_by(asked: pl.DataFrame, told: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        key = ["ticker", "session"]
        own = told.filter(is_traded_raw()).select(*key, "close")
        traded = pl.concat([own, stored.join(own, on=key, how="anti")])
        good, bad = judge(with_moves(asked, traded, sessions, stated), move_rules())
        return good.drop(BEFORE), bad.drop(BEFORE)

    good, suspect = broken_by(rows, rows)
    # A wrong row makes the right one after it look wrong, too: what is suspect is asked again beside the good ones.
    right, bad = broken_by(suspect.drop("rule"), good)
    return pl.concat([good, right]), bad


def _judge_caps(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    if rows.is_empty():
        return rows, rows.with_columns(rule=pl.lit(None, dtype=pl.String))
    start, end = _span(rows)
    closes = Query.load("ingest/raw_close").frame(con, start=start, end=end)
    beside = rows.join(closes, on=["ticker", "session"], how="left", validate="m:1")
    told = pl.col("close") * pl.col("shares_outstanding")
    is_other = (pl.col("market_cap") - told).abs() > CAP_TOLERANCE * told
    good, bad = judge(beside, (Rule("market_cap_is_not_close_times_shares", is_other),))
    return good.drop("close"), bad.drop("close")


def _span(rows: pl.DataFrame) -> tuple[date, date]:
    return rows["session"].min(), rows["session"].max()  # type: ignore[return-value]  # dates, none of them null
