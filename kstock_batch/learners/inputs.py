"""Contract columns become model inputs: scale-free values for the trees, ranks within the session for the LSTM.

Trees read the values of the last bar, what its 20 bars come to (``window_summaries``), and where the stock ranks in
its session. Market-wide columns are left out: a column that is the same for all tickers of a session lets a model
memorise some 700 sessions, and leaving it out was measured to be better out of sample. So was ranking the
fundamental columns instead of reading their values, whose coverage drifts over the years.
The LSTM reads where a ticker stands among the tickers of that session, so that no level, unit or won price reaches it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import BarRows, FloatRows, RowNumbers
from kstock_batch.learners.base import Inputs
from kstock_batch.learners.session_ranks import SessionGrid
from kstock_batch.learners.window_summaries import SUMMARY_NAMES, summarise
from kstock_batch.market.contract import FEATURE_NAMES, FEATURES, Feature

INPUTS_VERSION = 2
MONTH = 20  # sessions
RANKED_AT_ONCE = 5  # columns: each costs polars a start, and all of them at once a retrain's memory

MARKET_WIDE = tuple(feature.name for feature in FEATURES if feature.scope == "market_wide")
OF_TICKER = tuple(feature for feature in FEATURES if feature.scope != "market_wide")
RANKED = tuple(feature for feature in OF_TICKER if feature.as_input != "category")
CATEGORICAL = tuple(feature.name for feature in OF_TICKER if feature.as_input == "category")
VALUES = tuple(feature for feature in OF_TICKER if feature.scope != "fundamental")
# Two or three different values have no rank worth the name, and rs_percentile is one.
STEPS = ("macd_signal_cross", "golden_cross", "dead_cross", "bb_squeeze", "mtf_aligned", "weekly_trend_up")
RANKS = tuple(feature for feature in RANKED if feature.name not in (*STEPS, "rs_percentile"))
TABULAR_NAMES = (
    *(feature.name for feature in VALUES),
    *SUMMARY_NAMES,
    *(f"{feature.name}_rank" for feature in RANKS),
)


def build_inputs(bars: BarRows, *, since: int | None = None) -> Inputs:
    """Return what models see of ``bars``, row for row.

    ``bars`` must hold whole sessions: a ticker's ranks depend on all tickers of the session, scored tonight or not.
    Of sessions before number ``since`` nothing tabular is built: they are only the past of others.
    """
    ranks = _ranks(bars.frame)
    built = None if since is None else bars.rows_since(since)
    tabular = _tabular(bars, ranks, built)  # before the unknown ranks become 0 for the LSTM
    return Inputs(
        tabular=tabular,
        tabular_names=TABULAR_NAMES,
        categorical=CATEGORICAL,
        sequence=np.nan_to_num(ranks, copy=False),
        session=bars.frame["session_number"].cast(pl.Int64).to_numpy(),
        built=built,
    )


def describe_inputs() -> dict[str, Any]:
    """Return what a manifest must say for somebody to rebuild these inputs: JSON values only."""
    return {
        "version": INPUTS_VERSION,
        "tabular": list(TABULAR_NAMES),
        "categorical": list(CATEGORICAL),
        "sequence": list(FEATURE_NAMES),
        "scale_free": {feature.name: feature.as_input for feature in FEATURES},
        "level": "learnt without columns that say nothing in some months of the training rows",
        "market_wide": {"columns": list(MARKET_WIDE), "tabular": "left out", "sequence": "0 for all tickers"},
        "imputation": {"tabular": "NaN, native to the trees", "sequence": "0, the median of the session"},
        "ranks": "average rank among the known values of the session, centred to -0.5 ... 0.5; codes are 0",
    }


def learnt_rows(inputs: Inputs, ends: RowNumbers, *, learns_level: bool) -> FloatRows:
    """Return the tabular rows (N, D) a tree member learns from; one that learns the level is not shown what dates them.

    Blank columns are never split on, so such a member reads nothing of them when it scores either.
    """
    rows = inputs.rows(ends)
    if learns_level:
        rows[:, dates_its_rows(rows, inputs.session[ends])] = np.nan
    return rows


def dates_its_rows(rows: FloatRows, session: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which columns (D,) say nothing in some months and something in others: those are a date.

    Valuations begin in one year, liabilities end in another: a model that learns how likely rises are in a session
    would learn from them which years were good ones. To say nothing is to be one value for everybody, or known of less
    than half as many as in the month it is known of most.
    """
    if not len(rows):
        return np.zeros(rows.shape[1], dtype=bool)
    _, day = np.unique(session, return_inverse=True)
    order = np.argsort(day, kind="stable")
    starts = np.searchsorted(day[order], np.arange(0, int(day.max()) + 1, MONTH))
    dating = np.zeros(rows.shape[1], dtype=bool)
    n_rows = np.diff(starts, append=len(rows))
    for at, column in enumerate(rows.T):
        values = column[order]
        known = np.add.reduceat(~np.isnan(values), starts, dtype=np.int64) / n_rows
        differs = np.fmin.reduceat(values, starts) < np.fmax.reduceat(values, starts)  # NaN, so no: nothing is known
        says = differs & (known >= known.max() / 2)
        dating[at] = says.any() and not says.all()
    return dating


