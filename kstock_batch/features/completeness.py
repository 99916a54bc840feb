"""Whether a session's data are all there: half a session must neither be scored nor be learnt from."""

from dataclasses import dataclass
from datetime import date

import duckdb

from kstock_batch.errors import DataNotReady
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query


@dataclass(frozen=True)
class MarketCount:
    """The names a market printed on a session, beside its median of the 20 sessions before."""

    market: str
    n_rows: int
    n_usual: float
    share: float

    def __str__(self) -> str:
        """Return market, counts and share in words."""
        return f"{self.n_rows:,} {self.market} names, {self.share:.0%} of the usual {self.n_usual:,.0f}"


def market_counts(con: duckdb.DuckDBPyConnection, as_of: date, settings: Settings) -> list[MarketCount]:
    """Return the count of each market that printed names lately."""
    query = Query.load("features/session_completeness")
    return [MarketCount(*row) for row in query.frame(con, as_of=as_of, basis=settings.price_basis).rows()]


def require_complete(con: duckdb.DuckDBPyConnection, as_of: date, settings: Settings) -> None:
    """Raise if a market printed markedly fewer names on ``as_of`` than its median of the 20 sessions before."""
    for count in market_counts(con, as_of, settings):
        if count.share < settings.min_session_share:
            raise DataNotReady(
                f"{as_of} has {count}",
                fix="ingest the rest of the session and run this again (min_session_share sets the limit)",
            )
