"""The sample market obeys the exchange's arithmetic, moves like a market, and holds exactly the signal it documents."""

from __future__ import annotations

import hashlib
import warnings
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kstock_batch.ingest.sources.sample_market import SampleMarket, generate
from kstock_batch.ingest.sources.sample_market.ticks import round_fairly
from kstock_batch.market.sessions import krx_sessions

COLUMNS = {
    "prices": "date ticker open high low close volume shares_outstanding",
    "listings": "ticker name market sector industry is_spac is_pref first_seen last_seen",
    "official_rows": "date ticker name open high low close volume amount change_pct market_cap shares market",
    "market_caps_weekly": "date ticker market market_cap shares_outstanding close volume trading_value",
    "financials": "ticker period_end available_from revenue_ytd op_income_ytd net_income_ytd equity liabilities assets"
    " debt_ratio market industry",
    "valuation_monthly": "ticker date per pbr",
    "macro": "date series close",
    "flows": "date ticker foreign_net institution_net foreign_holding_pct",
    "market_investor_net": "date market investor net_value",
}
GRAINS = {"listings": ["ticker"], "financials": ["ticker", "period_end"], "macro": ["date", "series"],
          "market_investor_net": ["date", "market", "investor"]}  # fmt: skip
REAL_PANEL = Path(__file__).parents[2] / "shared" / "krx"


@cache
def all_sessions() -> list[date]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exchange_calendars meets pandas' announcements; neither is under test here
        return krx_sessions(date(2023, 1, 2), date(2026, 10, 30))


def last_sessions(count: int) -> list[date]:
    return all_sessions()[-count:]


def tick(price: pl.Expr) -> pl.Expr:
    """The exchange's table, written out here a second time on purpose."""
    steps = [(2_000, 1), (5_000, 5), (20_000, 10), (50_000, 50), (200_000, 100), (500_000, 500)]
    size = pl.lit(1_000)
    for bound, step in reversed(steps):
        size = pl.when(price < bound).then(pl.lit(step)).otherwise(size)
    return size


@pytest.fixture(scope="module")
def market() -> SampleMarket:
    return generate(last_sessions(800), seed=7)


@pytest.fixture(scope="module")
def silent_market() -> SampleMarket:
    return generate(last_sessions(800), seed=7, signal=0.0)


@pytest.fixture(scope="module")
def small_market() -> SampleMarket:
    return generate(last_sessions(120), n_tickers=20, seed=7)


@pytest.fixture(scope="module")
def official(market: SampleMarket) -> pl.DataFrame:
    """Official rows with the base price worked out from the row before: last close times its shares / shares now."""
    previous = (pl.col("close") * pl.col("shares")).shift(1) / pl.col("shares")
    return market.frames["official_rows"].sort("ticker", "date").with_columns(
        base=previous.over("ticker", order_by="date"), traded=pl.col("volume") > 0
    )  # fmt: skip


@pytest.fixture(scope="module")
def returns(market: SampleMarket) -> pl.DataFrame:
    """Daily returns of common stocks on sessions they traded."""
    commons = market.frames["listings"].filter(pl.col("sector").is_not_null()).select("ticker", "sector")
    change = pl.col("close").cast(pl.Float64).pct_change().over("ticker", order_by="date")
    rows = market.frames["prices"].with_columns(r=change).join(commons, on="ticker", validate="m:1")
    return rows.filter(pl.col("volume") > 0, pl.col("r").is_not_null()).sort("ticker", "date")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_seed_writes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    sessions = last_sessions(80)
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        generate(sessions, n_tickers=20, seed=seed).write(tmp_path / name)
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    assert set(digests(tmp_path / "one")) == {f"{stem}.parquet" for stem in COLUMNS}
    assert digests(tmp_path / "one")["prices.parquet"] != digests(tmp_path / "other")["prices.parquet"]


