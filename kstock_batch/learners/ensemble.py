"""The blend of the members' probabilities, by name; an absent member is absent, never 0.5."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kstock_batch.errors import NoMemberScored
from kstock_batch.learners.base import Margins, Probabilities
from kstock_batch.learners.calibration import Calibrator, Sessions, logit, parts

WEIGHTS: Mapping[str, float] = {"lgbm": 0.35, "xgb": 0.30, "lstm": 0.35}
WEIGHTS_WITHOUT_LSTM: Mapping[str, float] = {"lgbm": 0.55, "xgb": 0.45}


def blend(members: Mapping[str, ArrayLike | None], weights: Mapping[str, float] = WEIGHTS) -> Probabilities:
    """Return the weighted mean probability, shape (N,), over the members present in each row.

    None is a member absent from all rows, NaN one absent from that row. A row without any member is NaN: the caller
    must treat it as "no prediction". The bot's own ``WEIGHTS`` bring the bot's own pair for rows that lack only the
    LSTM; in all other cases the weights of those present are scaled to sum to 1.
    """
    if unknown := sorted(members.keys() - weights.keys()):
        raise ValueError(f"no weight for members {unknown}, only for {sorted(weights)}")
    scored = {name: np.asarray(p, dtype=np.float64) for name, p in members.items() if p is not None}
    if not scored:
        raise NoMemberScored(f"none of {sorted(members)} produced scores", fix="run `kstock-batch models show`")
    blended = _mean(scored, weights)
    if dict(weights) == WEIGHTS and WEIGHTS_WITHOUT_LSTM.keys() <= scored.keys():
        no_lstm = np.isnan(scored["lstm"]) if "lstm" in scored else np.ones_like(blended, dtype=bool)
        pair = {name: scored[name] for name in WEIGHTS_WITHOUT_LSTM}
        blended = np.where(no_lstm, _mean(pair, WEIGHTS_WITHOUT_LSTM), blended)
    return blended


def _mean(scored: Mapping[str, Probabilities], weights: Mapping[str, float]) -> Probabilities:
    """Return the mean over the members that are not NaN, weights scaled to sum to 1 in each row."""
    names = sorted(scored)
    p = np.stack([scored[name] for name in names])  # (M, N)
    weight = np.where(np.isnan(p), 0.0, np.array([weights[name] for name in names])[:, None])
    total = weight.sum(axis=0)
    weighted = (weight * np.nan_to_num(p)).sum(axis=0)
    mean: Probabilities = np.divide(weighted, total, out=np.full_like(total, np.nan), where=total > 0)
    return mean


@dataclass(frozen=True)
class CalibratedBlend:
    """One calibrator per member, the weights, and one calibrator for the blend of the calibrated members.

    Every member says only where a stock stands among its session; the level of the session comes from one of them for
    all, so that they differ in what they are good at and not in how they see the market.
    """

    members: Mapping[str, Calibrator]
    weights: Mapping[str, float]
    blend: Calibrator

    @classmethod
    def fit(
        cls,
        margins: Mapping[str, Margins],
        level: Margins,
        y: ArrayLike,
        session: Sessions,
        weights: Mapping[str, float],
    ) -> "CalibratedBlend":
        """Return calibrators fitted to out-of-sample ``margins`` (N,), ``level`` (N,) and outcomes ``y`` (N,).

        ``level`` is constant within a session; see ``with_level``.
        """
        logits = {name: with_level(margin, level, session) for name, margin in margins.items()}
        members = {name: Calibrator.fit(z, y, session) for name, z in logits.items()}
        calibrated = {name: members[name].apply(z, session) for name, z in logits.items()}
        blended = logit(blend(calibrated, weights))
        # The members have moved the level as far as the sessions prove; the blend would move it once more.
        of_blend = replace(Calibrator.fit(blended, y, session), shift=0.0)
        return cls(members, dict(weights), of_blend)

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "CalibratedBlend":
        """Return the one that a model version's manifest states."""
        members = {name: Calibrator.from_json(facts["calibrator"]) for name, facts in manifest["members"].items()}
        return cls(members, manifest["weights"], Calibrator.from_json(manifest["blend_calibrator"]))

    def apply(
        self, margins: Mapping[str, Margins], level: Margins, session: Sessions | None = None
    ) -> tuple[dict[str, Probabilities], Probabilities]:
        """Return calibrated members and the calibrated blend, each (N,)."""
        logits = {name: with_level(margin, level, session) for name, margin in margins.items()}
        calibrated = {name: self.members[name].apply(z, session) for name, z in logits.items()}
        return calibrated, self.blend.apply(logit(blend(calibrated, self.weights)), session)


def with_level(margin: Margins, level: Margins, session: Sessions | None = None) -> Margins:
    """Return logits (N,): the standing of ``margin`` (N,) within its session on top of the session's ``level`` (N,)."""
    return parts(margin, session)[1] + level
