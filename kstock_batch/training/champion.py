"""What the champion says of a challenger's out-of-fold windows, where it can say so honestly."""

import logging
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.champion import Champion
from kstock_batch.errors import KStockError, NoChampion
from kstock_batch.learners.base import Probabilities
from kstock_batch.registry import Registry
from kstock_batch.training.dataset import LabelledRows

log = logging.getLogger(__name__)


def champion_probabilities(registry: Registry, rows: LabelledRows, windows: NDArray[np.int64]) -> Probabilities | None:
    """Return what the champion says of ``windows`` (N,), NaN where it has no honest opinion; None without a champion.

    Of sessions before its own as_of that is what its folds' models said; of later ones, what it says itself.
    A champion that can no longer be read or no longer fits the features is none: it could not score tonight either.
    """
    try:
        champion = Champion.load(registry.champion())
    except NoChampion:
        return None
    except KStockError as error:
        log.warning("no champion to compare with: %s", error.what)
        return None
    known = date.fromisoformat(champion.version.manifest["as_of"])
    keys = rows.keys[windows].select("ticker", "as_of")
    out = _judged(champion, keys)
    later = np.flatnonzero((keys["as_of"] >= known).to_numpy())
    if len(later):
        chosen = windows[later]
        out[later] = champion.predict(rows.inputs, rows.ends[chosen], rows.position[chosen])[1]
    return out


def _judged(champion: Champion, keys: pl.DataFrame) -> Probabilities:
    path = champion.version.folder / "judged.parquet"
    if "judged.parquet" not in champion.version.manifest["files"]:
        return np.full(keys.height, np.nan)
    stored = pl.read_parquet(path, columns=["ticker", "as_of", "blend"])
    joined = keys.join(stored, on=["ticker", "as_of"], how="left", maintain_order="left", validate="m:1")
    blend: Probabilities = joined["blend"].fill_null(float("nan")).to_numpy().copy()
    return blend