def test_writing_twice_into_one_folder_leaves_the_second_market(tmp_path: Path, small_market: SampleMarket) -> None:
    generate(last_sessions(60), n_tickers=12, seed=1).write(tmp_path)
    small_market.write(tmp_path)
    assert pl.read_parquet(tmp_path / "prices.parquet").equals(small_market.frames["prices"])


@pytest.mark.parametrize("stem", COLUMNS)
def test_every_frame_has_its_columns_and_one_sorted_row_per_grain(stem: str, market: SampleMarket) -> None:
    frame = market.frames[stem]
    grain = GRAINS.get(stem, ["date", "ticker"])
    assert " ".join(frame.columns) == COLUMNS[stem]
    assert frame.select(grain).is_duplicated().sum() == 0
    orders = (grain, grain[::-1])  # like the real files, some run by date and some by ticker
    assert any(frame.equals(frame.sort(order)) for order in orders)
    assert not any(frame[name].is_nan().any() for name, kind in frame.schema.items() if kind.is_float())


@pytest.mark.panel
@pytest.mark.parametrize("stem", COLUMNS)
def test_every_frame_has_the_types_of_the_real_panel(stem: str, market: SampleMarket) -> None:
    real = REAL_PANEL / ("flows_sample.parquet" if stem == "flows" else f"{stem}.parquet")
    if not real.exists():
        pytest.skip(f"{real} is absent: the development panel is not part of the project")
    assert dict(market.frames[stem].schema) == dict(pl.read_parquet_schema(real))


def test_high_and_low_enclose_open_and_close_in_prices_and_in_official_rows(
    market: SampleMarket, official: pl.DataFrame
) -> None:
    for rows in (market.frames["prices"], official.filter("traded")):
        assert rows.filter(pl.col("high") < pl.max_horizontal("open", "close")).is_empty()
        assert rows.filter(pl.col("low") > pl.min_horizontal("open", "close")).is_empty()
        assert rows.filter(pl.col("low") <= 0).is_empty()


def test_raw_prices_lie_on_the_tick_grid(official: pl.DataFrame) -> None:
    for name in ("open", "high", "low", "close"):
        assert official.filter(pl.col(name) % tick(pl.col(name)) != 0).is_empty(), name


def test_rounding_to_the_grid_neither_lifts_nor_lowers_a_price_on_average() -> None:
    uniform = (np.arange(1_000) + 0.5) / 1_000
    for price in (1_999.3, 2_001.0, 19_998.0, 50_030.0):  # beside the bounds where the tick changes
        rounded = round_fairly(np.full(1_000, price), uniform)
        assert rounded.mean() == pytest.approx(price, abs=0.06)
        assert len(set(rounded)) == 2


def test_no_price_leaves_the_daily_limit_and_some_reach_it(official: pl.DataFrame) -> None:
    width = pl.when(pl.col("market") == "KONEX").then(0.15).otherwise(0.30)
    rows = official.filter("traded", pl.col("base").is_not_null())
    assert rows.filter(pl.col("high") > pl.col("base") * (1 + width) + 1e-6).is_empty()
    assert rows.filter(pl.col("low") < pl.col("base") * (1 - width) - 1e-6).is_empty()
    assert rows.filter(pl.col("close") + tick(pl.col("close")) > pl.col("base") * 1.3).height >= 1


def test_market_cap_is_raw_close_times_shares_everywhere(market: SampleMarket, official: pl.DataFrame) -> None:
    weekly = market.frames["market_caps_weekly"]
    assert official.filter(pl.col("market_cap") != pl.col("close") * pl.col("shares")).is_empty()
    assert weekly.filter(pl.col("market_cap") != pl.col("close") * pl.col("shares_outstanding")).is_empty()
    both = weekly.join(official, on=["date", "ticker"], how="left", validate="1:1")
    assert both.filter(pl.col("market_cap").ne_missing(pl.col("market_cap_right"))).is_empty()


