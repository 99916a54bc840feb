"""Walk-forward skill: refit on what was known, score every session until the next refit, tell what came true.

usage: python tests/benchmarks/skill.py --root ROOT [--refit DATE ...] [--until DATE] [--members lgbm,xgb,lstm]
                                        [--out predictions.parquet]

ROOT holds a store with prices up to --until and the features of them. Every refit is the weekly retrain itself
(folds, calibration, weights; the gate decides nothing here), and every session after it is scored as a night scores
it. The table is printed per year and together; --out keeps one row per (ticker, as_of) with date, y, fwd, atr_pct,
base, vol, lin, lgb, xgb, lstm, two, three.
"""

from __future__ import annotations

import argparse
import resource
import time
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl

from kstock_batch.learners.base import member_margins
from kstock_batch.learners.calibration import sigmoid
from kstock_batch.registry import Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.training import fitting
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.metrics import skill
from kstock_batch.training.out_of_fold import session_level
from kstock_batch.training.retrain import Trained, train
from kstock_batch.training.weights import start_weights

SHORT = {"lgbm": "lgb", "xgb": "xgb", "lstm": "lstm", "pair": "two", "blend": "three"}
HALF_YEARS = (date(2022, 12, 29), date(2023, 6, 30), date(2023, 12, 28), date(2024, 6, 28))


def scored(trained: Trained, rows: LabelledRows, windows: np.ndarray) -> pl.DataFrame:
    """Return what the version that was trained says of ``windows``, as a night would."""
    ends, session = rows.ends[windows], rows.position[windows]
    margins = member_margins(trained.members, rows.inputs, ends)
    level = session_level(margins, trained.floors["volatility"], rows, windows)
    columns, columns_blend = trained.calibration.apply(margins, level, session)
    trees = tuple(name for name in margins if name != "lstm")
    pair = trained.oof.part(trees).calibration(start_weights(trees))
    _, two = pair.apply({name: margins[name] for name in trees}, level, session)
    floors = {name: sigmoid(floor.margin(rows.inputs, ends)) for name, floor in trained.floors.items()}
    given = {SHORT[name]: p for name, p in columns.items()}
    given |= {"two": two, "three": columns_blend, "vol": floors["volatility"], "lin": floors["linear"]}
    keys = rows.keys[windows].rename({"as_of": "date", "label_5d": "y", "forward_return": "fwd"})
    base = pl.lit(float(trained.rows.label.mean())).alias("base")
    return keys.with_columns(base, **{name: pl.Series(name, p) for name, p in given.items()})


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
    asked.add_argument("--out", type=Path)
    given = asked.parse_args()
    fitting.trainable = lambda: tuple(given.members.split(","))
    settings = Settings.load(given.root)
    pieces = []
    with opened_run(settings, "skill", at=datetime.now(UTC)) as run:
        con = run.warehouse.con
        later = labelled_rows(con, given.until, n_sessions=int((given.until - given.refit[0]).days * 0.72))
        for refit, following in zip(given.refit, [*given.refit[1:], given.until], strict=True):
            began = time.monotonic()
            rows = labelled_rows(con, refit, n_sessions=settings.train_sessions)
            trained = train(rows, settings, Registry(given.root / "no models"), run, lambda _: None)
            of_period = [n for n, day in enumerate(later.sessions) if refit < day <= following]
            pieces.append(scored(trained, later, later.chosen(np.array(of_period))))
            facts = (trained.weights.note, trained.oof.durations, trained.calibration, trained.verdict.reason)
            print(refit, f"{time.monotonic() - began:.0f} s", *facts, sep="\n  ", flush=True)
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
