"""The scorecard of a session: what its predictions were worth once their outcomes were known.

Sums, not means, wherever a metric is a mean over rows: the scorecards of any sessions can then be added up by SQL. The
AUC is kept inside the session and inside its volatility quintiles: over sessions together it tells which days rose.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.judging.metrics import (
    QUINTILES,
    Floats,
    Integers,
    auc_by_group,
    decile,
    losses,
    volatility_cell,
)


@dataclass(frozen=True)
class Scorecards:
    """Rows of the tables scorecard and scorecard_decile, less who wrote them and when."""

    sessions: pl.DataFrame
    deciles: pl.DataFrame


def scorecards(judged: pl.DataFrame) -> Scorecards:
    """Return the scorecards of the sessions in ``judged`` (columns of sql/judging/judged.sql) that have an outcome."""
    n_predictions = judged.group_by("as_of").agg(n_predictions=pl.len())
    known = judged.filter(pl.col("label_5d").is_not_null()).sort("as_of", "ticker")
    keys = known.group_by("as_of", maintain_order=True).agg(pl.col("model_version", "known_on").first())
    session = known["as_of"].rank("dense").cast(pl.Int64).to_numpy() - 1
    sessions = keys.with_columns(**_sums(known, session)).join(n_predictions, on="as_of", how="left", validate="1:1")
    return Scorecards(sessions, _deciles(known, session))


def _sums(known: pl.DataFrame, session: Integers) -> dict[str, pl.Series]:
    """Return one value a session, in order; ``session`` (N,) numbers them from 0."""
    p, y, base = (_floats(known, name) for name in ("probability", "label_5d", "base_rate"))
    n_sessions = int(session.max(initial=-1)) + 1

    def by_session(values: Floats) -> Floats:
        return np.bincount(session, values, minlength=n_sessions).astype(np.float64)

    inside = auc_by_group(p, y, session)
    sums: dict[str, Any] = {
        "n": np.bincount(session, minlength=n_sessions),
        "n_hits": by_session(y).astype(np.int64),
        "probability_sum": by_session(p),
        "log_loss_sum": by_session(losses(p, y)),
        "brier_sum": by_session((p - y) ** 2),
        "base_log_loss_sum": by_session(losses(base, y)),
        "base_brier_sum": by_session((base - y) ** 2),
        "auc": inside.value,
    }
    floor = _floats(known, "volatility")
    has_floor = by_session(np.isnan(floor).astype(np.float64)) == 0
    cells = auc_by_group(p, y, volatility_cell(session, _floats(known, "atr_pct")))
    is_cell = ~np.isnan(cells.value)
    of_session = cells.group[is_cell] // QUINTILES
    of_floor = {
        "floor_log_loss_sum": by_session(losses(floor, y)),
        "floor_brier_sum": by_session((floor - y) ** 2),
        "auc_vol_sum": np.bincount(of_session, cells.value[is_cell], minlength=n_sessions),
        "n_auc_vol": np.bincount(of_session, minlength=n_sessions),
    }
    sums |= {name: np.where(has_floor, values, np.nan) for name, values in of_floor.items()}
    series = {name: pl.Series(name, values) for name, values in sums.items()}
    return {name: one.fill_nan(None) if one.dtype == pl.Float64 else one for name, one in series.items()}


def _deciles(known: pl.DataFrame, session: Integers) -> pl.DataFrame:
    """Return the rows of scorecard_decile."""
    tenth = pl.Series("decile", decile(_floats(known, "probability"), session), dtype=pl.UInt8)
    has_early = pl.col("return_1d").is_not_null() & pl.col("return_3d").is_not_null()
    early = {f"{name}_sum": pl.col(name).filter(has_early).sum() for name in ("return_1d", "return_3d")}
    return (
        known.with_columns(tenth)
        .group_by("as_of", "model_version", "decile")
        .agg(
            n=pl.len(),
            n_hits=pl.col("label_5d").cast(pl.Int64).sum(),
            probability_sum=pl.col("probability").sum(),
            n_early=has_early.sum(),
            **early,
            return_5d_sum=pl.col("forward_return").sum(),
        )
        .sort("as_of", "decile")
    )


def _floats(frame: pl.DataFrame, name: str) -> Floats:
    """Return a column as (N,) float64, null as NaN."""
    values: Floats = frame[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return values
