"""Measure contributions of both tree members beside the libraries' own, from trained boosters to numbers; medians.

usage: python tests/benchmarks/contributions.py [--data FILE.npz] [--lgbm 250x31] [--xgb 250x5]

FILE.npz holds rows to learn from: ``tab`` (rows, D) float32 with the columns that trees read, ``ends`` (N,) the rows
that have a ``label`` (N,). Without it random rows of that shape are learnt: their trees split less like life.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xgboost as xgb

from kstock_batch.learners import lgbm
from kstock_batch.learners import xgb as xgb_member
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.boosting import BoostingRecipe
from kstock_batch.learners.calibration import Calibrator
from kstock_batch.learners.contributions import contributions
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.explain import explain, top3_json
from kstock_batch.learners.inputs import CATEGORICAL, TABULAR_NAMES
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.xgb import XgbMember

NAMES = TABULAR_NAMES


def read(path: Path | None, n_learnt: int) -> Examples:
    """Return ``n_learnt`` labelled rows, drawn with a fixed seed."""
    rng = np.random.default_rng(0)
    if path is None:
        rows = rng.normal(size=(n_learnt, len(NAMES))).astype(np.float32)
        rows[:, NAMES.index(CATEGORICAL[0])] = rng.integers(0, 30, n_learnt)
        label = (rng.random(n_learnt) < 1 / (1 + np.exp(1 - rows[:, 0] * rows[:, 1]))).astype(np.float32)
        rows[rng.random(rows.shape) < 0.1] = np.nan
    else:
        with np.load(path) as data:
            drawn = np.sort(rng.choice(len(data["ends"]), n_learnt, replace=False))
            rows, label = data["tab"][data["ends"][drawn]], data["label"][drawn].astype(np.float32)
    nothing = np.zeros((1, 1), dtype=np.float32)
    inputs = Inputs(rows, NAMES, CATEGORICAL, nothing, np.zeros(1, dtype=np.int64))
    return Examples(inputs, np.arange(n_learnt), label, np.arange(0), label[:0])


def seconds(work: Callable[[], object], runs: int) -> list[float]:
    """Return the wall seconds of each run."""
    took = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        took.append(time.perf_counter() - begun)
    return took


def report(what: str, ours: list[float], native: list[float], apart: str = "") -> None:
    """Print one line: the first run and the median of ours, the median of the library's, the largest difference."""
    medians = f"{statistics.median(ours):.3f} | {statistics.median(native):.2f}"
    print(f"| {what} | {ours[0]:.3f} | {medians} | {apart} |", flush=True)


def measure(one: LgbmMember, two: XgbMember, rows: np.ndarray, runs: int) -> None:
    """Print the table."""
    types = ["c" if name in CATEGORICAL else "q" for name in NAMES]
    blend = CalibratedBlend({"lgbm": Calibrator(), "xgb": Calibrator()}, {"lgbm": 0.35, "xgb": 0.3}, Calibrator())

    def native(member: LgbmMember | XgbMember) -> np.ndarray:
        if isinstance(member, LgbmMember):
            return np.asarray(member.booster.predict(rows, pred_contrib=True))
        matrix = xgb.DMatrix(rows, feature_names=list(NAMES), feature_types=types)
        return np.asarray(member.booster.predict(matrix, pred_contribs=True))

    def both() -> list[str]:
        return top3_json(explain({"lgbm": one, "xgb": two}, blend, rows), NAMES)

    print(f"{len(rows):,} rows\n\n| member | ours, first s | ours s | native s | largest difference |")
    print("|---|--:|--:|--:|--:|")
    together, theirs = seconds(both, runs), []
    for member in (one, two):
        ours = seconds(lambda member=member: contributions(member.trees(), rows), runs)
        theirs.append(seconds(lambda member=member: native(member), min(runs, 3)))
        apart = np.abs(contributions(member.trees(), rows).by_column - native(member)[:, :-1]).max()
        report(member.name, ours, theirs[-1], f"{apart:.0e}")
    report("both, with their top 3 as JSON", together, [sum(pair) for pair in zip(*theirs, strict=True)])


def main() -> None:
    """Train both members, then measure them alone and together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--learnt", type=int, default=300_000)
    parser.add_argument("--rows", type=int, default=2700)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--lgbm", default="250x31", help="rounds x leaves")
    parser.add_argument("--xgb", default="250x5", help="rounds x depth")
    given = parser.parse_args()

    examples = read(given.data, given.learnt)
    rows = np.ascontiguousarray(examples.inputs.tabular[:: given.learnt // given.rows][: given.rows])
    (n_lgbm, leaves), (n_xgb, depth) = (map(int, size.split("x")) for size in (given.lgbm, given.xgb))
    lgbm.PARAMETERS["num_leaves"], xgb_member.PARAMETERS["max_depth"] = leaves, depth
    one = LgbmMember.fit(examples, BoostingRecipe(rounds=n_lgbm, seed=1, threads=2))
    two = XgbMember.fit(examples, BoostingRecipe(rounds=n_xgb, seed=1, threads=2))
    print(f"lgbm {given.lgbm}, xgb {given.xgb}, ", end="")
    measure(one, two, rows, given.runs)


if __name__ == "__main__":
    main()
