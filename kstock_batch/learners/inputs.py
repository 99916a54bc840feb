"""Contract columns become model inputs: scale-free values for the trees, ranks within the session for the LSTM.

Trees read the row's own values without the market-wide columns: a column that is the same for all tickers of a
session lets a model memorise some 480 sessions, and leaving it out was measured to be better out of sample.
The LSTM reads where a ticker stands among the tickers of that session, so that no level, unit or won price reaches it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import BarRows, FloatRows
from kstock_batch.learners.base import Inputs
from kstock_batch.market.contract import FEATURE_NAMES, FEATURES, Feature

INPUTS_VERSION = 1

MARKET_WIDE = tuple(feature.name for feature in FEATURES if feature.scope == "market_wide")
TABULAR = tuple(feature for feature in FEATURES if feature.scope != "market_wide")
CATEGORICAL = tuple(feature.name for feature in TABULAR if feature.as_input == "category")
RANKED = tuple(feature for feature in TABULAR if feature.as_input != "category")


def build_inputs(bars: BarRows) -> Inputs:
    """Return what models see of ``bars``, row for row.

    ``bars`` must hold whole sessions: a ticker's ranks depend on all tickers of the session, scored tonight or not.
    """
    return Inputs(
        tabular=_tabular(bars),
        tabular_names=tuple(feature.name for feature in TABULAR),
        categorical=CATEGORICAL,
        sequence=_sequence(bars.frame),
        session=bars.frame["session_number"].cast(pl.Int64).to_numpy(),
    )


def describe_inputs() -> dict[str, Any]:
    """Return what a manifest must say for somebody to rebuild these inputs: JSON values only."""
    return {
        "version": INPUTS_VERSION,
        "tabular": [feature.name for feature in TABULAR],
        "categorical": list(CATEGORICAL),
        "sequence": list(FEATURE_NAMES),
        "scale_free": {feature.name: feature.as_input for feature in FEATURES},
        "market_wide": {"columns": list(MARKET_WIDE), "tabular": "left out", "sequence": "0 for all tickers"},
        "imputation": {"tabular": "NaN, native to the trees", "sequence": "0, the median of the session"},
        "sequence_values": "average rank among the known values of the session, centred to -0.5 ... 0.5; codes are 0",
    }


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


def session_rank(value: pl.Expr) -> pl.Expr:
    """Return the average rank of ``value`` among the known ones of its session, centred to -0.5 … 0.5; unknown is 0.

    A column of ties is exactly 0, and so is a session with fewer than two known values.
    """
    known = value.count()
    centred = (value.rank("average") - (known + 1) / 2) / (known - 1)
    return pl.when(known > 1).then(centred).fill_null(0).over("as_of").cast(pl.Float32)


def _tabular(bars: BarRows) -> FloatRows:
    """Return (rows, D) float32, NaN = missing."""
    values = BarRows(bars.frame.select(scale_free(feature) for feature in TABULAR))
    return np.ascontiguousarray(values.values([feature.name for feature in TABULAR]))


def _sequence(frame: pl.DataFrame) -> FloatRows:
    """Return (rows, F) float32, finite; columns that say nothing about a ticker's standing stay 0.

    Those are the market-wide ones (all ties) and the sector code (nominal: its rank has no meaning).
    """
    ranks = np.zeros((frame.height, len(FEATURES)), dtype=np.float32)  # (rows, F)
    for feature in RANKED:  # one column at a time: thirty float64 rank columns at once would be 0.4 GB more
        column = frame.select(session_rank(scale_free(feature))).to_series()
        ranks[:, FEATURE_NAMES.index(feature.name)] = column.to_numpy()
    return ranks
