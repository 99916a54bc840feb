"""Whether a session's data are all there: half a session must neither be scored nor be learnt from."""

from datetime import date

import duckdb

from kstock_batch.errors import DataNotReady
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query


def require_complete(con: duckdb.DuckDBPyConnection, as_of: date, settings: Settings) -> None:
    """Raise if a market printed markedly fewer names on ``as_of`` than its median of the 20 sessions before."""
    query = Query.load("features/session_completeness")
    for market, n_rows, n_usual, share in query.frame(con, as_of=as_of, basis=settings.price_basis).rows():
        if share < settings.min_session_share:
            raise DataNotReady(
                f"{as_of} has {n_rows:,} {market} names, {share:.0%} of the usual {n_usual:,.0f}",
                fix="ingest the rest of the session and run this again (min_session_share sets the limit)",
            )
