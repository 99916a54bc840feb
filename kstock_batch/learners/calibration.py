"""From what a member says to a probability of what truly happens, and to the even-prior signal the bot expects.

A logit is read in two parts: the ``level`` of its session (the mean over the stocks scored that night) and the
stock's ``standing`` in it. Whole days rise or fall together: over half a year the realised rate of rises differs from
any forecast by points, by luck alone. So the slope of the standing is fitted inside sessions, where that luck cancels,
and the level is moved only as far as the sessions at hand can prove it wrong.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Sessions = NDArray[np.int64]

MIN_ROWS = 200  # fewer outcomes say less about two parameters than the learner's own loss did
MIN_SESSIONS = 10
MIN_SLOPE = 0.05  # a member that ranks backwards is flattened to its level, never turned round
LOGIT_LIMIT = 13.8  # p = 1e-6: beyond it a member's certainty is rounding
MAX_STEPS, TOLERANCE = 50, 1e-9
RIDGE = 1e-9  # a member that says one number leaves the slope undetermined
PULL = 0.01  # of a session's intercept towards the mean's, in outcomes' worth
LEVEL_STEPS = 4
BLOCK = 10  # sessions that share their luck: twice the label's horizon
# The part of an error of the level that lasts, in log-odds: hardly any. Models refitted each half-year of 2023-2024
# were off by 0.06 to 0.23 in the half-year after, and the nine months before had said nothing about it (-0.32 before
# +0.23, -0.10 before -0.20, -0.05 before -0.06, -0.01 before -0.16). What many sessions agree on is still moved.
LEVEL_DRIFT = 0.03


@dataclass(frozen=True)
class Calibrator:
    """sigmoid(level + shift + slope · standing); ``note`` says why it is not the plain fit, "" if it is."""

    slope: float = 1.0
    shift: float = 0.0
    note: str = ""

    @classmethod
    def fit(cls, z: ArrayLike, y: ArrayLike, session: Sessions) -> "Calibrator":
        """Return the map that fits logits ``z`` (N,) to outcomes ``y`` (N,) in {0, 1} of ``session`` (N,)."""
        logits, outcome = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
        known = ~(np.isnan(logits) | np.isnan(outcome))
        logits, outcome = logits[known], outcome[known]
        _, day = np.unique(np.asarray(session)[known], return_inverse=True)
        n_days = int(day.max(initial=-1)) + 1
        if len(logits) < MIN_ROWS or n_days < MIN_SESSIONS:
            return cls(
                note=f"identity: {len(logits)} outcomes of {n_days} sessions, {MIN_ROWS} of {MIN_SESSIONS} needed"
            )
        if outcome.min() == outcome.max():
            return cls(note=f"identity: all {len(logits)} outcomes are {outcome[0]:.0f}")
        level, standing = parts(logits, day)
        slope, note = _slope(standing, outcome, day), ""
        if slope < MIN_SLOPE:
            slope, note = MIN_SLOPE, f"flattened: the fitted slope {slope:.3f} is below {MIN_SLOPE}"
        return cls(slope, _shift(level + slope * standing, outcome, day), note)

    def apply(self, z: ArrayLike, session: Sessions | None = None) -> Floats:
        """Return calibrated probabilities (N,) of logits ``z`` (N,); None = all of one session; NaN stays NaN."""
        logits = np.asarray(z, dtype=np.float64)
        level, standing = parts(logits, session)
        return sigmoid(level + self.shift + self.slope * standing)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Calibrator":
        """Return what ``as_json`` described."""
        return cls(float(facts["slope"]), float(facts["shift"]), str(facts.get("note", "")))


def parts(z: Floats, session: Sessions | None = None) -> tuple[Floats, Floats]:
    """Return the level of each row's session and the row's standing in it, (N,) each; NaN rows count for nobody."""
    if session is None:
        day = np.zeros(len(z), dtype=np.int64)
    else:
        _, day = np.unique(session, return_inverse=True)
    known = ~np.isnan(z)
    count = np.bincount(day, known)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(day, np.where(known, z, 0.0)) / count
        level: Floats = mean[day] if len(z) else np.empty(0)
        return level, z - level


def even_prior_signal(probability: ArrayLike, base_rate: float) -> Floats:
    """Return the same evidence under an even prior: 0.5 means "no better than the base rate"; NaN stays NaN."""
    if not 0 < base_rate < 1:
        raise ValueError(f"base_rate = {base_rate} is not between 0 and 1")
    p = np.asarray(probability, dtype=np.float64)
    yes, no = p * (1 - base_rate), (1 - p) * base_rate
    signal: Floats = yes / (yes + no)
    return signal


def logit(p: ArrayLike) -> Floats:
    """Return log(p / (1 - p)), cut where p is 0 or 1 to rounding."""
    probability = np.asarray(p, dtype=np.float64)
    with np.errstate(divide="ignore"):
        odds: Floats = np.clip(np.log(probability) - np.log1p(-probability), -LOGIT_LIMIT, LOGIT_LIMIT)
    return odds


def sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)) without its overflow."""
    p: Floats = 0.5 * (np.tanh(0.5 * z) + 1)
    return p


