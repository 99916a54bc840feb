"""Why a past night does not come out as it was published: what was rebuilt, beside everything it should agree with.

Told in this order: is the model still there and the one that was saved; do this program and its libraries compute what
those of then did; do the raw rows still give the features the night had; are the stored features still those; were the
predictions themselves changed. A night may suffer from more than one.
"""

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from kstock_batch.champion import Champion
from kstock_batch.errors import KStockError
from kstock_batch.learners.members import MEMBER_NAMES
from kstock_batch.market.contract import FEATURES
from kstock_batch.registry import Registry, require_intact
from kstock_batch.serving.replay.bits import Comparison, some
from kstock_batch.serving.replay.night_features import NightFeatures
from kstock_batch.serving.replay.published_night import PublishedNight
from kstock_batch.serving.replay.scoring_run import ONLY_TRAINS, UNKNOWN, other_program
from kstock_batch.store.provenance import Provenance

Cause = Literal["model", "program", "inputs", "features", "predictions"]
CAUSES: tuple[Cause, ...] = ("model", "program", "inputs", "features", "predictions")

MEMBERS = list(MEMBER_NAMES)
LAST_BITS = 1e-6  # what another processor or another build of a library may do to a probability
CROSS_SECTION = [feature.name for feature in FEATURES if feature.scope == "cross_section"]


@dataclass(frozen=True)
class Finding:
    """One reason, and what to do about it."""

    cause: Cause
    told: str
    fix: str


@dataclass(frozen=True)
class Case:
    """What is known of a night whose model is at hand.

    Attributes
    ----------
    rebuilt : what is published, beside what raw rows and model give
    from_stored : the same beside what the stored features and the model give; as ``rebuilt`` where those are the same
    store_rebuilt : the store's predictions of the same run, beside what raw rows and model give; None where it has none
    """

    night: PublishedNight
    champion: Champion
    features: NightFeatures
    rebuilt: Comparison
    from_stored: Comparison
    store_rebuilt: Comparison | None

    @property
    def follows_stored(self) -> bool:
        """Whether what is published follows from the stored features rather than from the raw rows."""
        of_its_night = not self.features.is_built_since
        return of_its_night and len(self.from_stored.tickers) < len(self.rebuilt.tickers)

    @property
    def is_file_alone(self) -> bool:
        """Whether the published file differs while the store's rows of the same run come out."""
        return self.store_rebuilt is not None and self.store_rebuilt.is_identical and not self.rebuilt.is_identical


def model_of(night: PublishedNight, registry: Registry) -> Champion | Finding:
    """Return the model that made the predictions, or why there is none to make them again."""
    version = night.origin.model_version
    fix = f"put {registry.folder / version} back from a copy: only the very files give the very bits"
    try:
        found = registry.get(version)
        require_intact(found)
    except KStockError as error:
        is_gone = not (registry.folder / version).is_dir()
        told = f"the model that made them, {version}, is no longer in {registry.folder}" if is_gone else error.what
        return Finding("model", told, fix)
    try:
        return Champion.load(found)
    except KStockError as error:
        then = night.made_by.program if night.made_by else found.manifest["program"]
        return Finding("program", error.what, f"replay with program version {then}")


def findings(case: Case) -> list[Finding]:
    """Return every reason why anything of the night is not what it was, the first cause first; empty = identical."""
    found, judged = _of_features(case)
    if not judged.is_identical:
        found.append(_of_rows(case, judged))
    if not case.is_file_alone:  # the records would say once more that the file is another
        found += of_records(case.night)
    return sorted(found, key=lambda finding: CAUSES.index(finding.cause))


def _of_features(case: Case) -> tuple[list[Finding], Comparison]:
    """Return what is wrong with inputs and features, and what the published rows are then to be judged by."""
    features = case.features
    if features.against_stored.is_identical or (features.is_explained and not features.is_defined_otherwise):
        return [], case.rebuilt
    if features.is_defined_otherwise:
        if case.rebuilt.is_identical:
            return [], case.rebuilt
        nothing = Comparison(0)  # what rows of other definitions should say, nobody knows
        return [_defined_otherwise(case)], case.from_stored if case.follows_stored else nothing
    if case.follows_stored:
        return [_inputs(case)], case.from_stored
    return [_features_changed(case)], case.rebuilt


def _defined_otherwise(case: Case) -> Finding:
    told = "features are defined otherwise than when they were stored, by another program version or other settings"
    from_stored = "; from the stored features the predictions come out to the bit"
    return Finding(
        "program",
        f"{told} ({_defined_by(case)}){from_stored if case.from_stored.is_identical else ''}",
        "replay with the program version and the settings of that night",
    )