def test_traded_value_lies_between_low_and_high(official: pl.DataFrame) -> None:
    price = pl.col("amount") / pl.col("volume")
    outside = official.filter("traded", (price < pl.col("low") - 0.5) | (price > pl.col("high") + 0.5))
    assert outside.is_empty()


def test_a_session_without_trade_repeats_the_last_close_and_some_halts_outlast_twenty_sessions(
    market: SampleMarket, official: pl.DataFrame
) -> None:
    rows = market.frames["prices"].sort("ticker", "date").with_columns(
        last=pl.col("close").shift(1).over("ticker", order_by="date"),
        run=pl.col("volume").eq(0).rle_id().over("ticker", order_by="date"),
    )  # fmt: skip
    halted = rows.filter(pl.col("volume") == 0)
    assert 0.005 < halted.height / rows.height < 0.05
    assert halted.filter(pl.any_horizontal(pl.col("open", "high", "low", "last") != pl.col("close"))).is_empty()
    assert (halted.group_by("ticker", "run").len()["len"] > 20).any()
    quiet = official.filter(~pl.col("traded"))
    assert quiet.filter(pl.any_horizontal(pl.col("open", "high", "low", "amount", "change_pct") != 0)).is_empty()


def test_adjusted_returns_equal_the_official_change_even_across_splits(
    market: SampleMarket, official: pl.DataFrame
) -> None:
    change = (pl.col("close").cast(pl.Float64).pct_change() * 100).over("ticker", order_by="date")
    adjusted = market.frames["prices"].select("ticker", "date", adjusted=change)
    both = official.join(adjusted, on=["ticker", "date"], validate="1:1").filter(pl.col("adjusted").is_not_null())
    assert both.filter((pl.col("adjusted") - pl.col("change_pct")).abs() > 0.0051).is_empty()


def test_a_split_moves_raw_close_and_shares_and_both_kinds_occur(market: SampleMarket, official: pl.DataFrame) -> None:
    ratio = (pl.col("shares") / pl.col("shares").shift(1)).over("ticker", order_by="date")
    splits = official.with_columns(ratio=ratio).filter(pl.col("ratio") != 1)
    raw_move = official.with_columns(move=pl.col("close").pct_change().over("ticker", order_by="date"))
    assert set(splits["ratio"]) == {0.1, 10.0}
    assert raw_move.filter(pl.col("move").abs() > 0.31)["ticker"].to_list() == splits["ticker"].to_list()
    last = official.sort("date").group_by("ticker").last().select("ticker", "date", "close")
    prices = market.frames["prices"].join(last, on=["ticker", "date"])
    assert prices.filter(pl.col("close") != pl.col("close_right").cast(pl.Float32)).is_empty()  # adjusted as of the end


def test_names_come_and_go_and_listings_say_so(market: SampleMarket) -> None:
    days = market.frames["prices"]["date"].unique().sort()
    lives = market.frames["prices"].group_by("ticker").agg(first=pl.col("date").min(), last=pl.col("date").max())
    listings = market.frames["listings"].join(lives, on="ticker", validate="1:1")
    assert lives.filter(pl.col("first") > days[0]).height >= 10
    gone = listings.filter(pl.col("last") < days[-1])
    assert gone.height >= 8
    assert gone.filter(pl.col("last_seen").is_null() | (pl.col("last_seen") > pl.col("last"))).is_empty()
    assert listings.filter(pl.col("last") == days[-1], pl.col("last_seen").is_not_null()).is_empty()
    assert listings.filter(pl.col("first_seen") < pl.col("first")).is_empty()


