"""What each variant was worth in each session: the scorecard's sums, and what ranks and returns add to them."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from kstock_batch.judging.metrics import Floats, Integers, auc_by_group, decile
from kstock_batch.judging.scorecard import scorecards

RETURN_LIMIT = 0.5  # of a forward return: a re-listing must not be a portfolio's whole year
TENTHS = 10


@dataclass(frozen=True)
class Judged:
    """Rows of the tables backtest_session and backtest_decile of one variant, less whose they are."""

    sessions: pl.DataFrame
    deciles: pl.DataFrame


def judge(rows: pl.DataFrame, variant: str) -> Judged:
    """Return what the column ``variant`` of ``rows`` was worth, session by session; rows without an outcome count not.

    ``rows``: ticker, as_of, atr_pct, base_rate, volatility, label_5d, forward_return, known_on and the column.
    """
    known = rows.filter(pl.col("label_5d").is_not_null(), pl.col(variant).is_not_nan()).sort("as_of", "ticker")
    absent = pl.lit(None, dtype=pl.Float64)
    cards = scorecards(
        known.select(
            *("as_of", "ticker", "base_rate", "atr_pct", "volatility", "label_5d", "known_on", "forward_return"),
            model_version=pl.lit(variant),
            probability=pl.col(variant),
            return_1d=absent,
            return_3d=absent,
        )
    )
    sessions = cards.sessions.drop("model_version", "n_predictions").with_columns(**_ranked(known, variant))
    deciles = cards.deciles.select("as_of", "decile", "n", "n_hits", "probability_sum", "return_5d_sum")
    return Judged(sessions.with_columns(variant=pl.lit(variant)), deciles.with_columns(variant=pl.lit(variant)))


def _ranked(known: pl.DataFrame, variant: str) -> dict[str, pl.Series]:
    """Return, one value a session, the AUC inside volatility tenths, the rank correlation, and the top's returns."""
    session = known["as_of"].rank("dense").cast(pl.Int64).to_numpy() - 1
    n_sessions = int(session.max(initial=-1)) + 1
    p, y, atr_pct = (known[name].cast(pl.Float64).to_numpy() for name in (variant, "label_5d", "atr_pct"))
    inside = auc_by_group(p, y, session * TENTHS + volatility_tenth(atr_pct, session))
    is_cell = ~np.isnan(inside.value)
    of_session = inside.group[is_cell] // TENTHS
    is_top = decile(p, session) == TENTHS
    clipped = known["forward_return"].cast(pl.Float64).clip(-RETURN_LIMIT, RETURN_LIMIT).to_numpy()
    ranks = known.group_by("as_of", maintain_order=True).agg(
        ic=pl.corr(variant, pl.col("forward_return").clip(-RETURN_LIMIT, RETURN_LIMIT), method="spearman")
    )

    def summed(values: Floats | Integers | np.ndarray[tuple[int], np.dtype[np.bool_]], of: Integers) -> Floats:
        return np.bincount(of, values, minlength=n_sessions).astype(np.float64)

    sums = {
        "auc_tenth_sum": summed(inside.value[is_cell], of_session),
        "n_auc_tenth": np.bincount(of_session, minlength=n_sessions),
        "n_top": np.bincount(session, is_top, minlength=n_sessions).astype(np.int64),
        "n_top_hits": summed(is_top * y, session).astype(np.int64),
        "top_return_sum": summed(is_top * clipped, session),
        "return_sum": summed(clipped, session),
    }
    return {"ic": ranks["ic"].fill_nan(None), **{name: pl.Series(name, values) for name, values in sums.items()}}


def volatility_tenth(atr_pct: Floats, session: Integers) -> Integers:
    """Return which tenth of its session by volatility each row (N,) lies in, 0 the calmest."""
    return decile(atr_pct, session) - 1