def _defined_by(case: Case) -> str:
    """Return which programs defined the features then and now, as far as it is recorded."""
    here, run = Provenance.here(), case.night.run
    if case.night.made_by is None:
        then = case.champion.version.manifest
        return f"{UNKNOWN}; model {then['version']} is of program {then['program']}, this is {here.program}"
    digest = f", definitions {run.definition_digest}" if run and run.definition_digest else ""
    now = f", definitions {case.features.definition_digest}" if digest else ""
    return f"scored by kstock-batch {case.night.made_by.program}{digest}; this is {here.program}{now}"


def _inputs(case: Case) -> Finding:
    late = case.features.late
    how = "were changed in place, or the features before the score"
    if late:
        how = f"came or were retracted since ({some([str(rows) for rows in late])})"
    return Finding(
        "inputs",
        f"the raw rows no longer give the features it was scored from: {_own(case.features.against_stored).told};"
        f" raw rows {how}",
        "restore the raw tables from a copy of the store; `kstock-batch ingest files` corrects rows and keeps what was",
    )


def _features_changed(case: Case) -> Finding:
    so_what = "; its predictions come out to the bit" if case.rebuilt.is_identical else ""
    return Finding(
        "features",
        f"the stored features are not what the raw rows give: {_own(case.features.against_stored).told}{so_what}",
        "`kstock-batch features --rebuild` computes them anew, and every session after them is scored from those",
    )


def _of_rows(case: Case, judged: Comparison) -> Finding:
    """Return why rows differ though inputs and model are those of then."""
    if case.is_file_alone:  # the store's rows come out, so nothing here computes otherwise
        told = f"the published file was changed after it was written: {judged.told}"
        return Finding("predictions", told, "the store still has them: `kstock-batch score` publishes them again")
    n_alike = judged.n_alike(MEMBERS)
    whys = _otherwise(case, judged)
    if 2 * n_alike < judged.n_rows and whys:
        return Finding(
            "program",
            f"{judged.n_rows - n_alike:,} of {judged.n_rows:,} stocks are scored otherwise by the same model:"
            f" {'; '.join(whys)}",
            "replay where it was scored, with the program and the library versions of then",
        )
    told = f"predictions were changed after they were made: {judged.told}"
    if n_alike < judged.n_rows and (others := _other_program(case)):
        told += f"; or they come of another program: {'; '.join(others)}"
    return Finding("predictions", told, _score_again(case.night))


def _otherwise(case: Case, judged: Comparison) -> list[str]:
    """Return what may make this program compute otherwise."""
    whys = _other_program(case)
    if case.champion.warning:
        whys.append(case.champion.warning)
    if case.features.is_built_since:
        whys.append(
            f"the features were computed anew since ({case.features.last_build}), and what they were then is not kept"
        )
    if (apart := judged.farthest(MEMBERS)) <= LAST_BITS:
        whys.append(f"by {apart:.1g} at most, as another processor or another build of a library may")
    return whys


def _other_program(case: Case) -> list[str]:
    """Return what scored, if it is another program or other libraries; where that is not recorded, what trained."""
    here = Provenance.here()
    if case.night.made_by is not None:
        return [*filter(None, [other_program(case.night.made_by, here)])]
    manifest = case.champion.version.manifest
    trained = {"kstock-batch": manifest["program"], **manifest["libraries"]}
    versions = {"kstock-batch": here.program, **here.libraries}
    return [UNKNOWN] + [
        f"{name} {versions.get(name, 'absent')} here, {version} when the model was made"
        for name, version in trained.items()
        if name not in ONLY_TRAINS and versions.get(name) != version
    ]


def of_records(night: PublishedNight) -> list[Finding]:
    """Return what the records of the night contradict: its run, the file it is in, and the other place that has it."""
    found = []
    if night.run is None:
        told = f"the ledger of runs knows no run {night.origin.run_id}, which the rows name"
        found.append(Finding("predictions", told, "restore the store that scored them, or score the session again"))
    if night.damage:
        told = f"the published file is damaged: {night.damage}"
        found.append(Finding("predictions", told, "`kstock-batch score` publishes it anew"))
    against = night.against_store()
    if against is not None and not against.is_identical:
        told = f"the store no longer says what it published in the same run: {against.told}"
        if night.damage:
            told = f"the store and the published file say otherwise of the same run: {against.told}"
        found.append(Finding("predictions", told, _score_again(night)))
    return found


def _score_again(night: PublishedNight) -> str:
    again = f"`kstock-batch score --as-of {night.as_of} --force`"
    return f"restore them from a copy, or promote {night.origin.model_version} and make them anew with {again}"


def _own(features: Comparison) -> Comparison:
    """Return where the features of a ticker differ by themselves: who stands where among all follows from that."""
    own = replace(features, cells=features.cells.filter(~pl.col("column").is_in(CROSS_SECTION)))
    return features if own.is_identical else own
