"""Measure the drift verdict: how often it alarms at an honest model, and how often at one that was spoilt.

usage: python tests/benchmarks/drift.py JUDGED.parquet [--markets 100]

JUDGED.parquet is a version's, of as many out-of-fold sessions as can be had (``validation_share = 0.5``). The promise
is what the honest model was worth on 140 sessions; 60 others are judged. First every fifth night as they came, the
promise being of the sessions before; then markets drawn anew from blocks of ten sessions, where promise and service are
alike but for luck.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.judging.drift import DriftLimits, judge_drift
from kstock_batch.judging.drift_verdict import STATES, DriftVerdict
from kstock_batch.judging.scorecard import scorecards

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]

PROMISED, SERVED, STEP, BLOCK = 140, 60, 5, 10
DAYS = [date(2000, 1, 1) + timedelta(days=n) for n in range(SERVED)]  # a session drawn twice is two sessions


@dataclass(frozen=True)
class Market:
    """Sessions to serve and sessions that made the promise, by number."""

    served: Numbers
    promised: Numbers


@dataclass(frozen=True)
class Model:
    """One model's scorecards, one row a session, and its rows, sorted by session."""

    cards: pl.DataFrame
    forecasts: pl.DataFrame
    begins: Numbers

    @classmethod
    def of(cls, rows: pl.DataFrame, p: Floats) -> "Model":
        """Return the model that says ``p`` of ``rows``, which are sorted by session."""
        told = rows.with_columns(probability=pl.Series(p))
        begins = np.flatnonzero(np.append(True, np.diff(rows["as_of"].to_physical().to_numpy()) != 0))
        forecasts = told.select("probability", "label_5d")
        return cls(scorecards(told).sessions, forecasts, np.append(begins, rows.height).astype(np.int64))

    def verdict(self, market: Market, honest: "Model") -> DriftVerdict:
        """Return what is said of this model after it served the market's sessions."""
        then = honest.cards[market.promised]
        gain = (then["floor_log_loss_sum"] - then["log_loss_sum"]).sum() / then["n"].sum()
        cards = self.cards[market.served].with_columns(
            as_of=pl.Series(DAYS),
            promised_gain=pl.lit(gain),
            promised_auc=pl.lit(then["auc"].mean()),
            n_promised=pl.lit(PROMISED),
        )
        rows = np.concatenate([np.arange(self.begins[s], self.begins[s + 1]) for s in market.served])
        day = np.repeat(np.arange(SERVED), [self.begins[s + 1] - self.begins[s] for s in market.served])
        forecasts = self.forecasts[rows].with_columns(as_of=pl.Series(DAYS)[day])
        return judge_drift(DAYS[-1], "model", cards, forecasts, [], limits=DriftLimits())


def spoilt(rows: pl.DataFrame, rng: np.random.Generator) -> dict[str, Floats]:
    """Return probabilities by what was done to them."""
    p, floor = (rows[name].cast(pl.Float64).to_numpy() for name in ("blend", "volatility"))
    z, z_floor = np.log(p / (1 - p)), np.log(floor / (1 - floor))
    shuffled = rows.select(pl.col("blend").shuffle(seed=1).over("as_of")).to_series().cast(pl.Float64).to_numpy()
    u = rng.uniform(size=len(p))

    def of(log_odds: Floats) -> Floats:
        return 1 / (1 + np.exp(-log_odds))

    return {
        "honest": p,
        "a quarter of the names shuffled": np.where(u < 0.25, shuffled, p),
        "half of the names shuffled": np.where(u < 0.5, shuffled, p),
        "all names shuffled": shuffled,
        "log odds twice as steep": of(z.mean() + 2 * (z - z.mean())),
        "log odds moved by 0.3": of(z + 0.3),
        "log odds moved by 0.6": of(z + 0.6),
        "four fifths volatility floor": of(0.2 * z + 0.8 * z_floor),
    }


def as_they_came(n_sessions: int) -> Iterator[Market]:
    """Yield every fifth night's sessions, and those before them."""
    for start in range(PROMISED, n_sessions - SERVED + 1, STEP):
        yield Market(np.arange(start, start + SERVED), np.arange(start - PROMISED, start))


def drawn(n_sessions: int, n: int, rng: np.random.Generator) -> Iterator[Market]:
    """Yield ``n`` markets of blocks of consecutive sessions."""

    def blocks(length: int) -> Numbers:
        starts = rng.integers(0, n_sessions - BLOCK + 1, size=length // BLOCK)
        return (starts[:, None] + np.arange(BLOCK)).ravel()

    for _ in range(n):
        yield Market(blocks(SERVED), blocks(PROMISED))


def main() -> None:
    """Print one line per model: how often each state, and how often each check was the cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("judged", type=Path)
    parser.add_argument("--markets", type=int, default=100)
    given = parser.parse_args()
    rng = np.random.default_rng(20240628)
    rows = pl.read_parquet(given.judged).sort("as_of", "ticker").with_columns(
        model_version=pl.lit("model"),
        base_rate=pl.col("base"),
        known_on="as_of",
        return_1d=pl.lit(None, dtype=pl.Float64),
        return_3d=pl.lit(None, dtype=pl.Float64),
    )  # fmt: skip
    models = {name: Model.of(rows, p) for name, p in spoilt(rows, rng).items()}
    honest = models["honest"]
    markets = {
        "as they came": list(as_they_came(honest.cards.height)),
        "drawn anew": list(drawn(honest.cards.height, given.markets, rng)),
    }
    print(f"{rows.height:,} rows of {honest.cards.height} sessions")
    print("| sessions | model | watch % | drifted % | by |\n|---|---|--:|--:|---|")
    for order, chosen in markets.items():
        for name, model in models.items():
            verdicts = [model.verdict(market, honest) for market in chosen]
            share = {state: 100 * np.mean([v.state == state for v in verdicts]) for state in STATES}
            causes = [check.name for v in verdicts for check in v.checks if check.state == "drifted"]
            by = ", ".join(f"{cause} {100 * causes.count(cause) / len(verdicts):.0f}" for cause in sorted(set(causes)))
            print(
                f"| {order}, {len(verdicts)} | {name} | {share['watch']:.0f} | {share['drifted']:.0f} | {by} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
