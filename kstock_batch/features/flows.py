"""Flow features: how often foreigners and institutions bought, over bars whose figures were known on the night."""

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.features.knowledge import Knowledge
from kstock_batch.features.matrix import REACH, Layout, Matrix, shifted
from kstock_batch.store.queries import Query

N_BARS = 5
FLOW_FEATURES = {"foreign_net_buy_days": "foreign_sign", "institution_net_buy_days": "institution_sign"}


def flow_counts(
    con: duckdb.DuckDBPyConnection, frame: pl.DataFrame, layout: Layout, knowledge: Knowledge
) -> dict[str, NDArray[np.float32]]:
    """Return days bought minus days sold over the last 5 bars, (B - W, S) float32; NaN unless all five were known.

    A figure that comes a night late, or is corrected, counts from the night that knew it: each of the five bars is
    looked up in the newest version known at the cutoff of T.
    """
    n_new = layout.n_rows - REACH
    recent = layout.row >= REACH - N_BARS + 1
    since = frame.filter(pl.Series(recent))["session"].min()
    flows = Query.load("features/flow").frame(con, start=since, end=frame["session"].max(), **knowledge.params)
    if flows.is_empty():
        unknown = np.full((n_new, layout.n_series), np.nan, dtype=np.float32)
        return dict.fromkeys(FLOW_FEATURES, unknown)
    cutoff = layout.spread(frame["cutoff_at"].dt.timestamp("us"))
    layers = [_layer(frame, layout, rows) for _, rows in sorted(flows.partition_by("layer", as_dict=True).items())]
    return {
        feature: np.sum([_sign_known(layers, name, cutoff, back, n_new) for back in range(N_BARS)], axis=0).astype("f4")
        for feature, name in FLOW_FEATURES.items()
    }


def _layer(frame: pl.DataFrame, layout: Layout, flows: pl.DataFrame) -> dict[str, Matrix]:
    """Return one version's figures, laid out like the bars."""
    rows = frame.select("ticker", "session").join(
        flows, on=["ticker", "session"], how="left", validate="m:1", maintain_order="left"
    )
    spread = {name: layout.spread(rows[name]) for name in FLOW_FEATURES.values()}
    return {**spread, "available_at": layout.spread(rows["available_at"].dt.timestamp("us"))}


def _sign_known(layers: list[dict[str, Matrix]], name: str, cutoff: Matrix, back: int, n_new: int) -> Matrix:
    """Return (n_new, S): the sign of the bar ``back`` bars before each, as known at the cutoff of T."""
    known_by, sign = shifted(cutoff, 0, n_new), np.full((n_new, cutoff.shape[1]), np.nan)
    for layer in layers:
        was_known = shifted(layer["available_at"], back, n_new) <= known_by
        sign = np.where(was_known, shifted(layer[name], back, n_new), sign)
    return sign
