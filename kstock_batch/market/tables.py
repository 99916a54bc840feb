"""Contracts of the raw tables: columns, keys, and the rules every row of a source must keep.

A rule is a polars expression that is true for a BAD row. Rows that break one go to quarantine with its name.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from types import MappingProxyType
from typing import Literal

import polars as pl

from kstock_batch.market.sessions import cutoff_at
from kstock_batch.market.ticks import is_off_grid

ColumnType = Literal["text", "number", "count", "date", "flag"]


@dataclass(frozen=True)
class Rule:
    """Something a row may not be; ``is_broken`` is true or null-safe false for each row."""

    name: str
    is_broken: pl.Expr


@dataclass(frozen=True)
class Table:
    """One raw table: its columns in order with their types, its key, its rules.

    ``derived`` repairs a source's habits before the rules are asked; ``day`` is the column a row's session stands in.
    ``for_its_night``: a row that is known only after its session's own night is of no use. ``is_announced``: a row may
    be known before its session.
    """

    name: str
    columns: dict[str, ColumnType]
    key: tuple[str, ...]
    required: tuple[str, ...]
    rules: tuple[Rule, ...] = ()
    derived: dict[str, pl.Expr] = field(default_factory=dict)
    day: str | None = None
    on_session: bool = False
    for_its_night: bool = False
    is_announced: bool = False


_C = pl.col
_TICKER = Rule("ticker_is_not_six_characters", ~_C("ticker").str.contains(r"^[0-9A-Z]{6}$"))
# A suspended stock is printed with a close but 0 as open, high and low: it traded nowhere but at its last close. So is
# one of which nothing but blocks changed hands after hours, which are its volume: the exchange prints no change of it.
_NO_TRADE = (_C("volume") == 0) | ((_C("price_basis") == "raw") & (_C("change_pct") == 0))
_SUSPENDED = (_C("open") == 0) & (_C("high") == 0) & (_C("low") == 0) & _NO_TRADE
# Where a stock stood without trading, a capital reduction may have put it off the grid.
_PRICES = ("open", "high", "low", "close")
_TRADED_RAW = (_C("price_basis") == "raw") & (_C("volume") > 0)


def _last_close_if_suspended(column: str) -> pl.Expr:
    return pl.when(_SUSPENDED).then(_C("close")).otherwise(_C(column)).alias(column)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "raw_price",
            {
                "ticker": "text",
                "session": "date",
                "price_basis": "text",
                "open": "number",
                "high": "number",
                "low": "number",
                "close": "number",
                "volume": "count",
                "traded_value": "number",
                "change_pct": "number",
                "shares_outstanding": "count",
            },
            key=("ticker", "session", "price_basis"),
            required=("ticker", "session", "open", "high", "low", "close", "volume"),
            rules=(
                _TICKER,
                Rule("price_is_not_positive", pl.min_horizontal("open", "high", "low", "close") <= 0),
                Rule("high_below_low", _C("high") < _C("low")),
                Rule("high_below_open_or_close", _C("high") < pl.max_horizontal("open", "close")),
                Rule("low_above_open_or_close", _C("low") > pl.min_horizontal("open", "close")),
                Rule("volume_is_negative", _C("volume") < 0),
                Rule(
                    "off_the_tick_grid",
                    _TRADED_RAW & pl.any_horizontal(is_off_grid(_C(name), _C("session")) for name in _PRICES),
                ),
            ),
            derived={name: _last_close_if_suspended(name) for name in ("open", "high", "low")},
            day="session",
            on_session=True,
            for_its_night=True,
        ),
        Table(
            "raw_market_cap",
            {"ticker": "text", "session": "date", "market_cap": "number", "shares_outstanding": "number"},
            key=("ticker", "session", "source"),
            required=("ticker", "session", "market_cap"),
            rules=(_TICKER, Rule("market_cap_is_not_positive", _C("market_cap") <= 0)),
            day="session",
            on_session=True,
        ),
        Table(
            "raw_listing",
            {
                "ticker": "text",
                "name": "text",
                "market": "text",
                "sector": "text",
                "industry": "text",
                "is_spac": "flag",
                "is_preferred": "flag",
                "first_seen": "date",
                "last_seen": "date",
            },
            key=("ticker",),
            required=("ticker", "name", "market"),
            rules=(
                _TICKER,
                Rule("unknown_market", ~_C("market").is_in(["KOSPI", "KOSDAQ", "KONEX"])),
                Rule("in_two_markets", _C("market").n_unique().over("ticker") > 1),
            ),
            # Both are facts of the name and the code, so a source that leaves them out loses nothing:
            # a SPAC must be named one, and only common shares have codes ending in 0.
            derived={
                "is_spac": _C("is_spac").fill_null(_C("name").str.contains("스팩")),
                "is_preferred": _C("is_preferred").fill_null(~_C("ticker").str.ends_with("0")),
            },
        ),
        Table(
            "raw_financial",
            {
                "ticker": "text",
                "period_end": "date",
                "revenue_ytd": "number",
                "op_income_ytd": "number",
                "net_income_ytd": "number",
                "equity": "number",
                "liabilities": "number",
                "assets": "number",
                "debt_ratio": "number",
            },
            key=("ticker", "period_end"),
            required=("ticker", "period_end"),
            rules=(_TICKER, Rule("known_before_period_end", _C("available_at").dt.date() < _C("period_end"))),
            day="period_end",
        ),
        Table(
            "raw_valuation",
            {"ticker": "text", "session": "date", "per": "number", "pbr": "number", "eps": "number", "bps": "number"},
            key=("ticker", "session"),
            required=("ticker", "session"),
            rules=(_TICKER,),
            day="session",
            on_session=True,
        ),
        Table(
            "raw_flow",
            {
                "ticker": "text",
                "session": "date",
                "foreign_net": "number",
                "institution_net": "number",
                "foreign_holding_pct": "number",
            },
            key=("ticker", "session"),
            required=("ticker", "session"),
            rules=(_TICKER, Rule("holding_is_no_percentage", ~_C("foreign_holding_pct").is_between(0, 100))),
            day="session",
            on_session=True,
        ),
        Table(
            "raw_short_balance",
            {"ticker": "text", "session": "date", "short_balance": "count", "short_balance_pct": "number"},
            key=("ticker", "session"),
            required=("ticker", "session", "short_balance"),
            rules=(_TICKER, Rule("short_balance_is_negative", _C("short_balance") < 0)),
            day="session",
            on_session=True,
        ),
        Table(
            "raw_designation",
            {"ticker": "text", "kind": "text", "designated_on": "date", "reason": "text"},
            key=("ticker", "kind", "designated_on"),
            required=("ticker", "kind", "designated_on"),
            rules=(_TICKER,),
            day="designated_on",
        ),
        Table(
            "raw_market_flow",
            {"market": "text", "investor": "text", "session": "date", "net_value": "number"},
            key=("market", "investor", "session"),
            required=("market", "investor", "session", "net_value"),
            day="session",
            on_session=True,
        ),
        Table(
            "raw_corporate_action",
            {"ticker": "text", "session": "date", "factor": "number", "kind": "text"},
            key=("ticker", "session"),
            required=("ticker", "session", "factor"),
            rules=(_TICKER, Rule("factor_is_not_positive", _C("factor") <= 0)),
            day="session",
            on_session=True,
            is_announced=True,
        ),
        Table(
            "raw_macro",
            {"series": "text", "event_date": "date", "close": "number"},
            key=("series", "event_date"),
            required=("series", "event_date", "close"),
            day="event_date",
        ),
    )
}


def rules_for(
    table: Table,
    *,
    sessions: Collection[date],
    now: datetime,
    today: date,
    cutoffs: Mapping[date, datetime] = MappingProxyType({}),
) -> tuple[Rule, ...]:
    """Return the rules of ``table`` in the order they are asked: missing, not finite, its own, its dates, its key.

    ``now`` is UTC, ``today`` the date in Seoul: a session's rows count only once they are final. ``cutoffs`` of the
    sessions: one that is not among them has the usual one.
    """
    missing = [Rule(f"{name}_is_missing", _C(name).is_null()) for name in (*table.required, "available_at")]
    numbers = [name for name, kind in table.columns.items() if kind == "number"]
    finite = [Rule(f"{name}_is_not_finite", ~_C(name).is_finite()) for name in numbers]
    dates: list[Rule] = []
    if table.day and table.for_its_night:
        # Its own night could not score it, and later ones could not repeat what they made of it.
        dates.append(Rule("known_after_its_own_night", _C("available_at") > _night(_C(table.day), sessions, cutoffs)))
    if table.day:
        dates.append(Rule("date_in_the_future", _C(table.day) > today))
    if table.day and table.on_session:
        dates.append(Rule("not_a_session", ~_C(table.day).is_in(list(sessions))))
        dates.append(Rule("not_final_yet", _C("available_at") > now))
    repeated = Rule("duplicate_key", pl.struct(table.key).is_duplicated())
    return (*missing, *finite, *table.rules, *dates, repeated)


def _night(session: pl.Expr, sessions: Collection[date], cutoffs: Mapping[date, datetime]) -> pl.Expr:
    """Return the cutoff of each row's session; null on a day that is none."""
    known = {day: cutoffs.get(day, cutoff_at(day)) for day in sessions}
    return session.replace_strict(known, default=None, return_dtype=pl.Datetime("us"))


UNKNOWN_SINCE = datetime(1900, 1, 1)