def test_the_smallest_market_holds_every_kind_of_name(small_market: SampleMarket) -> None:
    listings, rows = small_market.frames["listings"], small_market.frames["official_rows"]
    assert listings.height == 20
    assert listings["is_spac"].any() and listings["is_pref"].any()
    assert not listings.filter("is_pref")["ticker"].str.ends_with("0").any()
    assert set(rows["market"]) == {"KOSPI", "KOSDAQ", "KOSDAQ GLOBAL", "KONEX"}
    assert listings["ticker"].str.contains("[A-Z]").sum() == 2
    assert listings["last_seen"].is_not_null().any()
    assert rows.group_by("ticker").agg(pl.col("shares").n_unique())["shares"].to_list().count(2) == 1


def test_a_filing_is_available_after_the_legal_deadline_and_before_the_end(market: SampleMarket) -> None:
    rows = market.frames["financials"]
    days = (rows["available_from"] - rows["period_end"]).dt.total_days()
    annual = rows["period_end"].dt.month() == 12
    assert set(days.filter(annual)) == {91} and set(days.filter(~annual)) == {46}
    assert rows.filter(pl.col("available_from") > market.frames["prices"]["date"].max()).is_empty()


def test_year_to_date_figures_restart_in_january_and_equity_grows_by_the_quarter_earned(market: SampleMarket) -> None:
    january = pl.col("period_end").dt.month() == 3
    earned = pl.when(january).then("net_income_ytd").otherwise(pl.col("net_income_ytd").diff())
    rows = market.frames["financials"].with_columns(
        earned=earned.over("ticker", order_by="period_end"),
        grown=pl.col("equity").diff().over("ticker", order_by="period_end"),
        revenue=pl.when(january).then("revenue_ytd").otherwise(pl.col("revenue_ytd").diff()).over(
            "ticker", order_by="period_end"
        ),
    )  # fmt: skip
    assert (rows["revenue"] > 0).all()
    matched = rows.filter((pl.col("grown") - pl.col("earned")).abs() <= 4)
    assert matched.height > 0.85 * rows.height  # the rest: first rows, and the floor under failing companies
    assert rows.filter(pl.col("assets") != pl.col("equity") + pl.col("liabilities")).is_empty()


def test_some_names_lose_money_and_some_file_nothing(market: SampleMarket) -> None:
    year = market.frames["financials"].filter(pl.col("period_end") == date(2024, 12, 31))
    commons = market.frames["listings"].filter(pl.col("sector").is_not_null())["ticker"]
    assert 0.15 < year.filter(pl.col("net_income_ytd") < 0).height / year.height < 0.5
    assert 1 <= len(set(commons) - set(market.frames["financials"]["ticker"])) < 0.15 * len(commons)


def test_per_and_pbr_follow_from_the_market_cap_and_the_filings_known_that_day(market: SampleMarket) -> None:
    filings = market.frames["financials"].with_columns(
        year=pl.col("net_income_ytd").filter(pl.col("period_end").dt.month() == 12).first().over(
            "ticker", pl.col("period_end").dt.year()
        ),
    )  # fmt: skip
    april = date(2025, 4, 15)  # on this day the last four known quarters are the calendar year 2024
    known = filings.filter(pl.col("period_end") == date(2024, 12, 31)).select("ticker", "year", "equity")
    caps = market.frames["official_rows"].filter(pl.col("date") == april).select("ticker", "market_cap")
    rows = market.frames["valuation_monthly"].filter(pl.col("date") == april).join(known, on="ticker").join(
        caps, on="ticker"
    )  # fmt: skip
    positive = rows.filter(pl.col("year") > 0)
    assert rows.filter(pl.col("year") <= 0)["per"].null_count() == rows.filter(pl.col("year") <= 0).height > 0
    assert positive.filter((pl.col("per") - pl.col("market_cap") / pl.col("year")).abs() > 0.0051).is_empty()
    assert rows.filter((pl.col("pbr") - pl.col("market_cap") / pl.col("equity")).abs() > 0.0051).is_empty()


