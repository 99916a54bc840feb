"""Splits by session: never by rows, and never with a label that reaches into the block that judges it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import NotEnoughHistory

Positions = NDArray[np.int64]

MIN_BLOCK = 20  # sessions: a shorter block judges one mood of the market


@dataclass(frozen=True)
class Fold:
    """Positions of sessions, oldest first: what is learnt from, and what judges it."""

    train: Positions
    test: Positions


def walk_forward(n_sessions: int, *, train: int, test: int, horizon: int, embargo: int = 0) -> Iterator[Fold]:
    """Yield folds, oldest first; the gap keeps every training label out of the test block."""
    gap = horizon + embargo
    for start in range(train + gap, n_sessions - test + 1, test):
        yield Fold(train=np.arange(start - gap - train, start - gap), test=np.arange(start, start + test))


def last_folds(
    n_sessions: int, *, n_folds: int, validation_share: float, horizon: int, embargo: int = 0
) -> tuple[Fold, ...]:
    """Return the last ``validation_share`` of the sessions in ``n_folds`` blocks, each judged by all that precedes it.

    ``horizon`` + ``embargo`` sessions before a block are learnt from by nobody who is judged on it: their labels would
    end inside it. Windows of a block do reach back over sessions that were learnt from; that is no leak, for what they
    hold there was known.
    """
    n_validation = round(n_sessions * validation_share)
    blocks = np.array_split(np.arange(n_sessions - n_validation, n_sessions), n_folds)
    folds = tuple(Fold(np.arange(max(0, int(block[0]) - horizon - embargo)), block) for block in blocks if len(block))
    shortest = min((min(len(fold.train), len(fold.test)) for fold in folds), default=0)
    if shortest < MIN_BLOCK or len(folds) < n_folds:
        raise NotEnoughHistory(
            f"{n_sessions} sessions with known outcomes leave a block of {shortest} to learn from or to judge by,"
            f" {MIN_BLOCK} are needed in each of {n_folds} folds",
            fix="ingest a longer history, lower n_folds, or raise train_sessions or validation_share",
        )
    for fold in folds:
        require_purged(fold, horizon)
    return folds


def stop_split(train: Positions, *, share: float, horizon: int) -> Fold:
    """Return the sessions to learn from and, purged, the later ones that say when to stop, out of ``train``."""
    n_stop = max(1, round(len(train) * share))
    fold = Fold(train[: max(0, len(train) - n_stop - horizon)], train[len(train) - n_stop :])
    if len(fold.train) < MIN_BLOCK:
        raise NotEnoughHistory(
            f"{len(train)} sessions leave {len(fold.train)} to learn from before the last {share:.0%} that say when to"
            f" stop, {MIN_BLOCK} are needed",
            fix="ingest a longer history, or raise train_sessions",
        )
    require_purged(fold, horizon)
    return fold


def require_purged(fold: Fold, horizon: int) -> None:
    """Raise if a label that is learnt from ends inside the block that judges."""
    if len(fold.train) and len(fold.test) and int(fold.train.max()) + horizon >= int(fold.test.min()):
        raise ValueError(
            f"the label of session {int(fold.train.max())} ends {horizon} sessions later, inside the block that begins"
            f" with session {int(fold.test.min())}: that is leakage"
        )


def purged_from(positions: Positions, fold: Fold, horizon: int) -> Positions:
    """Return ``positions`` whose label neither ends in ``fold``'s test block nor overlaps one of its labels."""
    first, last = int(fold.test.min()), int(fold.test.max())
    return positions[(positions < first - horizon) | (positions > last + horizon)]
