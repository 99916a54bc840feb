"""One refit: a retrain as of one night, and what its members say of every session up to the next.

It is the weekly retrain's own code and the night's own, on files instead of the store. What members say is kept as
log-odds: calibration and weights are decided afterwards, so that other weights or fewer members need no training.
"""

import io
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.backtest.material import Material
from kstock_batch.errors import AuditFailed
from kstock_batch.features.sessions import session_days
from kstock_batch.learners.base import Inputs, Margins, member_margins
from kstock_batch.learners.calibration import sigmoid
from kstock_batch.learners.linear import FLOORS
from kstock_batch.market.contract import HORIZON
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Stage
from kstock_batch.training.dataset import LabelledRows
from kstock_batch.training.out_of_fold import OutOfFold, session_level
from kstock_batch.training.retrain import Fitted, fit

SAID, OUT_OF_FOLD = "said.parquet", "out_of_fold.parquet"
MARGIN = "margin_"  # before a member's name: its log-odds, not calibrated
_KEYS = ("ticker", "as_of", "atr_pct")


class Stopwatch:
    """Tells how long the stages of a refit took, where there is no ledger to write it to."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Record how long the body took."""
        begun = time.monotonic()
        yield Stage()
        self.seconds[name] = round(time.monotonic() - begun, 1)


def refit(**arguments: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return facts of the refit, JSON values, and files: the members, and what they said.

    Parameters
    ----------
    arguments
        ``material``, ``scratch``: folders. ``as_of``, ``first``, ``last``: dates. ``settings``: those that decide.
        ``n_fitted``: how many folds are trained. ``tuned``: parameters by member.
    """
    as_of, first, last = (date.fromisoformat(arguments[name]) for name in ("as_of", "first", "last"))
    settings = replace(Settings(), root=Path(arguments["scratch"]), **arguments["settings"])
    material, watch = Material(Path(arguments["material"])), Stopwatch()
    with material.connected() as con:
        rows = material.learnt(con, as_of, n_sessions=settings.train_sessions)
        require_unseen(rows, session_days(con), as_of, first)
        bars, ends = material.scored(con, first, last)
    fitted = fit(rows, settings, watch, lambda _: None, tuned=arguments["tuned"], n_fitted=arguments["n_fitted"])
    with watch.stage("score"):
        said = _said(fitted, material.inputs(bars), ends, bars.frame[ends].select(*_KEYS))
    files = {SAID: _parquet(said), OUT_OF_FOLD: _parquet(_out_of_fold(fitted.rows, fitted.oof)), **_members(fitted)}
    return {**_facts(fitted), "n_scored": said.height, "stages": watch.seconds}, files


def require_unseen(rows: LabelledRows, sessions: list[date], as_of: date, first: date) -> None:
    """Raise if an outcome was learnt from that the night could not know, or if a session is scored that it could.

    The calendar is asked, not what a label says of itself: five sessions must lie between a bar and its outcome.
    """
    place = {day: number for number, day in enumerate(sessions)}
    newest = rows.sessions[-1]
    if place[newest] + HORIZON > place[as_of]:
        raise AuditFailed(
            f"the refit as-of {as_of} would learn the outcome of {newest}, which is known"
            f" {place[newest] + HORIZON - place[as_of]} sessions later",
            fix="label_daily says of outcomes that they were known too early: run `kstock-batch features` to mend it",
        )
    if first <= as_of:
        raise AuditFailed(
            f"the refit as-of {as_of} would score {first}, which its night has seen", fix="this is a fault of the plan"
        )


def _said(fitted: Fitted, inputs: Inputs, ends: np.ndarray[Any, Any], keys: pl.DataFrame) -> pl.DataFrame:
    """Return what members and floors say of the windows ending on ``ends``, all windows of their sessions."""
    raw = member_margins(fitted.members, inputs, ends)
    # As the night does: infinity would be the mean of its session, and so the fault of every stock.
    margins: dict[str, Margins] = {name: np.where(np.isinf(margin), np.nan, margin) for name, margin in raw.items()}
    level = session_level(margins, fitted.floors["volatility"], inputs, ends, inputs.session[ends])
    return keys.with_columns(
        level=level,
        base_rate=pl.lit(float(fitted.rows.label.mean())),
        **{MARGIN + name: pl.Series(margin) for name, margin in margins.items()},
        **{name: pl.Series(sigmoid(fitted.floors[name].margin(inputs, ends))) for name in FLOORS},
    ).sort("as_of", "ticker")


def _out_of_fold(rows: LabelledRows, oof: OutOfFold) -> pl.DataFrame:
    """Return what the folds' models say of their blocks."""
    return rows.keys[oof.windows].select(
        *_KEYS,
        pl.Series("fold", oof.fold),
        pl.Series("label_5d", oof.y),
        pl.Series("level", oof.level),
        pl.Series("base_rate", oof.base_rate),
        *(pl.Series(MARGIN + name, margin) for name, margin in oof.margins.items()),
        *(pl.Series(name, oof.floors[name]) for name in FLOORS),
    )


def _facts(fitted: Fitted) -> dict[str, Any]:
    rows = fitted.rows
    return {
        "train_first": str(rows.sessions[0]),
        "train_last": str(rows.sessions[-1]),
        "sessions": [str(day) for day in rows.sessions],
        "n_windows": len(rows.ends),
        "base_rate": float(rows.label.mean()),
        "members": list(fitted.members),
        "durations": {name: duration.steps for name, duration in fitted.oof.durations.items()},
        "over_budget": list(fitted.overrun),
    }


def _members(fitted: Fitted) -> dict[str, bytes]:
    """Return the files that each member is stored as."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for member in fitted.members.values():
            member.save(folder)
        (folder / "floors.json").write_text(
            json.dumps({name: floor.as_json() for name, floor in fitted.floors.items()}), encoding="utf-8"
        )
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _parquet(frame: pl.DataFrame) -> bytes:
    file = io.BytesIO()
    frame.write_parquet(file, compression="zstd")
    return file.getvalue()
