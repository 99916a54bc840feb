"""What a night's predictions will be held against: the volatility floor that night, and what their version promised.

Written in the transaction of the predictions: nothing they are measured by is chosen once the outcome is known.
"""

from datetime import date
from typing import Any

import duckdb
import polars as pl

from kstock_batch.learners.calibration import sigmoid
from kstock_batch.learners.linear import LogisticModel
from kstock_batch.registry import ModelVersion
from kstock_batch.serving.night.session_windows import SessionWindows
from kstock_batch.store.warehouse import insert_rows, replace_rows

_OF_BLEND = ("log_loss", "brier_skill_pct", "brier_skill_vol_pct", "auc_day", "auc_day_vol", "ece_pct")
_METRICS = (*_OF_BLEND, "floor_log_loss")


def keep_yardsticks(
    con: duckdb.DuckDBPyConnection, version: ModelVersion, windows: SessionWindows, as_of: date, run_id: str
) -> None:
    """Make the store hold them for ``as_of``, and mark its outcomes as due, within a transaction of the caller's."""
    replace_rows(con, "floor_prediction", floor_rows(version, windows, as_of), start=as_of, end=as_of)
    promised = pl.DataFrame([promise(version)], schema_overrides=dict.fromkeys(_METRICS, pl.Float64))
    con.execute("DELETE FROM model_promise WHERE model_version = $version", {"version": version.version})
    insert_rows(con, "model_promise", promised, order=None)
    con.execute("INSERT INTO outcome_due VALUES ($as_of, $run_id)", {"as_of": as_of, "run_id": run_id})


def floor_rows(version: ModelVersion, windows: SessionWindows, as_of: date) -> pl.DataFrame:
    """Return what the volatility floor that was fitted with the version says of each window's ticker."""
    floor = LogisticModel.from_json(version.manifest["floors"]["volatility"])
    return windows.bars.frame[windows.ends].select(
        "ticker",
        pl.lit(as_of).alias("as_of"),
        pl.col("atr_pct").cast(pl.Float64),
        pl.Series("volatility", sigmoid(floor.margin(windows.inputs, windows.ends))),
    )


def promise(version: ModelVersion) -> dict[str, Any]:
    """Return what the version's manifest says it was worth out of fold."""
    blend, floor = (version.manifest["metrics"][name] for name in ("blend", "volatility"))
    return {
        "model_version": version.version,
        "n_sessions": version.manifest["judged"]["n_sessions"],
        "floor_log_loss": floor["log_loss"],
        **{name: blend[name] for name in _OF_BLEND},
    }
