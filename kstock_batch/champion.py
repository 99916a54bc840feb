"""A model version with its members in memory, ready to say what it thinks of windows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kstock_batch.errors import ModelRefused, NoMemberScored
from kstock_batch.features.windows import RowNumbers
from kstock_batch.learners.base import Inputs, Margins, Member, Probabilities, member_margins
from kstock_batch.learners.calibration import Floats, Sessions, parts
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.explain import explain
from kstock_batch.learners.inputs import INPUTS_VERSION, describe_inputs
from kstock_batch.learners.linear import LogisticModel
from kstock_batch.learners.members import absence, member_class, scorable
from kstock_batch.market.contract import fingerprint
from kstock_batch.registry import ModelVersion, require_fingerprint, require_intact, require_stated


@dataclass(frozen=True)
class Champion:
    """A version found to be what was saved and to fit the features.

    ``warning`` names members that were trained but whose library is absent here; they are scored by nobody.
    """

    version: ModelVersion
    members: Mapping[str, Member]
    warning: str | None = None

    @classmethod
    def load(cls, version: ModelVersion) -> "Champion":
        """Return the version ready to score."""
        require_fingerprint(version, fingerprint())
        if version.manifest["inputs"] != json.loads(json.dumps(describe_inputs())):
            raise ModelRefused(
                f"model {version.version} reads its inputs as version {version.manifest['inputs']['version']},"
                f" this program builds version {INPUTS_VERSION} or other columns",
                fix="run `kstock-batch retrain`, or go back to the program version that made the model",
            )
        require_intact(version)
        trained = tuple(version.manifest["members"])
        names = scorable(trained)
        if not names:
            raise NoMemberScored(
                f"none of the members {list(trained)} of {version.version} can be scored here: no library is there",
                fix="install lightgbm or xgboost",
            )
        warning = absence(trained, names, "scored")
        classes = {name: member_class(name) for name in names}
        require_stated(version, *(member.file_name for member in classes.values()))
        return cls(version, {name: member.load(version.folder) for name, member in classes.items()}, warning)

    @property
    def calibration(self) -> CalibratedBlend:
        """Return the calibrators and weights of the version."""
        return CalibratedBlend.from_manifest(self.version.manifest)

    def predict(
        self, inputs: Inputs, ends: RowNumbers, session: Sessions | None = None
    ) -> tuple[dict[str, Probabilities], Probabilities]:
        """Return calibrated members and the calibrated blend, (N,) each, for the windows ending on rows ``ends``.

        ``ends`` are all windows to be scored of one session, or of those in ``session`` (N,).
        """
        said = member_margins(self.members, inputs, ends)
        # Infinity would be the mean of its session, and so the fault of every stock: it is no number of its own alone.
        margins = {name: np.where(np.isinf(margin), np.nan, margin) for name, margin in said.items()}
        return self.calibration.apply(margins, self._level(margins, inputs, ends, session), session)

    def explain(self, inputs: Inputs, ends: RowNumbers) -> Floats:
        """Return what each column of ``inputs.tabular`` adds to a window's standing, (N, D); see ``learners.explain``.

        ``ends`` are all windows to be scored of one session.
        """
        return explain(self.members, self.calibration, inputs.rows(ends))

    def _level(
        self, margins: Mapping[str, Margins], inputs: Inputs, ends: RowNumbers, session: Sessions | None
    ) -> Margins:
        """Return the level of each window's session: of the member that learned it, else of the volatility model."""
        name = self.version.manifest["level"]
        if name in margins:
            return parts(margins[name], session)[0]
        volatility = LogisticModel.from_json(self.version.manifest["floors"]["volatility"])
        return parts(np.asarray(volatility.margin(inputs, ends)), session)[0]