def test_returns_have_fat_tails_and_clustered_volatility(returns: pl.DataFrame) -> None:
    size, by_ticker = pl.col("r").abs(), pl.col("r").abs().shift(1).over("ticker", order_by="date")
    stats = returns.with_columns(size=size, before=by_ticker).group_by("ticker").agg(
        kurtosis=pl.col("r").kurtosis(), clustering=pl.corr("size", "before"), vol=pl.col("r").std()
    )  # fmt: skip
    low, middle, high = np.quantile(stats["vol"], (0.1, 0.5, 0.9))
    assert np.median(stats["kurtosis"]) > 1.5  # excess; a normal market has 0
    assert np.nanmedian(stats["clustering"]) > 0.08
    assert 0.02 < middle < 0.04
    assert high / low > 1.6


def test_the_whole_market_is_calm_or_nervous_together(returns: pl.DataFrame) -> None:
    spread = returns.group_by("date").agg(spread=pl.col("r").std()).sort("date")["spread"]
    assert np.corrcoef(spread[1:], spread[:-1])[0, 1] > 0.5


def test_names_of_one_sector_move_together_more_than_names_of_two(returns: pl.DataFrame) -> None:
    wide = returns.pivot("ticker", index="date", values="r").sort("date").drop("date").fill_null(0.0)
    sector = dict(returns.select("ticker", "sector").unique().iter_rows())
    correlation = np.corrcoef(wide.to_numpy(), rowvar=False)
    names = np.array([sector[ticker] for ticker in wide.columns])
    same = (names[:, None] == names[None, :]) & ~np.eye(len(names), dtype=bool)
    assert len(set(names)) >= 10
    assert correlation[same].mean() > correlation[names[:, None] != names[None, :]].mean() + 0.04


def test_korea_follows_the_us_session_before_it_and_not_the_one_after(market: SampleMarket) -> None:
    change = pl.col("close").pct_change().over("series", order_by="date")
    macro = market.frames["macro"].with_columns(move=change).drop_nulls()
    kospi = macro.filter(pl.col("series") == "KOSPI").sort("date")
    us = macro.filter(pl.col("series") == "SP500").sort("date").rename({"move": "us"})
    before = kospi.join_asof(us, on="date", allow_exact_matches=False)
    same_date = kospi.join(us, on="date")
    assert before.select(pl.corr("move", "us")).item() > 0.2
    assert abs(same_date.select(pl.corr("move", "us")).item()) < 0.1
    assert us["date"][0] <= kospi["date"][0] - timedelta(days=360)
    assert set(macro["series"]) == {"VIX", "SP500", "NASDAQ", "US10Y", "USDKRW", "KOSPI", "KOSDAQ", "KOSPI200",
                                    "FEDFUNDS"}  # fmt: skip


def test_flows_follow_the_days_return_persist_and_sum_to_zero_over_investors(market: SampleMarket) -> None:
    flows = market.frames["flows"].join(market.frames["official_rows"], on=["date", "ticker"], validate="1:1")
    sign = pl.col("foreign_net").sign()
    rows = flows.with_columns(sign=sign, before=sign.shift(1).over("ticker", order_by="date")).drop_nulls("before")
    assert flows.height == market.frames["prices"].height
    assert rows.filter(pl.col("volume") > 0).select(pl.corr("sign", "change_pct", method="spearman")).item() > 0.1
    assert rows.select(pl.corr("sign", "before")).item() > 0.2
    assert rows.filter(pl.col("foreign_net").abs() > pl.col("volume")).is_empty()
    net = market.frames["market_investor_net"].group_by("date", "market").agg(pl.col("net_value").sum())
    assert net.filter(pl.col("net_value") != 0).is_empty()


