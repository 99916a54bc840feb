"""Every feature of every row against a second reading of the definitions (reference.py), and against TA-Lib.

On the sample market always; on 50 real tickers over all sessions where the panel lies beside the checkout.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil, log, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib

from factories import Frames, sessions_between, write_folder
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from reference import indicators, read_frames, reference, sound

TOLERANCE = 1e-5  # relative
FLOOR = 1e-9  # absolute, for values that cross zero; of the close for what is in won. Float32 itself keeps 6e-8
IN_WON = frozenset({"macd_histogram", "ema_50", "ema_200", "close"})
COMPARED = (*FEATURE_NAMES, "close", "bars_available", "is_scoreable", "null_feature_count")

N_TICKERS = 50
# What an even walk through the list would miss.
HARD_CASES = (
    *("000075", "001140", "476470"),  # suspensions printed with 0 as open, high and low; delisted since; 57 bars
    *("466100", "486630", "446150"),  # 45 bars; a SPAC of 65; a row whose close is above its high
    *("109070", "052770", "121890"),  # halted for years; then resumed at 2.6 times the price
    *("078860", "109960", "033790"),  # capital reductions and re-listings: moves of 1,869 %, 499 %, 54 %
    *("33637L", "021045", "900250"),  # preferred shares; a foreign company
    *("001720", "357120", "032800", "131100", "334970"),  # years to March, half-years, years that changed
)
NEVER_TRADED = "003560"  # 261 sessions in the files, no bar, no row


@dataclass(frozen=True)
class Market:
    """A source folder and the feature_daily that the program made of it."""

    folder: Path
    features: pd.DataFrame


def built(folder: Path, root: Path, at: datetime) -> Market:
    """Ingest and build through the program's own doors."""
    # Of a file's few rows one bad one is a larger share than of the whole file's.
    settings = Settings.load(root, environ={}, max_rejected_share=0.01)
    with opened_run(settings, "test", at=at) as run:
        ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run)
        bring_up_to_date(run.warehouse, settings, run)
        rows = run.warehouse.con.sql("FROM feature_daily ORDER BY as_of, ticker").df()
    return Market(folder, rows.assign(as_of=pd.to_datetime(rows["as_of"]).astype("datetime64[ns]")))


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Two dozen invented stocks over the sessions around the start of 2026: flows, and a policy calendar in force."""
    root = tmp_path_factory.mktemp("sample")
    market = generate(sessions_between(date(2025, 2, 3), date(2026, 4, 30)), n_tickers=24, seed=3)
    return built(write_folder(root / "source", with_holes(market.frames)), root, datetime(2026, 5, 1))


def with_holes(frames: Frames) -> Frames:
    """Take out one flow in fifty, three weeks of each world series, what was printed in autumn, and every third
    stock's market caps after the first weeks: what is unknown or too old must be so on both sides.
    """
    silent = {"VIX": date(2025, 7, 1), "SP500": date(2025, 9, 1), "USDKRW": date(2025, 11, 3)}
    is_silent = pl.any_horizontal(
        (pl.col("series") == name) & pl.col("date").is_between(start, start + timedelta(weeks=3))
        for name, start in silent.items()
    )
    flows = frames["flows"].filter(pl.int_range(pl.len()) % 50 != 0)
    printed = frames["valuation_monthly"].filter(~pl.col("date").is_between(date(2025, 9, 20), date(2025, 12, 1)))
    lost = frames["prices"]["ticker"].unique().sort().gather_every(3)
    holed = {"flows": flows, "macro": frames["macro"].filter(~is_silent), "valuation_monthly": printed}
    for stem in ("official_rows", "market_caps_weekly"):
        holed[stem] = frames[stem].filter(
            ~pl.col("ticker").is_in(lost.implode()) | (pl.col("date") < date(2025, 2, 28))
        )
    return frames | holed


@pytest.fixture(scope="module")
def panel(real_panel: Path, tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Fifty real stocks: the hard cases, and others evenly from the list."""
    root = tmp_path_factory.mktemp("exactness")
    traded = pl.scan_parquet(real_panel / "prices.parquet").filter(pl.col("volume") > 0).select("ticker").unique()
    ordinary = traded.filter(~pl.col("ticker").is_in(HARD_CASES)).collect()["ticker"].sort()
    n_more = N_TICKERS - len(HARD_CASES)
    chosen = [*HARD_CASES, NEVER_TRADED, *ordinary.gather_every(len(ordinary) // n_more).head(n_more)]
    (root / "source").mkdir()
    for path in real_panel.glob("*.parquet"):
        rows = pl.scan_parquet(path)
        if "ticker" in rows.collect_schema():
            rows = rows.filter(pl.col("ticker").is_in(chosen))
        rows.collect().write_parquet(root / "source" / path.name)
    return built(root / "source", root, datetime(2026, 11, 1))


# Two readings of the definitions


def disagreements(got: pd.DataFrame, want: pd.DataFrame) -> pd.DataFrame:
    """Return a line for each column: rows known to one side alone, rows too far apart, the worst relative error."""
    lines = []
    for name in COMPARED:
        a, b = got[name].to_numpy(float), want[name].to_numpy(float)
        floor = FLOOR * (want["close"].to_numpy() if name in IN_WON else 1.0)
        apart, known = np.abs(a - b), ~np.isnan(a) & ~np.isnan(b)
        is_off = known & (apart > TOLERANCE * np.abs(b) + floor)
        error = np.divide(apart, np.abs(b), out=np.zeros_like(b), where=known & (apart > floor) & (b != 0))
        unsure = np.isnan(a) != np.isnan(b)
        first = np.flatnonzero(is_off | unsure)[:1]
        example = [(got["ticker"][i], f"{got['as_of'][i]:%Y-%m-%d}", a[i], b[i]) for i in first]
        lines.append((name, known.sum(), unsure.sum(), is_off.sum(), error.max(), *(example or [None])))
    columns = ["column", "n_known", "n_null_differs", "n_off", "worst", "first (got, wanted)"]
    return pd.DataFrame(lines, columns=columns).set_index("column")


def assert_exact(market: Market) -> pd.DataFrame:
    """Assert that the store and the reference hold the same rows, NULLs and values; return the comparison."""
    got, want = market.features, reference(read_frames(market.folder))
    assert list(got["ticker"] + got["as_of"].astype(str)) == list(want["ticker"] + want["as_of"].astype(str))
    want = want.assign(null_feature_count=want[list(FEATURE_NAMES)].isna().sum(axis=1))
    found = disagreements(got, want)
    wrong = found[(found["n_null_differs"] > 0) | (found["n_off"] > 0)]
    assert wrong.empty, f"of {len(want):,} rows\n{wrong.to_string()}"
    return found


def constant(market: Market) -> set[str]:
    """Return the features that hold less than two values: a comparison of them proves little."""
    return {name for name in FEATURE_NAMES if market.features[name].nunique() < 2}


def test_the_sample_markets_features_are_their_definitions(sample: Market) -> None:
    assert_exact(sample)


def test_the_sample_market_varies_every_feature_that_is_compared(sample: Market) -> None:
    assert constant(sample) == set()


GOLDEN = pd.read_csv(Path(__file__).parent / "golden" / "indicators.csv")


@pytest.mark.parametrize("row", GOLDEN.to_dict("records"), ids=lambda row: f"{row['n']}-bars")
def test_the_reference_itself_gives_the_golden_values(row: dict[str, float]) -> None:
    i = np.arange(row["n"])
    close = np.round(50000 * (1 + 0.08 * np.sin(i / 9)) + 20 * i)
    volume = 100000.0 + 5000 * (i % 11) + 20000 * (i % 17 == 0)
    got = indicators(close + 300 + 10 * (i % 7), close - 250 - 10 * (i % 5), close, volume)
    for name in GOLDEN.columns.drop("n"):
        assert got[name][-1] == pytest.approx(row[name], rel=2e-5, nan_ok=True), name


@pytest.mark.panel
def test_fifty_real_tickers_features_are_their_definitions_on_every_session(panel: Market) -> None:
    assert_exact(panel)


@pytest.mark.panel
def test_the_fifty_real_tickers_vary_every_feature_that_the_panel_can_fill(panel: Market) -> None:
    assert panel.features["ticker"].nunique() == N_TICKERS
    assert panel.features["as_of"].nunique() > 1_470
    assert constant(panel) == {"foreign_net_buy_days", "institution_net_buy_days", "policy_bonus"}


# TA-Lib, after its seeds have faded


def bars_until_faded(a: float) -> int:
    """Return after how many bars an average's seed weighs (1-a)^n <= 1e-11.

    That is 1e-5 of a value even where what is averaged has shrunk a millionfold since the seed was taken.
    """
    return ceil(log(1e-11) / log(1 - a))


RSI_WARM = 14 + bars_until_faded(1 / 14)  # TA-Lib seeds with the mean of the first 14 moves
MACD_WARM = 26 + 9 + bars_until_faded(2 / 27)  # ... the slowest average with the mean of 26 closes
BANDS_WARM = 20  # no seed
ATR_WARM = 15  # TA-Lib knows no range of the first bar
# TA-Lib takes the variance as a difference of squares it has summed since the first bar. Where the bands are this share
# of the highest price so far, 1,500 roundings leave it 1500 · 2e-16 · 16 / 1e-3² = 5e-6; narrower ones are left out.
NARROW = 1e-3


def real_bars(market: Market) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield each ticker's bars from the source beside its stored features."""
    prices = sound(read_frames(market.folder)["prices"])
    for ticker, bars in prices[prices["volume"] > 0].groupby("ticker"):
        rows = market.features[market.features["ticker"] == ticker]
        assert list(rows["as_of"]) == list(bars["date"])
        yield bars, rows


def assert_close(name: str, got: np.ndarray, want: np.ndarray, scale: np.ndarray | float = 1.0) -> int:
    off = ~(np.abs(got - want) <= TOLERANCE * np.abs(want) + FLOOR * scale)
    assert not off.any(), (
        f"{name}: {off.sum()} of {len(got)} bars, first {got[off][:3]} where TA-Lib has {want[off][:3]}"
    )
    return len(got)


@pytest.mark.panel
def test_rsi_is_ta_libs_once_its_seed_has_faded(panel: Market) -> None:
    compared = 0
    for bars, rows in real_bars(panel):
        wanted = talib.RSI(bars["close"].to_numpy(), 14) if len(bars) > 14 else np.full(len(bars), np.nan)
        compared += assert_close("rsi", rows["rsi"].to_numpy(float)[RSI_WARM:], wanted[RSI_WARM:])
    assert compared > 30_000


@pytest.mark.panel
def test_macd_is_ta_libs_once_its_seeds_have_faded(panel: Market) -> None:
    compared = 0
    for bars, rows in real_bars(panel):
        close = bars["close"].to_numpy()[MACD_WARM:]
        if len(close):
            _, _, wanted = talib.MACD(bars["close"].to_numpy(), 12, 26, 9)
            got = rows["macd_histogram"].to_numpy(float)[MACD_WARM:]
            compared += assert_close("macd_histogram", got, wanted[MACD_WARM:], close)
    assert compared > 30_000


@pytest.mark.panel
def test_bands_are_ta_libs_with_the_sample_deviation(panel: Market) -> None:
    compared = 0
    for bars, rows in real_bars(panel):
        close = bars["close"].to_numpy()
        if len(close) < BANDS_WARM:
            continue
        # TA-Lib's deviation is the population's: twice ours is 2·sqrt(20/19) of it
        upper, middle, lower = talib.BBANDS(close, 20, 2 * sqrt(20 / 19), 2 * sqrt(20 / 19))
        with np.errstate(invalid="ignore"):
            wide = upper - lower > NARROW * np.maximum.accumulate(close)
        width, of_wide = (upper - lower)[wide], rows[wide]
        compared += assert_close("bb_bandwidth", of_wide["bb_bandwidth"].to_numpy(float), width / middle[wide])
        assert_close("bb_pctb", of_wide["bb_pctb"].to_numpy(float), (close - lower)[wide] / width)
    assert compared > 0.95 * len(panel.features)


@pytest.mark.panel
def test_atr_is_the_simple_mean_of_ta_libs_true_ranges(panel: Market) -> None:
    compared = 0
    for bars, rows in real_bars(panel):
        if len(bars) < ATR_WARM:
            continue
        high, low, close = (bars[name].to_numpy() for name in ("high", "low", "close"))
        wanted = talib.SMA(talib.TRANGE(high, low, close)[1:], 14)[ATR_WARM - 2 :] / close[ATR_WARM - 1 :] * 100
        compared += assert_close("atr_pct", rows["atr_pct"].to_numpy(float)[ATR_WARM - 1 :], wanted)
    assert compared > 50_000
