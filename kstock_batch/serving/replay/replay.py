"""A past night rebuilt: raw rows as the store held them when it scored → features → windows → model → predictions.

Everything goes through the code of the night itself; only the features come from ``features.replay`` instead of the
store. Nothing is written. Features registered beside the contract's are left out: no model reads them.
"""

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import polars as pl

from kstock_batch.champion import Champion
from kstock_batch.errors import DataNotReady, ReplayDiffers
from kstock_batch.features.build import recipe_of
from kstock_batch.registry import Registry
from kstock_batch.serving.night.score import explained, predicted
from kstock_batch.serving.replay.bits import Comparison, some
from kstock_batch.serving.replay.night_features import NightFeatures, windows_of
from kstock_batch.serving.replay.published_night import PublishedNight
from kstock_batch.serving.replay.replay_findings import Case, Finding, findings, model_of, of_records
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

KEY = ("ticker",)
CELLS_IN_JSON = 100  # a night that differs in every column has 40,000


@dataclass(frozen=True)
class PredictionReplay:
    """A night rebuilt, beside what is published of it.

    Attributes
    ----------
    rebuilt : what model and raw rows give; None where there is no model to ask
    comparison : the published rows beside them
    findings : why they differ, the first cause first; empty = identical
    notes : what a person should know besides
    """

    night: PublishedNight
    rebuilt: pl.DataFrame | None
    comparison: Comparison
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def is_identical(self) -> bool:
        """Whether every row came out as it was published, and everything it was made of is as it was."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """Return the summary of a night that came out."""
        origin = self.night.origin
        return (
            f"{self.night.rows.height:,} predictions of {self.night.as_of} rebuilt: identical bits"
            f" (model {origin.model_version}, scored {self.night.scored_at:%Y-%m-%d %H:%M} UTC, in {self.night.place})"
        )

    def require_identical(self) -> None:
        """Raise with the first reason unless the night came out."""
        if self.findings:
            first = self.findings[0]
            what = f"{self.night.as_of} does not come out as it was published: {first.told}"
            raise ReplayDiffers(what, fix=first.fix)

    def stock(self, ticker: str) -> list[dict[str, Any]]:
        """Return one stock's columns: as published, as rebuilt."""
        there = self.night.rows.filter(pl.col("ticker") == ticker)
        rebuilt = pl.DataFrame() if self.rebuilt is None else self.rebuilt.filter(pl.col("ticker") == ticker)
        if there.is_empty() and rebuilt.is_empty():
            raise DataNotReady(
                f"{ticker} has no prediction of {self.night.as_of}", fix="name another stock, or leave --ticker out"
            )
        sides = [rows.row(0, named=True) if rows.height else {} for rows in (there, rebuilt)]
        differing = set(self.comparison.cells.filter(pl.col("ticker") == ticker)["column"])
        return [
            {"column": name, "published": _text(sides[0], name), "rebuilt": _text(sides[1], name)}
            | {"is_same": name in sides[0] and name in sides[1] and name not in differing}
            for name in (self.night.rows if self.rebuilt is None else self.rebuilt).columns
        ]

    def cells(self, n: int) -> list[dict[str, Any]]:
        """Return the first ``n`` cells that differ: ticker, column, published, rebuilt."""
        cells = self.comparison.cells.head(n)
        return (
            []
            if cells.is_empty()
            else cells.select(*KEY, "column", pl.col("there").alias("published"), "rebuilt").to_dicts()
        )

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        differs = self.comparison
        return {
            "as_of": self.night.as_of,
            "is_identical": self.is_identical,
            "n_predictions": self.night.rows.height,
            "place": self.night.place,
            **asdict(self.night.origin),
            "scored_by": self.night.run and self.night.run.row(),
            "findings": [asdict(finding) for finding in self.findings],
            "differing": {"columns": differs.columns, "tickers": differs.tickers, "cells": self.cells(CELLS_IN_JSON)},
            "notes": list(self.notes),
        }


def replay_predictions(settings: Settings, as_of: date) -> PredictionReplay:
    """Rebuild the night of ``as_of`` and compare it with what is published of it, else with what the store says."""
    registry = Registry(settings.models)
    with Warehouse.read(settings) as warehouse:  # let go of before scoring: a night must not wait longer than it has to
        night = PublishedNight.find(warehouse.con, settings, as_of)
        model = model_of(night, registry)
        if isinstance(model, Finding):
            notes = (*night.notes, "nothing was rebuilt: without the model there is nothing to compare")
            return PredictionReplay(night, None, Comparison(night.rows.height), (model, *of_records(night)), notes)
        features = NightFeatures.read(warehouse.con, recipe_of(settings), as_of, night.scored_at)
    rebuilt = _predictions(model, features.rebuilt, night)
    case = Case(
        night,
        model,
        features,
        rebuilt=_compared(night.rows, rebuilt),
        from_stored=_compared(night.rows, _from_stored(model, features, night, rebuilt)),
        store_rebuilt=None if night.against_store() is None else _compared(night.stored, rebuilt),
    )
    return PredictionReplay(night, rebuilt, case.rebuilt, tuple(findings(case)), (*night.notes, *_notes(features)))


def _from_stored(
    model: Champion, features: NightFeatures, night: PublishedNight, rebuilt: pl.DataFrame
) -> pl.DataFrame:
    """Return what the stored features give: asked only where they are others than the rebuilt ones."""
    return rebuilt if features.against_stored.is_identical else _predictions(model, features.stored, night)


def _predictions(model: Champion, rows: pl.DataFrame, night: PublishedNight) -> pl.DataFrame:
    """Return what the night would have stored of these features; no rows where they hold nothing to score."""
    windows = windows_of(rows, night.as_of)
    if windows is None:
        return night.rows.clear()
    predictions = explained(predicted(model, windows, night.as_of), model, windows)
    return predictions.with_columns(run_id=pl.lit(night.origin.run_id), scored_at=pl.lit(night.scored_at))


def _compared(there: pl.DataFrame, rebuilt: pl.DataFrame) -> Comparison:
    columns = [name for name in rebuilt.columns if name in there.columns and name not in KEY]
    return Comparison.of(there, rebuilt, key=KEY, columns=columns)


def _notes(features: NightFeatures) -> list[str]:
    notes = []
    if features.late:
        late = some([str(rows) for rows in features.late])
        notes.append(f"since it was scored, raw rows that count for it came or were retracted: {late}")
    if not features.against_stored.is_identical and (features.is_explained or features.is_defined_otherwise):
        told = "the stored features are no longer those of the night: computed anew since, or due to be"
        notes.append(f"{told}; scored again, it would be another one")
    return notes


def _text(row: dict[str, Any], name: str) -> str | None:
    return str(row[name]) if row.get(name) is not None else None
