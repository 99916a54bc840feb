"""The tradable check: what buying the highest would have brought, with costs, halts and limits in the way.

1. After the close of a session the highest of its predictions are chosen.
2. At the next session's open one of five tranches buys them, equal amounts each. What does not trade that session, or
   opens at its upper limit, is not bought; its money lies idle.
3. At the close of the fifth session held the tranche sells. What does not trade, or closes at its lower limit, is sold
   at the first close at which it does neither.
4. A stock that is delisted while held is worth what the settings say of its last close.

Tranches keep their own money: nothing is balanced between them, nothing is borrowed, idle money bears no interest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from kstock_batch.backtest.costs import Costs
from kstock_batch.backtest.market import DAILY_LIMIT, Market
from kstock_batch.judging.metrics import Floats, Integers
from kstock_batch.market.contract import HORIZON

Picks = Sequence[Integers | None]  # for each session of the market: columns of the stocks chosen after its close


@dataclass
class _Tranche:
    """One tranche under way: its money, and what it holds."""

    cash: float
    column: Integers
    units: Floats
    due: Integers  # number of the session at whose close it is to be sold


@dataclass(frozen=True)
class Course:
    """What became of a portfolio, and why.

    Attributes
    ----------
    daily : one row a session: return, equity, bought and sold as shares of the equity before, costs, tax, n_held
    n_wanted, n_halted, n_limited : orders to buy, and those not filled, because of a halt or the upper limit
    n_late, n_delisted : positions sold later than wanted, and gone while held
    capacity_won : capital at which nine of ten orders, and half of them, are within the share of the traded value
    """

    daily: pl.DataFrame
    n_wanted: int
    n_halted: int
    n_limited: int
    n_late: int
    n_delisted: int
    capacity_won: tuple[float | None, float | None]


def highest(rows: pl.DataFrame, by: str, market: Market, *, share: float = 1.0, most: int | None = None) -> Picks:
    """Return the stocks of each session with the highest ``by``: a ``share`` of them, or ``most`` of them."""
    chosen: dict[object, pl.Series] = {}
    for (day,), part in rows.select("as_of", "ticker", by).group_by("as_of"):
        n = min(part.height, most) if most is not None else max(1, int(part.height * share))
        chosen[day] = part.sort(by, "ticker", descending=[True, False])["ticker"].head(n)
    return [market.columns(chosen[day]) if day in chosen else None for day in market.sessions]


def trade(market: Market, picks: Picks, costs: Costs, *, hold: int = HORIZON) -> Course:
    """Return what becomes of the portfolio from the first session after a choice to the last after one."""
    first = next(number for number, chosen in enumerate(picks) if chosen is not None) + 1
    last = min(len(picks) - 1, max(number for number, chosen in enumerate(picks) if chosen is not None) + 1)
    nothing = np.empty(0, dtype=np.int64)
    tranches = [_Tranche(1 / hold, nothing, np.empty(0), nothing) for _ in range(hold)]
    told = {"n_wanted": 0, "n_halted": 0, "n_limited": 0, "n_late": 0, "n_delisted": 0}
    rows, equity = [], 1.0
    for number in range(first, last + 1):
        bought, paid = _buy(tranches[number % hold], market, number, picks[number - 1], costs, told, hold)
        sold, cost, tax = 0.0, paid, 0.0
        for tranche in tranches:
            _write_off(tranche, market, number, costs, told)
            got, spent, taken = _sell(tranche, market, number, costs, told)
            sold, cost, tax = sold + got, cost + spent, tax + taken
        now = sum(
            tranche.cash + float(tranche.units @ market.last_close[number, tranche.column]) for tranche in tranches
        )
        rows.append(
            {"as_of": market.sessions[number], "net_return": now / equity - 1, "equity": now}
            | {"bought": bought / equity, "sold": sold / equity, "costs": cost / equity, "tax": tax / equity}
            | {"n_held": sum(len(tranche.units) for tranche in tranches)}
        )
        equity = now
    return Course(pl.DataFrame(rows), **told, capacity_won=_capacity(market, picks, costs, hold))


def _buy(
    tranche: _Tranche,
    market: Market,
    number: int,
    chosen: Integers | None,
    costs: Costs,
    told: dict[str, int],
    hold: int,
) -> tuple[float, float]:
    """Spend the tranche's money on the ``chosen`` at the open, and return what was spent and what it cost."""
    if chosen is None or not len(chosen):
        return 0.0, 0.0
    opening, before = market.open[number, chosen], market.before[number, chosen]
    trades = market.traded[number, chosen] & np.isfinite(opening)
    with np.errstate(invalid="ignore"):
        limited = trades & (opening / before - 1 >= DAILY_LIMIT)
    filled = trades & ~limited
    told["n_wanted"] += len(chosen)
    told["n_halted"] += int((~trades).sum())
    told["n_limited"] += int(limited.sum())
    each = tranche.cash / len(chosen)
    amount = each / (1 + costs.a_side)
    tranche.column = np.concatenate([tranche.column, chosen[filled]])
    tranche.units = np.concatenate([tranche.units, amount / opening[filled]])
    tranche.due = np.concatenate([tranche.due, np.full(int(filled.sum()), number + hold - 1)])
    tranche.cash -= each * int(filled.sum())
    return amount * int(filled.sum()), (each - amount) * int(filled.sum())


def _sell(
    tranche: _Tranche, market: Market, number: int, costs: Costs, told: dict[str, int]
) -> tuple[float, float, float]:
    """Sell what is due at the close and can be sold; return what it brought before costs, costs and tax."""
    close, before = market.last_close[number, tranche.column], market.before[number, tranche.column]
    with np.errstate(invalid="ignore"):
        can = market.traded[number, tranche.column] & ~(close / before - 1 <= -DAILY_LIMIT)
    is_due = tranche.due <= number
    told["n_late"] += int((is_due & ~can & (tranche.due == number)).sum())
    gone = is_due & can
    amount = tranche.units[gone] * close[gone]
    tax = float(amount @ market.tax[number, tranche.column[gone]]) if costs.is_taxed else 0.0
    cost = float(amount.sum()) * costs.a_side
    tranche.cash += float(amount.sum()) - cost - tax
    _keep(tranche, ~gone)
    return float(amount.sum()), cost, tax


def _write_off(tranche: _Tranche, market: Market, number: int, costs: Costs, told: dict[str, int]) -> None:
    """Take what has been delisted for what the settings say it is worth."""
    gone = market.gone_on[tranche.column] <= number
    if gone.any():
        worth = tranche.units[gone] * market.last_close[number, tranche.column[gone]]
        tranche.cash += float(worth.sum()) * costs.delisted_worth
        told["n_delisted"] += int(gone.sum())
        _keep(tranche, ~gone)


def _keep(tranche: _Tranche, these: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> None:
    tranche.column, tranche.units, tranche.due = tranche.column[these], tranche.units[these], tranche.due[these]


def _capacity(market: Market, picks: Picks, costs: Costs, hold: int) -> tuple[float | None, float | None]:
    """Return the capital at which nine of ten orders, and half of them, are no more than their share of the value."""
    each = [
        hold * len(chosen) * costs.capacity_pct / 100 * market.usual_value[number, chosen]
        for number, chosen in enumerate(picks)
        if chosen is not None and len(chosen)
    ]
    if not each:
        return None, None
    tenth, half = np.quantile(np.concatenate(each), [0.1, 0.5])
    return float(tenth), float(half)
