"""Walk-forward skill: refit on what was known, score every session until the next refit, tell what came true.

usage: python tests/benchmarks/skill.py --root ROOT [--refit DATE ...] [--until DATE] [--members lgbm,xgb,lstm]
                                        [--keep DIR] [--out predictions.parquet]

ROOT holds a store with prices up to --until and the features of them. Every refit is the weekly retrain itself
(folds, calibration, weights; the gate decides nothing here), and every session after it is scored as a night scores
it. The table is printed per year and together; --out keeps one row per (ticker, as_of) with date, y, fwd, atr_pct,
base, vol, lin, lgb, xgb, lstm, two, three. --keep DIR stores what the members say before it is calibrated and weighed,
and takes it from there where it is stored: weights and calibration can then be tried without training anew.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.judging.metrics import skill
from kstock_batch.learners.base import member_margins
from kstock_batch.learners.calibration import sigmoid
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run, opened_run
from kstock_batch.training import fitting
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.out_of_fold import OutOfFold, session_level
from kstock_batch.training.retrain import fit
from kstock_batch.training.splits import Fold
from kstock_batch.training.weights import ChosenWeights, choose_weights, start_weights

Floats = NDArray[np.float64]

OOF_ARRAYS = ("windows", "fold", "session", "y", "level", "base_rate")
SHORT = {"lgbm": "lgb", "xgb": "xgb", "lstm": "lstm", "pair": "two", "blend": "three"}
HALF_YEARS = (date(2022, 12, 29), date(2023, 6, 30), date(2023, 12, 28), date(2024, 6, 28))


@dataclass(frozen=True)
class Refit:
    """What one retrain's members say, not yet calibrated: of its folds, and of the sessions until the next.

    ``keys`` are the rows of those sessions; ``margins``, ``level``, ``floors`` and ``session`` (N,) are said of them.
    """

    oof: OutOfFold
    folds: tuple[Fold, ...]
    atr_pct: Floats
    base_rate: float
    keys: pl.DataFrame
    margins: dict[str, Floats]
    level: Floats
    floors: dict[str, Floats]
    session: NDArray[np.int64]

    def weights(self) -> ChosenWeights:
        """Return the weights that retrain would choose."""
        return choose_weights(self.oof, self.folds, self.atr_pct)

    def predictions(self, weights: ChosenWeights) -> pl.DataFrame:
        """Return what the version would publish, and what it would without the LSTM."""
        columns, three = self.oof.calibration(weights.values).apply(self.margins, self.level, self.session)
        trees = tuple(name for name in self.margins if name != "lstm")
        pair = self.oof.part(trees).calibration(start_weights(trees))
        _, two = pair.apply({name: self.margins[name] for name in trees}, self.level, self.session)
        given = {SHORT[name]: p for name, p in columns.items()} | {"two": two, "three": three}
        given |= {"vol": self.floors["volatility"], "lin": self.floors["linear"]}
        keys = self.keys.rename({"as_of": "date", "label_5d": "y", "forward_return": "fwd"})
        return keys.with_columns(base=pl.lit(self.base_rate), **{name: pl.Series(name, p) for name, p in given.items()})

    def save(self, folder: Path) -> None:
        """Write it as arrays and one table."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(self, name) for name in ("atr_pct", "base_rate", "level", "session")}
        arrays |= {f"oof.{name}": getattr(self.oof, name) for name in OOF_ARRAYS}
        for prefix, named in {
            "margin.": self.margins,
            "floor.": self.floors,
            "oof.margin.": self.oof.margins,
            "oof.floor.": self.oof.floors,
        }.items():
            arrays |= {prefix + name: values for name, values in named.items()}
        arrays |= {f"train.{n}": fold.train for n, fold in enumerate(self.folds)}
        arrays |= {f"test.{n}": fold.test for n, fold in enumerate(self.folds)}
        np.savez(folder / "arrays.npz", **arrays)
        self.keys.write_parquet(folder / "keys.parquet")

    @classmethod
    def load(cls, folder: Path) -> Refit:
        """Read what ``save`` wrote."""
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = dict(file)

        def named(prefix: str) -> dict[str, Floats]:
            return {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}

        oof = OutOfFold(
            **{name: arrays[f"oof.{name}"] for name in OOF_ARRAYS},
            margins=named("oof.margin."),
            floors=named("oof.floor."),
            durations={},
        )
        n_folds = sum(name.startswith("train.") for name in arrays)
        folds = tuple(Fold(arrays[f"train.{n}"], arrays[f"test.{n}"]) for n in range(n_folds))
        plain = {name: arrays[name] for name in ("atr_pct", "level", "session")}
        keys = pl.read_parquet(folder / "keys.parquet")
        base = float(arrays["base_rate"])
        return cls(
            oof=oof, folds=folds, base_rate=base, keys=keys, margins=named("margin."), floors=named("floor."), **plain
        )


