"""Restatements: a source of adjusted prices that comes back at another level, as it does after a split.

Its new rows and the stored ones overlap. Where nearly all of those are off by one ratio, the source has restated the
ticker's past; the rows it did not send are brought to its level. Mixed levels would look like a crash that never was.
"""

from dataclasses import dataclass

import duckdb

from kstock_batch.ingest.versions import Delta
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query

N_ENDS = 20  # rows at either end of the overlap that tell the ratio there
FRACTION_THAT_AGREES = 0.8  # a row or two may be corrected besides


@dataclass(frozen=True)
class Restatement:
    """One ticker at another price level: new price = old price x ratio."""

    ticker: str
    ratio: float
    n_overlap: int
    n_rescaled: int

    def __str__(self) -> str:
        """Return it as an operator reads it."""
        return f"{self.ticker} x {self.ratio:.6g} ({self.n_overlap} rows overlap, {self.n_rescaled} others rescaled)"


def rescale_restated(con: duckdb.DuckDBPyConnection, delta: Delta, run: Run, *, retroactive: bool) -> list[Restatement]:
    """Add the unsent rows of restated tickers to the delta of raw_price, at the new level; return what was found."""
    if delta.table.name != "raw_price" or not delta.n_changed:
        return []
    limits = {"n_ends": N_ENDS, "fraction_that_agrees": FRACTION_THAT_AGREES}
    how = {"now": run.started_at, "retroactive": retroactive}
    con.execute(f"CREATE OR REPLACE TEMP TABLE restated AS {Query.load('ingest/restated').text}", limits)
    con.execute(f"INSERT INTO delta BY NAME {Query.load('ingest/rescaled').text}", how)
    con.execute(
        # Rows of the past count at the new level from then on, whether they were stored before or are late.
        "UPDATE delta SET available_at = CASE WHEN delta.is_new THEN greatest(delta.available_at, f.counts_from)"
        " ELSE least(delta.available_at, f.counts_from) END"
        f" FROM ({Query.load('ingest/restated_from').text}) AS f"
        " WHERE delta.ticker = f.ticker AND delta.session <= f.last_session"
        " AND delta.price_basis = 'adjusted' AND NOT delta.retracts"
    )
    found = con.execute(
        "SELECT r.ticker, CASE WHEN r.ratio <> 1 THEN r.ratio ELSE r.ratio_after END, r.n_overlap, count(d.ticker)"
        " FROM restated AS r LEFT JOIN delta AS d ON d.ticker = r.ticker AND d.is_rescaled"
        " GROUP BY ALL ORDER BY r.ticker"
    ).fetchall()
    con.execute("DROP TABLE restated")
    restatements = [Restatement(*row) for row in found]
    for one in restatements:
        con.execute(
            "INSERT INTO price_restatement VALUES ($run_id, $ticker, $ratio, $n_overlap, $n_rescaled, $now)",
            {"run_id": run.run_id, "now": run.started_at, **vars(one)},
        )
    return restatements