def require_columns(inputs: Inputs, learnt: Sequence[str], file_name: str) -> None:
    """Refuse to score columns other than those a tree member learnt from: trees know columns by position only."""
    if tuple(learnt) != inputs.tabular_names:
        missing, extra = set(learnt) - set(inputs.tabular_names), set(inputs.tabular_names) - set(learnt)
        raise ModelRefused(
            f"{file_name} learnt other columns: missing {sorted(missing)[:5]}, unknown {sorted(extra)[:5]}",
            fix="score with the features this model was trained on, or retrain",
        )


def scale_free(feature: Feature) -> pl.Expr:
    """Return the column as models may read it: without the won, which later splits restate."""
    value = pl.col(feature.name)
    forms = {
        "value": value,
        "category": value,
        "per_close": value / pl.col("close"),
        "close_over": pl.col("close") / value - 1,
    }
    return forms[feature.as_input].alias(feature.name)


def _tabular(bars: BarRows, ranks: FloatRows, built: RowNumbers | None) -> FloatRows:
    """Return (rows, D) float32 of the rows ``built`` (None = all), NaN = missing."""
    n = len(VALUES)
    frame, of_trees = bars.frame, [FEATURE_NAMES.index(feature.name) for feature in RANKS]
    if built is not None:
        frame, ranks = frame[built], ranks[built]
    whole = np.empty((frame.height, len(TABULAR_NAMES)), dtype=np.float32)
    values = BarRows(frame.select(scale_free(feature) for feature in VALUES))
    whole[:, :n] = values.values([feature.name for feature in VALUES])
    whole[:, n : n + len(SUMMARY_NAMES)] = summarise(bars, built)
    whole[:, n + len(SUMMARY_NAMES) :] = ranks[:, of_trees]
    return whole


def _ranks(frame: pl.DataFrame) -> FloatRows:
    """Return (rows, F) float32, NaN = unknown; columns that say nothing about a ticker's standing are 0.

    Those are the market-wide ones (all ties) and the sector code (nominal: its rank has no meaning).
    """
    ranks = np.zeros((frame.height, len(FEATURES)), dtype=np.float32)  # (rows, F)
    grid = SessionGrid.of(frame["session_number"].to_numpy())
    for start in range(0, len(RANKED), RANKED_AT_ONCE):
        some = RANKED[start : start + RANKED_AT_ONCE]
        values = frame.select(scale_free(feature).cast(pl.Float32) for feature in some)
        for feature in some:
            value = values[feature.name]
            ranks[:, FEATURE_NAMES.index(feature.name)] = grid.ranks(value.to_numpy(), value.is_not_null().to_numpy())
    return ranks