def refitted(run: Run, settings: Settings, refit: date, until: date, later: LabelledRows) -> Refit:
    """Return what a retrain on the night of ``refit`` says of itself and of the sessions up to ``until``."""
    rows = labelled_rows(run.warehouse.con, refit, n_sessions=settings.train_sessions)
    fitted = fit(rows, settings, run, lambda _: None)
    print("  durations", fitted.oof.durations, "over budget", fitted.overrun, flush=True)
    windows = later.chosen(np.array([n for n, day in enumerate(later.sessions) if refit < day <= until]))
    ends = later.ends[windows]
    margins = member_margins(fitted.members, later.inputs, ends)
    return Refit(
        oof=fitted.oof,
        folds=fitted.folds,
        atr_pct=rows.keys[fitted.oof.windows]["atr_pct"].cast(pl.Float64).to_numpy(),
        base_rate=float(rows.label.mean()),
        keys=later.keys[windows],
        margins=margins,
        level=session_level(margins, fitted.floors["volatility"], later, windows),
        floors={name: sigmoid(floor.margin(later.inputs, ends)) for name, floor in fitted.floors.items()},
        session=later.position[windows],
    )


def table(out: pl.DataFrame) -> pl.DataFrame:
    """Return the skill of every column of probabilities."""
    y, atr = (out[name].cast(pl.Float64).to_numpy() for name in ("y", "atr_pct"))
    session = out["date"].to_physical().cast(pl.Int64).to_numpy()
    base, volatility = out["base"].to_numpy(), out["vol"].to_numpy()
    names = [name for name in ("vol", "lin", "lgb", "xgb", "lstm", "two", "three") if name in out.columns]
    found = [
        {"": n, **skill(out[n].to_numpy(), y, session, base, atr_pct=atr, volatility=volatility).row()} for n in names
    ]
    columns = ["", "brier_skill_pct", "brier_skill_vol_pct", "auc_day", "auc_day_vol", "ece_pct", "lift", "log_loss"]
    return pl.DataFrame(found).select(columns)


def main() -> None:
    """Run it."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--root", type=Path, required=True)
    asked.add_argument("--refit", type=date.fromisoformat, nargs="*", default=HALF_YEARS)
    asked.add_argument("--until", type=date.fromisoformat, default=date(2024, 12, 30))
    asked.add_argument("--members", default="lgbm,xgb,lstm")
    asked.add_argument("--keep", type=Path)
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    fitting.trainable = lambda: tuple(given.members.split(","))
    settings = Settings.load(given.root)
    pieces, later = [], None
    for refit, until in zip(given.refit, [*given.refit[1:], given.until], strict=True):
        began, kept = time.monotonic(), given.keep and given.keep / str(refit)
        if kept and kept.exists():
            found = Refit.load(kept)
        else:
            with opened_run(settings, "skill", at=datetime.now(UTC)) as run:
                if later is None:
                    n_sessions = int((given.until - given.refit[0]).days * 0.72)
                    later = labelled_rows(run.warehouse.con, given.until, n_sessions=n_sessions)
                found = refitted(run, settings, refit, until, later)
            if kept:
                found.save(kept)
        weights = found.weights()
        pieces.append(found.predictions(weights))
        print(refit, f"{time.monotonic() - began:.0f} s", weights, found.oof.calibration(weights.values), sep="\n  ")
        print(table(pieces[-1]), flush=True)
    out = pl.concat(pieces)
    if given.out:
        out.write_parquet(given.out)
    for name, part in [
        ("together", out),
        *((y, p) for (y,), p in out.sort("date").group_by(pl.col("date").dt.year(), maintain_order=True)),
    ]:
        print(name, part.height, table(part), sep="\n")
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    pl.Config.set_tbl_cols(20)
    pl.Config.set_tbl_rows(20)
    pl.Config.set_tbl_width_chars(200)
    pl.Config.set_float_precision(4)
    main()
