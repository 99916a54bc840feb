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


@dataclass(frozen=True)
class Blocks:
    """Positions of sessions, oldest first: learn, then calibrate, then judge; labels of one end before the next."""

    train: Positions
    calibration: Positions
    judge: Positions


def walk_forward(n_sessions: int, *, train: int, test: int, horizon: int, embargo: int = 0) -> Iterator[Fold]:
    """Yield folds, oldest first; the gap keeps every training label out of the test block."""
    gap = horizon + embargo
    for start in range(train + gap, n_sessions - test + 1, test):
        yield Fold(train=np.arange(start - gap - train, start - gap), test=np.arange(start, start + test))


def last_blocks(n_sessions: int, *, validation_share: float, horizon: int) -> Blocks:
    """Return the last ``validation_share`` of the sessions, halved for calibrating and judging, and what precedes.

    ``horizon`` sessions before each block belong to none: their labels would end inside it.
    """
    n_validation = round(n_sessions * validation_share)
    start = n_sessions - n_validation
    middle = start + (n_validation - horizon) // 2
    blocks = Blocks(
        train=np.arange(max(0, start - horizon)),
        calibration=np.arange(start, max(start, middle)),
        judge=np.arange(middle + horizon, n_sessions),
    )
    shortest = min(len(blocks.train), len(blocks.calibration), len(blocks.judge))
    if shortest < MIN_BLOCK:
        raise NotEnoughHistory(
            f"{n_sessions} sessions with known outcomes leave a block of {shortest} to learn from or to judge by,"
            f" {MIN_BLOCK} are needed",
            fix="ingest a longer history, or raise train_sessions or validation_share",
        )
    return blocks
