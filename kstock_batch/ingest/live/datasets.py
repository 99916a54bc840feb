"""The datasets a night is made of: which raw table each fills and when a session's rows are final."""

from dataclasses import dataclass
from datetime import time, timedelta

from kstock_batch.market.tables import TABLES, Table


@dataclass(frozen=True)
class LiveDataset:
    """Something that live sources are asked for.

    Attributes
    ----------
    name : what it is called in settings, in the ledger of batches and on the command line
    table : where its rows go
    final_at : Seoul wall-clock time from which a session's rows are final; before it they are provisional
    plus_sessions : how many sessions after its own day a row is final
    is_whole_market : a day has a row for nearly every stock of both markets, so that half a market can be told
    is_needed : no night is complete without it
    may_be_none : there are days without any, so an empty answer is a whole one
    is_open_ended : it has days of its own that are no sessions, or repeats itself: one question covers all that is due
    overlap : how far such a question reaches back before the first day that is due
    """

    name: str
    table: Table
    final_at: time
    plus_sessions: int = 0
    is_whole_market: bool = False
    is_needed: bool = False
    may_be_none: bool = False
    is_open_ended: bool = False
    overlap: timedelta = timedelta()


# FRED tells the won's rate of a week on the Monday after it; a filing may be received after the night has asked.
_A_WEEK_LATE, _OVER_A_WEEKEND = timedelta(days=10), timedelta(days=4)
_ALL_IN_FORCE = timedelta(days=20 * 365)  # a list without dates of its own: every one that stands

# Prices are final a quarter of an hour after the close, investor flows from 18:10, short balances two sessions later.
DATASETS: dict[str, LiveDataset] = {
    dataset.name: dataset
    for dataset in (
        LiveDataset("price", TABLES["raw_price"], time(15, 45), is_whole_market=True, is_needed=True),
        LiveDataset("market_cap", TABLES["raw_market_cap"], time(15, 45), is_whole_market=True),
        LiveDataset("listing", TABLES["raw_listing"], time(15, 45), is_whole_market=True, is_needed=True),
        LiveDataset(
            *("designation", TABLES["raw_designation"], time(15, 45)),
            may_be_none=True,
            is_open_ended=True,
            overlap=_ALL_IN_FORCE,
        ),
        LiveDataset("valuation", TABLES["raw_valuation"], time(18, 10), is_whole_market=True),
        LiveDataset("flow", TABLES["raw_flow"], time(18, 10), is_whole_market=True),
        LiveDataset("market_flow", TABLES["raw_market_flow"], time(18, 10)),
        LiveDataset("short_balance", TABLES["raw_short_balance"], time(18, 10), plus_sessions=2),
        LiveDataset("macro", TABLES["raw_macro"], time(7, 0), is_open_ended=True, overlap=_A_WEEK_LATE),
        LiveDataset(
            *("financial", TABLES["raw_financial"], time(18, 10)),
            may_be_none=True,
            is_open_ended=True,
            overlap=_OVER_A_WEEKEND,
        ),
    )
}