def session_offset(y: ArrayLike, session: Sessions) -> Floats:
    """Return (N,): how far the rate of rises of each row's session lies from the mean rate, in log-odds.

    What a member is given to start from where it is to learn a stock's standing: then a day on which everything rose
    teaches nothing about any stock. A session's rate is drawn a little towards a quarter, so that it is never 0 or 1.
    """
    outcome = np.asarray(y, dtype=np.float64)
    _, day = np.unique(session, return_inverse=True)
    rate = (np.bincount(day, outcome) + 1) / (np.bincount(day) + 4)
    offset: Floats = logit(rate)[day] - logit(np.clip(outcome.mean(), 1e-3, 1 - 1e-3))
    return offset


def loss_in_sessions(z: ArrayLike, y: ArrayLike, session: Sessions) -> float:
    """Return the mean log-loss of logits ``z`` (N,) once every session's level is moved to its own rate of rises.

    What is left is how well stocks are told apart within a night: the only loss by which to stop a training early,
    since the plain one on a few months mostly says how the market went.
    """
    return float(losses_in_sessions(z, y, session).mean())


def losses_in_sessions(z: ArrayLike, y: ArrayLike, session: Sessions) -> Floats:
    """Return the losses (N,) whose mean ``loss_in_sessions`` is."""
    logits, outcome = np.asarray(z, dtype=np.float64), np.asarray(y, dtype=np.float64)
    _, day = np.unique(session, return_inverse=True)
    level = np.zeros(int(day.max(initial=-1)) + 1)
    for _ in range(LEVEL_STEPS):
        p = sigmoid(logits + level[day])
        level += np.clip(np.bincount(day, outcome - p) / (np.bincount(day, p * (1 - p)) + 1.0), -2, 2)
    moved = logits + level[day]
    losses: Floats = np.logaddexp(0, moved) - outcome * moved
    return losses


def _slope(standing: Floats, outcome: Floats, day: Sessions) -> float:
    """Return the slope of a logistic regression of ``outcome`` on ``standing`` with an intercept for each session.

    Newton's steps on all parameters at once; the intercepts are eliminated: their part of the Hessian is diagonal.
    They begin flat: from a slope that is too steep they may lead ever further away.
    Sessions with one kind of outcome say nothing about the slope: a small pull keeps their intercepts finite.
    """
    prior = float(logit(outcome.mean()))
    slope, intercept = 0.0, np.full(int(day.max()) + 1, prior)
    for _ in range(MAX_STEPS):
        p = sigmoid(intercept[day] + slope * standing)
        weight, error = p * (1 - p), outcome - p
        of_day = np.bincount(day, weight) + PULL
        mixed = np.bincount(day, weight * standing)
        gradient_day = np.bincount(day, error) - PULL * (intercept - prior)
        curvature = float((weight * standing**2).sum() - (mixed**2 / of_day).sum()) + RIDGE
        gradient = float((error * standing).sum()) - RIDGE * slope
        step = (gradient - float((mixed * gradient_day / of_day).sum())) / curvature
        slope, intercept = slope + step, intercept + (gradient_day - mixed * step) / of_day
        if abs(step) < TOLERANCE:
            break
    return slope


def _shift(z: Floats, outcome: Floats, day: Sessions) -> float:
    """Return how far to move the level: the most likely move, believed as far as so many sessions can prove it."""
    shift = 0.0
    for _ in range(MAX_STEPS):
        p = sigmoid(z + shift)
        step = float((outcome - p).sum() / ((p * (1 - p)).sum() + RIDGE))
        shift += step
        if abs(step) < TOLERANCE:
            break
    p = sigmoid(z + shift)
    # Days are numbered in the order of time. The errors of a few blocks cancel by chance, and that of one is always 0:
    # the days as if they were independent are the least that luck can be.
    of_blocks, of_days = (np.bincount(unit, outcome - p) for unit in (day // BLOCK, day))
    variance = max(float((of**2).sum()) for of in (of_blocks, of_days)) / (float((p * (1 - p)).sum()) + RIDGE) ** 2
    return shift * LEVEL_DRIFT**2 / (LEVEL_DRIFT**2 + variance)
