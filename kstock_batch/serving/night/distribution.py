"""The gate on a session's scores as a whole, beside those of the session before.

Limits stand well outside of what a model scored out of sample on 245 sessions of 2024 (2,317 to 2,402 names), beside
the session before and up to five before it. The fall of 2024-08-05, KOSPI's worst since 2008, gave the lowest rank
correlation (0.44 with the day before, 0.25 with the second before) and the largest step of the level (+0.86 log-odds).

| fact | seen | limit |
|---|---|---|
| share of names with the most common probability | 0.04 % | 50 % |
| standard deviation of the log-odds | 0.34 … 0.58 | 0.005 |
| share of names scored on both sessions | 98.8 … 100 % | 80 % |
| rank correlation of those | 0.25 … 0.98 | 0.10 |
| step of the mean log-odds | -0.81 … +1.01 | 2.5 either way |
| standard deviation, of the blend and of each member, times that of before | 0.43 … 1.78 | 0.25 … 4 |
"""

from collections.abc import Iterator
from datetime import date

import duckdb
import numpy as np
import polars as pl

from kstock_batch.learners.calibration import logit
from kstock_batch.learners.members import MEMBER_NAMES
from kstock_batch.serving.night.gates import Finding, Gate
from kstock_batch.store.queries import Query

MIN_NAMES = 100  # of fewer names chance alone would move a correlation by what a fault does
MAX_SAME_SHARE = 0.5
MIN_SPREAD = 0.005  # a tenth of what the flattest calibrator leaves of a usual spread
MIN_OVERLAP = 0.8
MIN_RANK_CORRELATION = 0.1
MAX_STEP = 2.5
MAX_SPREAD_RATIO = 4.0


def distribution(con: duckdb.DuckDBPyConnection, as_of: date, rows: pl.DataFrame) -> Gate:
    """Return the gate on ``rows`` of prediction: is this a ranking, and one that follows from the session before.

    Only sessions of the same model are compared in their numbers: another one has a level and a spread of its own.
    """
    if rows.height < MIN_NAMES:
        return Gate("distribution", [Finding(f"{rows.height} names are too few to tell", True)])
    before = Query.load("serve/scores_before").frame(con, as_of=as_of)
    findings = list(_alone(rows))
    if before.height >= MIN_NAMES:
        findings.append(_overlap(rows, before))
        if before["model_version"][0] == rows["model_version"][0]:
            findings.extend(_against(rows, before))
    return Gate("distribution", findings)


def _alone(rows: pl.DataFrame) -> Iterator[Finding]:
    same = int(rows["probability"].unique_counts().max()) / rows.height  # type: ignore[arg-type]  # counts of names
    yield Finding(
        f"{same:.1%} of the names share one probability (at most {MAX_SAME_SHARE:.0%})", same <= MAX_SAME_SHARE
    )
    spread = _spread(rows, "probability")
    yield Finding(f"log-odds spread by {spread:.4f} (at least {MIN_SPREAD})", spread >= MIN_SPREAD)


def _overlap(rows: pl.DataFrame, before: pl.DataFrame) -> Finding:
    n_both = rows.join(before, on="ticker", how="semi").height
    share = n_both / max(rows.height, before.height)
    told = f"{share:.1%} of the names are those of {before['as_of'][0]} (at least {MIN_OVERLAP:.0%})"
    return Finding(told, share >= MIN_OVERLAP)


def _against(rows: pl.DataFrame, before: pl.DataFrame) -> Iterator[Finding]:
    day = before["as_of"][0]
    both = rows.join(before, on="ticker", validate="1:1", suffix="_before")
    correlation = both.select(pl.corr("probability", "probability_before", method="spearman")).item()
    # NaN, of scores that are all the same, is no correlation at all
    yield Finding(
        f"rank correlation {correlation:.2f} with {day} (at least {MIN_RANK_CORRELATION})",
        bool(correlation >= MIN_RANK_CORRELATION),
    )
    step = _level(rows) - _level(before)
    yield Finding(f"mean log-odds {step:+.2f} since {day} (at most {MAX_STEP} either way)", abs(step) <= MAX_STEP)
    for name in ("probability", *MEMBER_NAMES):
        if rows[name].is_null().any() or before[name].is_null().any() or not (was := _spread(before, name)):
            continue  # absent on either session, or one number for all even then
        ratio = _spread(rows, name) / was
        told = f"{name} spreads {ratio:.2f} times as far as on {day} ({1 / MAX_SPREAD_RATIO} … {MAX_SPREAD_RATIO:.0f})"
        yield Finding(told, 1 / MAX_SPREAD_RATIO <= ratio <= MAX_SPREAD_RATIO)


def _spread(rows: pl.DataFrame, name: str) -> float:
    return float(np.std(logit(rows[name].to_numpy())))


def _level(rows: pl.DataFrame) -> float:
    return float(np.mean(logit(rows["probability"].to_numpy())))