def outcomes(market: SampleMarket) -> pl.DataFrame:
    """Per common name and session that traded: forward five-session return and what the signal's parts show."""
    commons = market.frames["listings"].filter(pl.col("sector").is_not_null()).select("ticker")
    rows = market.frames["prices"].join(commons, on="ticker").join(market.frames["flows"], on=["date", "ticker"])
    close = pl.col("close").cast(pl.Float64)
    ahead = close.shift(-5).over("ticker", order_by="date") / close - 1
    rows = rows.with_columns(ahead=ahead).filter(pl.col("volume") > 0)
    mean, spread = close.rolling_mean(20), close.rolling_std(20)
    return rows.with_columns(
        streak=pl.col("foreign_net").sign().rolling_sum(5).over("ticker", order_by="date"),
        cheapness_to_band=((mean - close) / spread).over("ticker", order_by="date"),
        strength=(close / close.shift(60)).over("ticker", order_by="date"),
    ).drop_nulls()


def rank_ic(rows: pl.DataFrame, column: str) -> float:
    daily = rows.group_by("date").agg(ic=pl.corr(column, "ahead", method="spearman"))
    return float(np.nanmean(daily["ic"].to_numpy()))


def test_the_label_occurs_in_a_fifth_to_a_third_of_all_rows(market: SampleMarket) -> None:
    assert 0.20 < np.mean(outcomes(market)["ahead"].to_numpy() >= 0.03) < 0.30


def test_foreign_buying_foretells_returns_only_while_the_signal_is_on(
    market: SampleMarket, silent_market: SampleMarket
) -> None:
    assert rank_ic(outcomes(market), "streak") > 0.06
    assert abs(rank_ic(outcomes(silent_market), "streak")) < 0.02


@pytest.mark.parametrize("column", ["cheapness_to_band", "strength"])
def test_reversal_and_strength_carry_the_signal_and_nothing_without_it(
    column: str, market: SampleMarket, silent_market: SampleMarket
) -> None:
    loud, silent = rank_ic(outcomes(market), column), rank_ic(outcomes(silent_market), column)
    assert loud > silent + 0.01
    assert abs(silent) < 0.02


def test_without_the_signal_no_group_of_names_drifts(silent_market: SampleMarket) -> None:
    rows = outcomes(silent_market)
    for column in ("streak", "cheapness_to_band", "strength"):
        halves = rows.with_columns(high=pl.col(column) > pl.col(column).median().over("date"))
        means = halves.group_by("high").agg(pl.col("ahead").mean()).sort("high")["ahead"]
        assert abs(means[1] - means[0]) < 0.0025, column  # with the signal on, streaks differ by more than 0.006


def test_the_signal_changes_returns_and_nothing_about_who_is_listed_or_halted(
    market: SampleMarket, silent_market: SampleMarket
) -> None:
    assert market.frames["listings"].equals(silent_market.frames["listings"])
    assert market.frames["financials"].equals(silent_market.frames["financials"])
    halts = [m.frames["prices"].select("date", "ticker", pl.col("volume") == 0) for m in (market, silent_market)]
    assert halts[0].equals(halts[1])
    assert not market.frames["prices"].equals(silent_market.frames["prices"])


def test_too_small_a_market_or_unsorted_sessions_are_refused() -> None:
    sessions = last_sessions(80)
    with pytest.raises(ValueError, match="11 tickers x 80 sessions: need 12 x 60 or more"):
        generate(sessions, n_tickers=11)
    with pytest.raises(ValueError, match="sessions must be strictly increasing"):
        generate(sessions[::-1])


@pytest.mark.parametrize("seed", range(6))
def test_the_least_market_of_any_seed_has_a_halt_of_twenty_sessions_that_ends(seed: int) -> None:
    least = generate(last_sessions(60), n_tickers=12, seed=seed)
    run = pl.col("volume").eq(0).rle_id().over("ticker", order_by="date")
    rows = least.frames["prices"].with_columns(run=run)
    resumed = rows.filter(pl.col("volume") == 0, pl.col("run") < pl.col("run").max().over("ticker"))
    assert all(frame.height for frame in least.frames.values())
    assert (resumed.group_by("ticker", "run").len()["len"] > 20).any()
