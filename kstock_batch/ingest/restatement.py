"""Restatements: a source of adjusted prices that comes back at another level, as it does after a split.

Its new rows and the stored ones overlap. Where the earliest of those are all off by one ratio, the source has restated
the ticker's past; the rows from before the overlap, which it did not send, are brought to its level. Mixed levels would
look like a crash that never was.
"""

from dataclasses import dataclass

import duckdb

from kstock_batch.ingest.versions import Delta
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query

MIN_OVERLAP = 3  # one row that differs is a correction
MIN_RATIO_CHANGE = 0.001
# How far single rows may miss the common ratio: sources round restated prices to whole won.
TOLERANCE = 0.002


@dataclass(frozen=True)
class Restatement:
    """One ticker at another price level: new price = old price x ratio."""

    ticker: str
    ratio: float
    n_overlap: int
    n_rescaled: int

    def __str__(self) -> str:
        """Return it as an operator reads it."""
        return (
            f"{self.ticker} x {self.ratio:.6g} ({self.n_overlap} rows overlap, {self.n_rescaled} older rows rescaled)"
        )


def rescale_restated(con: duckdb.DuckDBPyConnection, delta: Delta, run: Run, *, retroactive: bool) -> list[Restatement]:
    """Add to the delta of raw_price the older rows of each restated ticker, at the new level; return what was found."""
    if delta.table.name != "raw_price" or not delta.n_changed:
        return []
    limits = {"min_overlap": MIN_OVERLAP, "min_ratio_change": MIN_RATIO_CHANGE, "tolerance": TOLERANCE}
    con.execute(f"CREATE OR REPLACE TEMP TABLE restated AS {Query.load('ingest/restated').text}", limits)
    con.execute(
        f"INSERT INTO delta BY NAME {Query.load('ingest/rescaled').text}",
        {"now": run.started_at, "retroactive": retroactive},
    )
    found = con.execute(
        "SELECT r.ticker, r.ratio, r.n_overlap, count(d.ticker) FROM restated AS r LEFT JOIN delta AS d"
        " ON d.ticker = r.ticker AND d.is_rescaled GROUP BY ALL ORDER BY r.ticker"
    ).fetchall()
    con.execute("DROP TABLE restated")
    restatements = [Restatement(*row) for row in found]
    for one in restatements:
        con.execute(
            "INSERT INTO price_restatement VALUES ($run_id, $ticker, $ratio, $n_overlap, $n_rescaled, $now)",
            {"run_id": run.run_id, "now": run.started_at, **vars(one)},
        )
    return restatements
