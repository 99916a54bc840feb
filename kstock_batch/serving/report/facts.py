"""What the report tells: read from the store and the champion's manifest, drawn and worded elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb
import numpy as np
import polars as pl

from kstock_batch.errors import DataNotReady, KStockError
from kstock_batch.judging.drift_verdict import newest_verdict
from kstock_batch.registry import Registry
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

N_PICKS = 15
N_SESSIONS = 250  # of history in the charts
N_DRIFT_SESSIONS = 20
N_RUNS = 40
N_INCIDENTS = 25
CLOSES_DAYS = 120  # calendar days behind a stock's sparkline

SPAN, EVERYONE = "last 60", "every version"


@dataclass(frozen=True)
class Pick:
    """One of the session's highest or lowest, with its reasons and its closes, oldest first."""

    row: Mapping[str, Any]
    reasons: tuple[tuple[str, float], ...]
    closes: tuple[float, ...]


@dataclass(frozen=True)
class DriftMap:
    """PSI of each feature on the newest sessions as a share of what is no finding: (F, T), NaN = cannot be said."""

    features: tuple[str, ...]
    sessions: tuple[date, ...]
    share: np.ndarray


@dataclass(frozen=True)
class ReportFacts:
    """Everything a report says.

    Attributes
    ----------
    as_of, made_at : the session, and the UTC instant of the report
    n_scored, n_known : stocks scored, and stocks the session has features of
    summary : of the session's predictions: base rate, mean probability, counts by label, why it is degraded
    top, bottom : picks, by rank
    agreement, deciles, rolling_skill, rolling_decile, coverage, incidents, runs, stages : frames of the statements
        in sql/reports/
    scorecard : the running scorecard of the newest sessions; None = nothing was judged yet
    verdict : the newest drift verdict's sentence; None = none was given yet
    drift : None = too few stocks or sessions to tell
    card : the manifest of the model that made the predictions; None = it is no longer there
    """

    as_of: date
    made_at: datetime
    n_scored: int
    n_known: int
    summary: Mapping[str, Any]
    top: tuple[Pick, ...]
    bottom: tuple[Pick, ...]
    agreement: pl.DataFrame
    deciles: pl.DataFrame
    rolling_skill: pl.DataFrame
    rolling_decile: pl.DataFrame
    coverage: pl.DataFrame
    incidents: tuple[Mapping[str, Any], ...]
    runs: pl.DataFrame
    stages: tuple[Mapping[str, Any], ...]
    scorecard: Mapping[str, Any] | None
    verdict: str | None
    drift: DriftMap | None
    card: Mapping[str, Any] | None


def read_facts(settings: Settings, *, as_of: date | None, now: datetime) -> ReportFacts:
    """Return what a report of session ``as_of`` (None = the newest scored) tells; reads, and writes nothing."""
    with Warehouse.read(settings) as warehouse:
        con = warehouse.con
        scored = Query.load("reports/coverage_history").frame(con, n=N_SESSIONS)
        day = _session(scored, as_of)
        picks = _picks(con, day)
        summary = Query.load("reports/session_summary").rows(con, as_of=day)[0]
        nights = Query.load("reports/run_time").frame(con, n=N_RUNS).filter(pl.col("command") == "score")
        verdict = newest_verdict(con, day)
        deciles = Query.load("serve/running_decile").frame(con)
        cards = Query.load("serve/running_scorecard").rows(con)
        return ReportFacts(
            as_of=day,
            made_at=now,
            n_scored=summary["n_scored"],
            n_known=summary["n_known"],
            summary=summary,
            top=tuple(pick for pick in picks if pick.row["rank"] <= N_PICKS),
            bottom=tuple(pick for pick in picks if pick.row["rank"] > N_PICKS),
            agreement=Query.load("reports/member_agreement").frame(con, as_of=day),
            deciles=deciles.filter((pl.col("span") == SPAN) & (pl.col("model_version") == EVERYONE)).sort("decile"),
            rolling_skill=Query.load("reports/rolling_skill").frame(con, n=N_SESSIONS),
            rolling_decile=Query.load("reports/rolling_decile").frame(con, n=N_SESSIONS),
            coverage=scored,
            incidents=tuple(Query.load("reports/incident").rows(con, n=N_INCIDENTS)),
            runs=nights,
            stages=tuple(_stages(con, nights)),
            scorecard=next((c for c in cards if (c["span"], c["model_version"]) == (SPAN, EVERYONE)), None),
            verdict=verdict.sentence if verdict else None,
            drift=_drift(con, scored, day),
            card=_card(settings, summary["model_version"]),
        )


def _session(scored: pl.DataFrame, as_of: date | None) -> date:
    days: Sequence[date] = scored["as_of"].to_list()
    if not days:
        raise DataNotReady("no session is scored yet: there is nothing to report", fix="run `kstock-batch score`")
    if as_of is None:
        return days[-1]
    if as_of not in days:
        raise DataNotReady(
            f"session {as_of} is none of the {len(days)} newest that are scored ({days[0]} … {days[-1]})",
            fix="choose one of these with --as-of, or score it: `kstock-batch score --as-of DAY`",
        )
    return as_of


def _picks(con: duckdb.DuckDBPyConnection, as_of: date) -> list[Pick]:
    rows = Query.load("reports/pick").rows(con, as_of=as_of, n=N_PICKS)
    tickers = [row["ticker"] for row in rows]
    found = Query.load("reports/recent_close").frame(con, as_of=as_of, tickers=tickers, n_days=CLOSES_DAYS)
    closes: dict[Any, tuple[float, ...]] = {
        ticker: tuple(group["close"].to_list()) for (ticker,), group in found.group_by("ticker", maintain_order=True)
    }
    reasons = (tuple((name, float(adds)) for name, adds in json.loads(row["shap_top3"] or "[]")) for row in rows)
    return [Pick(row, why, closes.get(row["ticker"], ())) for row, why in zip(rows, reasons, strict=True)]


def _stages(con: duckdb.DuckDBPyConnection, nights: pl.DataFrame) -> list[dict[str, Any]]:
    if nights.is_empty():
        return []
    return Query.load("reports/stage_time").rows(con, run_id=nights["run_id"][-1])


def _drift(con: duckdb.DuckDBPyConnection, scored: pl.DataFrame, as_of: date) -> DriftMap | None:
    days = scored.filter(pl.col("as_of") <= as_of)["as_of"].to_list()[-N_DRIFT_SESSIONS:]
    query = Query.load("reports/feature_drift")
    by_day = {day: {row["feature"]: row["psi"] / row["highest"] for row in query.rows(con, as_of=day)} for day in days}
    features = sorted({feature for found in by_day.values() for feature in found})
    if not features:
        return None
    share = np.array([[by_day[day].get(feature, np.nan) for day in days] for feature in features])  # (F, T)
    return DriftMap(tuple(features), tuple(days), share)


def _card(settings: Settings, version: str) -> Mapping[str, Any] | None:
    try:
        return Registry(settings.models).get(version).manifest
    except KStockError:  # pruned since: what it predicted is still worth a report
        return None
