"""Two model versions side by side: what each manifest says, and what their probabilities did on the same rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.judging.bootstrap import Difference, auc_difference, log_loss_difference
from kstock_batch.registry import ModelVersion, require_intact

JUDGED = "judged.parquet"
KEYS = ("ticker", "as_of", "label_5d")
READ = (*KEYS, "atr_pct", "blend")

Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class Comparison:
    """How two versions differ.

    Attributes
    ----------
    first, second : names of the versions
    metrics : of the two blends, each on its own judging block
    n_rows, n_sessions, span : rows judged by both, and the first and last session of those
    differences : metric -> by how much the first is worse on those rows; empty if there are none
    """

    first: str
    second: str
    metrics: tuple[Metrics, Metrics]
    n_rows: int
    n_sessions: int
    span: tuple[date, date] | None
    differences: Mapping[str, Difference]

    @property
    def sentence(self) -> str:
        """Return what the common rows say."""
        if self.span is None:
            return f"{self.first} and {self.second} were judged on no common row: only their metrics can be compared"
        told = " and ".join(_told(metric, found) for metric, found in self.differences.items())
        on = f"{self.n_rows:,} common rows of {self.n_sessions} sessions, {self.span[0]} … {self.span[1]}"
        return f"{self.first} against {self.second} on {on}: {told}"

    def metric_rows(self) -> list[dict[str, Any]]:
        """Return one row per metric that either states, to print."""
        one, two = self.metrics
        names = [*one, *(name for name in two if name not in one)]
        return [{"metric": name, self.first: one.get(name), self.second: two.get(name)} for name in names]

    def difference_rows(self) -> list[dict[str, Any]]:
        """Return one row per metric compared on the common rows, to print."""
        return [{"metric": metric, **found.row()} for metric, found in self.differences.items()]

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "first": self.first,
            "second": self.second,
            "metrics": {self.first: self.metrics[0], self.second: self.metrics[1]},
            "n_rows": self.n_rows,
            "n_sessions": self.n_sessions,
            "span": [str(day) for day in self.span] if self.span else None,
            "differences": {metric: found.row() for metric, found in self.differences.items()},
            "sentence": self.sentence,
        }


def compare(first: ModelVersion, second: ModelVersion) -> Comparison:
    """Return how the blend of ``first`` differs from that of ``second``; damaged versions are refused."""
    rows = _common_rows(first, second)
    days = rows["as_of"]
    one, two, y, atr_pct = (
        rows[name].cast(pl.Float64).to_numpy() for name in ("blend", "blend_second", "label_5d", "atr_pct")
    )
    session = days.to_physical().cast(pl.Int64).to_numpy()
    differences = {
        "log_loss": log_loss_difference(one, two, y, session),
        "auc_day_vol": auc_difference(one, two, y, session, atr_pct),
    }
    return Comparison(
        first=first.version,
        second=second.version,
        metrics=(first.manifest["metrics"]["blend"], second.manifest["metrics"]["blend"]),
        n_rows=rows.height,
        n_sessions=days.n_unique(),
        span=_span(days),
        differences=differences if rows.height else {},
    )


def _common_rows(first: ModelVersion, second: ModelVersion) -> pl.DataFrame:
    """Return the rows that both versions judged; without those whose outcome a source restated in between."""
    one, two = _judged(first), _judged(second).select(*KEYS, pl.col("blend").alias("blend_second"))
    return one.join(two, on=KEYS, how="inner", validate="1:1").sort("as_of", "ticker")


def _judged(version: ModelVersion) -> pl.DataFrame:
    """Return the out-of-sample rows a version was stored with; none if it was stored without."""
    require_intact(version)
    if JUDGED not in version.manifest["files"]:
        schema = {"ticker": pl.String, "as_of": pl.Date, "label_5d": pl.Float64, "atr_pct": pl.Float64}
        return pl.DataFrame(schema=schema | {"blend": pl.Float64})
    rows = pl.read_parquet(version.folder / JUDGED, columns=list(READ))
    return rows.with_columns(pl.col("label_5d").cast(pl.Float64)).filter(
        pl.col("blend").is_not_null() & pl.col("blend").is_not_nan() & pl.col("label_5d").is_not_null()
    )


def _span(days: pl.Series) -> tuple[date, date] | None:
    known = days.unique().sort().to_list()
    return (known[0], known[-1]) if known else None


def _told(metric: str, found: Difference) -> str:
    """Return who is better in one metric, and whether days alone may explain it."""
    if not np.isfinite(found.mean):
        return f"{metric} has no meaning there"
    if found.mean == 0:
        return f"the same {metric}"
    side = "worse" if found.mean > 0 else "better"
    is_clear = found.low > 0 or found.high < 0
    why = "more than days explain" if is_clear else "which days alone may explain"
    return f"{metric} {side} by {abs(found.mean):.5f}, {why} ({found.low:+.5f} … {found.high:+.5f})"
