"""The tradable check and the figures: prices, halts, limits, costs and taxes that can be followed by hand."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from factories import sessions_between
from kstock_batch.backtest.costs import FREE, Costs, sales_tax
from kstock_batch.backtest.figures import differences, drawdown, figures, pooled_figures, return_figures
from kstock_batch.backtest.market import Market, moods
from kstock_batch.backtest.portfolio import highest, trade
from kstock_batch.backtest.sessions_judged import judge
from kstock_batch.errors import ConfigError
from kstock_batch.judging.metrics import auc_by_session, skill

DAYS = sessions_between(date(2024, 6, 3), date(2024, 6, 28))
FLAT = 100.0


def market(bars=None, *, last_seen=None, days=DAYS, names=("A", "B")):
    """Return a market of flat prices in which ``bars`` {(ticker, session number): changes} differ; None = no bar."""
    rows = []
    for ticker in names:
        for number, day in enumerate(days):
            changes = (bars or {}).get((ticker, number), {})
            if changes is None:
                continue
            close = changes.get("close", FLAT)
            rows.append(
                {"ticker": ticker, "session": day, "open": changes.get("open", close), "high": close, "low": close}
                | {"close": close, "volume": changes.get("volume", 10), "traded_value": 1e6}
            )
    listing = pl.DataFrame(
        {"ticker": list(names), "market": ["KOSPI"] * len(names), "last_seen": [last_seen] + [None] * (len(names) - 1)},
        schema_overrides={"last_seen": pl.Date},
    )
    return Market.of(pl.DataFrame(rows), listing, list(days))


def chosen(whole, which, number=0):
    """Return picks that choose columns ``which`` after the close of session ``number``, and nothing else."""
    picks = [None] * len(whole.sessions)
    picks[number] = np.array(which)
    for later in range(number + 1, len(picks)):
        picks[later] = np.empty(0, dtype=np.int64)
    return picks


def wealth(course):
    return course.daily["equity"].to_list()


def test_a_stock_is_bought_at_the_next_open_and_sold_at_the_close_of_the_fifth_session_held():
    bars = {("A", 1): {"open": 80.0}, ("A", 5): {"close": 120.0}, ("A", 6): {"close": 500.0}}
    whole = market(bars)
    course = trade(whole, chosen(whole, [0]), FREE)
    # One of five tranches buys at 80; the others hold money.
    assert_allclose(wealth(course)[:6], [0.8 + 0.2 * close / 80 for close in (100, 100, 100, 100, 120, 120)])
    assert course.daily["n_held"].to_list()[:6] == [1, 1, 1, 1, 0, 0]
    assert_allclose(course.daily["bought"][0], 0.2)


def test_costs_are_paid_on_both_sides_and_the_tax_on_sales_alone():
    whole = market()
    course = trade(whole, chosen(whole, [0]), Costs(commission_bp=10, slippage_bp=90))
    after = 0.8 + 0.2 / 1.01 * (1 - 0.01 - sales_tax("KOSPI", DAYS[7]))
    assert_allclose(wealth(course)[-1], after)
    assert_allclose(course.daily["tax"].sum(), 0.2 / 1.01 * 0.0018 / wealth(course)[3])
    free = trade(whole, chosen(whole, [0]), FREE)
    assert wealth(free)[-1] == 1.0 and free.daily["tax"].sum() == 0


def test_taxes_are_those_of_the_day_of_settlement():
    days = sessions_between(date(2020, 12, 21), date(2021, 1, 8))
    whole = market(days=days)
    by_day = dict(zip(days, whole.tax[:, 0].tolist(), strict=True))
    # Traded on 29 December, settled on the 30th's session but one … the last of 2020 settles in 2021.
    assert by_day[date(2020, 12, 28)] == 0.0025
    assert by_day[date(2020, 12, 30)] == 0.0023
    days = sessions_between(date(2019, 5, 27), date(2019, 6, 10))
    by_day = dict(zip(days, market(days=days).tax[:, 0].tolist(), strict=True))
    assert by_day[date(2019, 5, 29)] == 0.003 and by_day[date(2019, 5, 30)] == 0.0025
    rates = {
        year: (sales_tax("KOSPI", date(year, 7, 1)), sales_tax("KOSDAQ", date(year, 7, 1)))
        for year in range(2020, 2027)
    }
    assert rates == {
        **{2020: (0.0025, 0.0025), 2021: (0.0023, 0.0023), 2022: (0.0023, 0.0023), 2023: (0.002, 0.002)},
        **{2024: (0.0018, 0.0018), 2025: (0.0015, 0.0015), 2026: (0.002, 0.002)},
    }
    assert sales_tax("KONEX", date(2024, 7, 1)) == 0.001


def test_a_halted_stock_is_not_bought_and_its_money_lies_idle():
    whole = market({("A", 1): {"volume": 0}, ("B", 5): {"close": 200.0}})
    course = trade(whole, chosen(whole, [0, 1]), FREE)
    assert_allclose(wealth(course)[4], 0.8 + 0.1 + 0.2)
    assert (course.n_wanted, course.n_halted, course.n_limited) == (2, 1, 0)


def test_a_stock_that_opens_at_its_upper_limit_is_not_bought():
    whole = market({("A", 1): {"open": 129.9, "close": 110.0}, ("B", 1): {"open": 129.0, "close": 110.0}})
    course = trade(whole, chosen(whole, [0, 1]), FREE)
    assert (course.n_wanted, course.n_limited) == (2, 1)
    assert course.daily["n_held"][0] == 1


@pytest.mark.parametrize("stuck", [{"volume": 0, "close": 90.0}, {"close": 70.0}], ids=["halted", "at the lower limit"])
def test_what_cannot_be_sold_is_sold_at_the_first_close_at_which_it_can(stuck):
    whole = market({("A", 5): stuck, ("A", 6): {"close": 65.0}, ("A", 7): {"close": 900.0}})
    course = trade(whole, chosen(whole, [0]), FREE)
    assert_allclose(wealth(course)[-1], 0.8 + 0.2 * 0.65)
    assert course.n_late == 1


def test_a_stock_delisted_while_held_leaves_what_the_settings_say():
    gone = {("A", number): None for number in range(3, len(DAYS))}
    whole = market(gone, last_seen=DAYS[2])
    for worth in (0.0, 0.3):
        course = trade(whole, chosen(whole, [0]), Costs(0, 0, is_taxed=False, delisted_worth=worth))
        assert_allclose(wealth(course)[-1], 0.8 + 0.2 * worth)
        assert course.n_delisted == 1
    # A hole in the source is no delisting: it is held at its last close.
    assert_allclose(wealth(trade(market(gone), chosen(market(gone), [0]), FREE))[-1], 1.0)


def test_five_tranches_overlap_and_keep_their_own_money():
    rising = {("A", number): {"open": FLAT, "close": FLAT * 1.1} for number in range(len(DAYS))}
    whole = market(rising, names=("A",))
    picks = [np.array([0])] * len(whole.sessions)
    course = trade(whole, picks, FREE)
    assert course.daily["n_held"].to_list()[:7] == [1, 2, 3, 4, 4, 4, 4]
    # Each is worth 1.1 from the close of its first session on.
    assert_allclose(wealth(course)[:5], [1 + 0.02 * n for n in range(1, 6)])


def test_capacity_is_the_capital_at_which_orders_are_their_share_of_the_traded_value():
    whole = market()
    course = trade(whole, chosen(whole, [0, 1]), Costs(capacity_pct=1.0))
    assert course.capacity_won == (5 * 2 * 0.01 * 1e6,) * 2


def test_the_highest_are_chosen_of_each_session_by_itself():
    whole = market()
    rows = pl.DataFrame({"as_of": [DAYS[0]] * 2 + [DAYS[1]] * 2, "ticker": ["A", "B"] * 2, "p": [0.1, 0.2, 0.4, 0.3]})
    picks = highest(rows, "p", whole, most=1)
    assert [None if one is None else one.tolist() for one in picks[:3]] == [[1], [0], None]


def test_costs_that_cannot_be_are_refused():
    for wrong, told in (({"slippage_bp": -1.0}, "slippage_bp = -1"), ({"delisted_worth": 2.0}, "delisted_worth = 2")):
        with pytest.raises(ConfigError, match=f"{told} is out of range"):
            Costs(**wrong).checked()


def test_moods_look_back_and_never_ahead():
    days = sessions_between(date(2024, 1, 2), date(2024, 6, 28))
    rng = np.random.default_rng(3)
    closes = 100 * np.cumprod(1 + rng.normal(scale=0.02, size=(len(days), 2)), axis=0)
    bars = {(name, n): {"close": closes[n, at]} for at, name in enumerate("AB") for n in range(len(days))}
    whole = moods(market(bars, days=days), days)
    cut = 60
    before = moods(market({**bars, **{("A", n): {"close": 1.0} for n in range(cut, len(days))}}, days=days), days)
    assert before["trend"][:cut].to_list() == whole["trend"][:cut].to_list()
    assert set(whole["mood"]) == {"calm", "usual", "stormy"}


# Figures


def judged_rows(n_sessions=40, n=60, seed=1, skill_of=1.0):
    rng = np.random.default_rng(seed)
    days = sessions_between(date(2024, 1, 2), date(2024, 6, 28))[:n_sessions]
    z = rng.normal(size=(n_sessions, n))
    truth = 1 / (1 + np.exp(1.2 - skill_of * z))
    y = (rng.random(z.shape) < truth).astype(np.uint8)
    return pl.DataFrame(
        {
            "ticker": [f"{at:06d}" for at in range(n)] * n_sessions,
            "as_of": [day for day in days for _ in range(n)],
            "atr_pct": rng.random(n * n_sessions),
            "base_rate": np.full(n * n_sessions, y.mean()),
            "volatility": np.clip(truth.ravel() + rng.normal(scale=0.1, size=z.size), 0.01, 0.99),
            "label_5d": y.ravel(),
            "forward_return": (0.02 * z + rng.normal(scale=0.05, size=z.shape)).ravel(),
            "known_on": [day for day in days for _ in range(n)],
            "blend": truth.ravel(),
            "noise": rng.random(n * n_sessions),
        }
    )


def test_figures_are_those_of_the_skill_table():
    rows = judged_rows()
    told = {one.metric: one for one in figures(judge(rows, "blend").sessions)}
    session = rows["as_of"].rank("dense").cast(pl.Int64).to_numpy() - 1
    names = ("blend", "label_5d", "base_rate", "atr_pct", "volatility")
    p, y, base, atr, vol = (rows[name].cast(pl.Float64).to_numpy() for name in names)
    whole = skill(p, y, session, base, atr_pct=atr, volatility=vol)
    for name in ("auc_day", "auc_day_vol", "log_loss", "brier_skill_pct", "brier_skill_vol_pct", "lift"):
        assert_allclose(told[name].value, getattr(whole, name), err_msg=name)
        assert told[name].low < told[name].value < told[name].high
    by_hand = rows.group_by("as_of").agg(pl.corr("blend", "forward_return", method="spearman").alias("ic"))["ic"]
    assert_allclose(told["ic"].value, by_hand.mean())
    assert_allclose(told["icir"].value, by_hand.mean() / by_hand.std(ddof=0))


def test_pooled_figures_have_intervals_that_hold_them():
    rows = judged_rows()
    session = rows["as_of"].rank("dense").cast(pl.Int64).to_numpy() - 1
    p, y, atr = (rows[c].cast(pl.Float64).to_numpy() for c in ("blend", "label_5d", "atr_pct"))
    tenth = (atr * 10).astype(np.int64)
    found = {one.metric: one for one in pooled_figures(p, y, session, tenth, drawn=True)}
    assert_allclose(found["auc"].value, skill(p, y, session, 0.3).auc)
    assert found["auc"].low < found["auc"].value < found["auc"].high
    each = [skill(p[tenth == t], y[tenth == t], session[tenth == t], 0.3).auc for t in range(10)]
    assert_allclose(found["auc_in_vol"].value, np.mean(each))


def test_the_better_of_two_is_said_to_be_better_and_a_twin_is_not():
    rows = judged_rows()
    blend, noise = judge(rows, "blend").sessions, judge(rows, "noise").sessions
    better = {one.metric: one for one in differences(blend, noise)}
    assert all(better[name].low > 0 for name in ("log_loss", "auc_day", "ic", "top_hit_rate"))
    assert all(one.value == one.low == one.high == 0 for one in differences(blend, blend))
    worse = {one.metric: one for one in differences(noise, blend)}
    assert_allclose(worse["auc_day"].value, -better["auc_day"].value)


def test_returns_come_to_what_they_come_to():
    returns = np.array([0.1, -0.5, 0.2, 0.0] * 5)
    told = {one.metric: one for one in return_figures(returns, np.zeros(20))}
    assert_allclose(told["return_pct_a_year"].value, 100 * 245 * returns.mean())
    assert_allclose(told["excess_pct_a_year"].value, 100 * 245 * returns.mean())
    assert_allclose(told["sharpe"].value, np.sqrt(245) * returns.mean() / returns.std())
    assert_allclose(drawdown(np.array([0.1, -0.5, 0.2])), -0.5)
    assert drawdown(np.array([0.1, 0.2])) == 0


def test_few_sessions_have_no_interval():
    told = figures(judge(judged_rows(n_sessions=6), "blend").sessions)
    assert all(one.low is None and one.value is not None for one in told)
    assert auc_by_session(np.array([0.1, 0.9]), np.array([0.0, 1.0]), np.array([0, 0])) == 1.0
