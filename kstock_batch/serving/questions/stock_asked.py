"""The stock and session somebody asks about, or in one sentence why there is nothing to say of them."""

from dataclasses import dataclass
from datetime import date

import duckdb

from kstock_batch.errors import DataNotReady
from kstock_batch.features.sessions import session_asked
from kstock_batch.market.contract import MAX_WINDOW_SPAN, MIN_BARS, WINDOW
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query


@dataclass(frozen=True)
class StockAsked:
    """A stock with a scoreable bar on ``as_of``; its name is None where no listing tells it."""

    ticker: str
    as_of: date
    name: str | None

    @classmethod
    def find(cls, con: duckdb.DuckDBPyConnection, settings: Settings, ticker: str, as_of: date | None) -> "StockAsked":
        """Return the stock as-of the session, by default the newest in which any stock can be scored."""
        day = _session(con, settings, as_of)
        name, newest_bar, n_bars, is_scoreable = (
            Query.load("reports/stock_on").frame(con, ticker=ticker, as_of=day).row(0)
        )
        stock = cls(ticker, day, name)
        if newest_bar is None and name is None:
            raise DataNotReady(
                f"the store knows no stock {ticker} by {day}",
                fix='give a six-character code such as 005930; `kstock-batch sql --store "FROM listing"` lists them',
            )
        if newest_bar is None:
            raise DataNotReady(f"{stock} has no bar by {day}", fix="name a later session with --as-of")
        if newest_bar < day:
            raise DataNotReady(
                f"{stock} has no bar on {day}, its newest by then is of {newest_bar}", fix=f"use --as-of {newest_bar}"
            )
        if n_bars < MIN_BARS:
            raise DataNotReady(
                f"{stock} has {n_bars} bars by {day}, {MIN_BARS} are needed", fix="name a later session with --as-of"
            )
        if not is_scoreable:
            raise stock.not_scoreable()
        return stock

    def __str__(self) -> str:
        """Return ticker and name."""
        return f"{self.ticker} {self.name}" if self.name else self.ticker

    def not_scoreable(self) -> DataNotReady:
        """Return why a stock with bars enough has no prediction."""
        return DataNotReady(
            f"{self} is not scoreable on {self.as_of}: it did not trade, or its last {WINDOW} bars span more than"
            f" {MAX_WINDOW_SPAN} sessions, or it is no common stock of KOSPI or KOSDAQ, or a SPAC",
            fix="name another session with --as-of, or another stock",
        )


def _session(con: duckdb.DuckDBPyConnection, settings: Settings, as_of: date | None) -> date:
    """Return the session, whose features must be stored."""
    newest, newest_scoreable = con.execute(
        "SELECT max(as_of), max(as_of) FILTER (is_scoreable) FROM feature_daily"
    ).fetchall()[0]
    if as_of is None and newest_scoreable is not None:
        return date.fromisoformat(str(newest_scoreable))
    day = session_asked(con, as_of, settings.price_basis)
    if newest is None or day > newest:
        raise DataNotReady(f"features of {day} are not computed yet", fix="run `kstock-batch features`")
    if newest_scoreable is None:
        raise DataNotReady(f"no stock has the {MIN_BARS} bars to be scored", fix="ingest a longer history")
    return day
