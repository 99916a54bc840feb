"""Model versions: folders that never change, manifests with digests, and a pointer to the champion.

models/<version>/manifest.json lists every other file of the folder with its SHA-256. A version appears by renaming
a finished folder and goes by being renamed before it is deleted; the champion is one small file replaced by rename.
None of them can be seen half. The champion's file remembers whom it replaced, newest first: rolling back walks that way
and never returns to what was rolled back from.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kstock_batch.champion_pointer import ChampionPointer
from kstock_batch.errors import ModelRefused, NoChampion
from kstock_batch.files import disk_full_is_named, fsync, sha256, write_atomically

_VERSION = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_OF_ONE_RUN = ("version", "created_at", "run_id")  # all else follows from data, settings and the champion then
_BUILDING, _PRUNED = ".building-", ".pruned-"


@dataclass(frozen=True)
class ModelVersion:
    """One immutable trained artefact."""

    version: str
    folder: Path
    manifest: Mapping[str, Any]

    def row(self) -> dict[str, Any]:
        """Return it as a row to print."""
        blend = self.manifest["metrics"]["blend"]
        trained = self.manifest["training"]
        return {
            "version": self.version,
            "as_of": self.manifest["as_of"],
            "trained": f"{trained['first_session']} … {trained['last_session']}",
            "n_rows": trained["n_rows"],
            "members": ", ".join(self.manifest["members"]),
            "auc": blend["auc"],
            "auc_day": blend["auc_day"],
            "brier_skill_pct": blend["brier_skill_pct"],
        }


class Registry:
    """The models folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def require_writable(self) -> None:
        """Raise unless a version can be added: an hour's training must not end with that discovery."""
        with self._faults_named():
            self.folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.folder).close()

    def add(self, created_at: datetime, manifest: dict[str, Any], write: Callable[[Path], None]) -> ModelVersion:
        """Store what ``write`` puts into an empty folder as a new version: named by time and by its files' digests."""
        building = self.folder / f"{_BUILDING}{created_at:%Y%m%dT%H%M%SZ}"
        with self._faults_named():
            self._remove(_BUILDING)  # what killed retrains left: the store's lock says that none is at work now
            building.mkdir(parents=True)
            try:
                write(building)
                files = {path.name: sha256(path) for path in sorted(building.iterdir())}
                for name in files:
                    fsync(building / name)
                content = hashlib.sha256(json.dumps(files).encode()).hexdigest()
                version = f"{created_at:%Y%m%dT%H%M%SZ}-{content[:6]}"
                whole = {"version": version, **manifest, "files": files}
                whole = json.loads(json.dumps(whole, allow_nan=False, default=str))  # as it will be read back
                whole["content_digest"] = _digest_without(whole, *_OF_ONE_RUN)
                whole["manifest_digest"] = _digest_without(whole, "manifest_digest")
                text = json.dumps(whole, ensure_ascii=False, indent=2)
                write_atomically(building / "manifest.json", text.encode())
                if (self.folder / version).exists():  # the same second and the same bytes: already stored
                    shutil.rmtree(building)
                    return self.get(version)
                os.replace(building, self.folder / version)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
            fsync(self.folder)
        return ModelVersion(version, self.folder / version, whole)

    def versions(self) -> list[ModelVersion]:
        """Return every version whose manifest can be read, newest first."""
        readable = []
        for name in self._names():
            with suppress(ModelRefused):
                readable.append(self.get(name))
        return readable

    def damaged(self) -> dict[str, str]:
        """Return what is wrong with each version whose manifest cannot be read."""
        found = {}
        for name in self._names():
            try:
                self.get(name)
            except ModelRefused as error:
                found[name] = error.what
        return found

    def _names(self) -> list[str]:
        return sorted((path.name for path in self.folder.glob("*") if _VERSION.fullmatch(path.name)), reverse=True)

    def get(self, version: str) -> ModelVersion:
        """Return one version; its name must be one and its folder no link, so that nothing leads out of ours."""
        path = self.folder / version / "manifest.json"
        if not _VERSION.fullmatch(version) or not path.is_file():
            what = f"there is no model version {version!r} in {self.folder}"
            raise ModelRefused(what, fix=f"use one of {self._names()[:5]}")
        if linked := next((part for part in (path.parent, path) if part.is_symlink()), None):
            raise ModelRefused(f"{linked} is a link", fix="move what it points to here in its place, or retrain")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not (isinstance(manifest, dict) and {"fingerprint", "files", "members", "metrics"} <= manifest.keys()):
                raise ValueError("it is no manifest")
            files = manifest["files"]
            if not (isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())):
                raise ValueError("its files have no digests")
        except (ValueError, RecursionError) as error:
            raise ModelRefused(f"{path} is damaged: {error}", fix="promote another version, or retrain") from error
        return ModelVersion(version, path.parent, manifest)

    def champion(self) -> ModelVersion:
        """Return the version that serves."""
        return self.get(self.pointer().version)

    def pointer(self) -> ChampionPointer:
        """Return what champion.json says; the version it names may be gone or damaged."""
        path = self.folder / "champion.json"
        if not path.exists():
            fix = "run `kstock-batch retrain`"
            if names := self._names():  # the file may be lost, or the gate has let none pass yet
                fix += f", or `kstock-batch models promote VERSION` with one of {names[:5]} that its gate let pass"
            raise NoChampion(f"no model has been promoted in {self.folder}", fix=fix)
        try:
            return ChampionPointer.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            fix = "run `kstock-batch models promote VERSION`"
            raise ModelRefused(f"{path} is damaged: {error}", fix=fix) from error

    def champion_version(self) -> str | None:
        """Return the name of the version that serves, or None."""
        try:
            return self.champion().version
        except NoChampion:
            return None

    def promote(self, version: str, *, at: datetime) -> ModelVersion:
        """Make ``version`` the champion once its files are found to be those that were saved."""
        chosen = self.get(version)
        require_intact(chosen)
        try:
            pointer = self.pointer().replaced_by(version, at)
        except (NoChampion, ModelRefused):  # promoting is how a damaged pointer is mended
            pointer = ChampionPointer(version, at.isoformat())
        self._point(pointer)
        return chosen

    def rollback(self, to: str | None = None, *, at: datetime, fingerprint: str) -> ModelVersion:
        """Make the newest predecessor that is left the champion, or the version ``to``, once it is found whole."""
        pointer = self.pointer()
        target = to or next((name for name in pointer.history if (self.folder / name).is_dir()), None)
        if target is None:
            what = f"no predecessor of champion {pointer.version} is left in {self.folder}"
            raise ModelRefused(what, fix="choose one of `kstock-batch models list` and promote it")
        if target == pointer.version:
            raise ModelRefused(f"{target} is the champion already", fix="name another version, or none, after --to")
        chosen = self.get(target)
        require_fingerprint(chosen, fingerprint)
        require_intact(chosen)
        self._point(pointer.rolled_back_to(target, at))
        return chosen

    def prunable(self, *, keep: int, fingerprint: str) -> list[str]:
        """Return the versions older than the ``keep`` newest readable ones that no rollback needs, newest first."""
        newest = [version.version for version in self.versions()[:keep]]
        if len(newest) < keep:
            return []
        needed = self._needed(fingerprint)
        return [name for name in self._names() if name < newest[-1] and name not in needed]

    def prune(self, versions: Sequence[str]) -> None:
        """Delete versions: each is first renamed out of sight, so that none is ever seen half."""
        with self._faults_named():
            for name in versions:
                os.replace(self.folder / name, self.folder / f"{_PRUNED}{name}")
            fsync(self.folder)
        self._remove(_PRUNED)  # these, and what a killed prune left

    def _needed(self, fingerprint: str) -> set[str]:
        """Return the champion, its predecessors down to the first that could serve, and what was rolled back from.

        The newest predictions may still be those of the version rolled back from: publishing them again reads it.
        """
        try:
            pointer = self.pointer()
        except NoChampion:
            return set()
        needed = {pointer.version, *([pointer.rolled_back_from] if pointer.rolled_back_from else [])}
        for name in pointer.history:
            needed.add(name)
            with suppress(ModelRefused):
                predecessor = self.get(name)
                require_fingerprint(predecessor, fingerprint)
                require_intact(predecessor)
                break
        return needed

    def _point(self, pointer: ChampionPointer) -> None:
        with self._faults_named():
            write_atomically(self.folder / "champion.json", pointer.as_json().encode())

    @contextmanager
    def _faults_named(self) -> Iterator[None]:
        """Translate what the operating system says of the folder into one sentence."""
        try:
            with disk_full_is_named(self.folder):
                yield
        except OSError as error:
            fix = "make it writable for this user, then run the same command again"
            raise ModelRefused(f"{self.folder} cannot be written: {error}", fix=fix) from error

    def champion_name(self) -> str | None:
        """Return the version that serves; None too if it is damaged, for promoting another is how that is mended."""
        try:
            return self.champion_version()
        except ModelRefused:
            return None

    def _remove(self, prefix: str) -> None:
        """Delete hidden folders that are no version yet, or no longer."""
        for left in self.folder.glob(f"{prefix}*"):
            if left.is_symlink():  # somebody else's: what it points to stays
                left.unlink()
            shutil.rmtree(left, ignore_errors=True)


def require_intact(version: ModelVersion) -> None:
    """Raise unless the manifest is the one that was written, and every file has the digest it states.

    Asked before any loader opens a file. It finds damage and what was swapped; whoever may write in the folder can
    write a manifest that agrees with its files.
    """
    manifest, files = version.manifest, version.manifest["files"]
    if manifest.get("manifest_digest") != _digest_without(manifest, "manifest_digest"):
        raise _damaged(version, "its manifest.json was changed")
    if manifest.get("version") != version.version:
        raise _damaged(version, f"its manifest.json is that of {manifest.get('version')!r}")
    for name, digest in files.items():
        path = version.folder / name
        if path.name != name or path.is_symlink():
            raise _damaged(version, f"{name!r} is no file of its folder")
        if not path.is_file():
            raise _damaged(version, f"{name} is missing")
        if (found := sha256(path)) != digest:
            raise _damaged(version, f"{name} has digest {found[:12]}…, its manifest says {digest[:12]}…")


def require_stated(version: ModelVersion, *opened: str) -> None:
    """Raise unless the files that a loader will open are among those that ``require_intact`` looked at."""
    if unstated := sorted(set(opened) - version.manifest["files"].keys()):
        raise _damaged(version, f"its manifest has no digest of {unstated}")


def require_fingerprint(version: ModelVersion, fingerprint: str) -> None:
    """Raise unless the version was trained on the features this program computes."""
    if (trained := version.manifest["fingerprint"]) != fingerprint:
        raise ModelRefused(
            f"model {version.version} was trained on feature fingerprint {trained}, the store has {fingerprint}",
            fix="run `kstock-batch retrain`, or go back to the program version that made the model",
        )


def _digest_without(manifest: Mapping[str, Any], *names: str) -> str:
    """Return a digest of the facts, which decide probabilities as much as the members' files do."""
    facts = {name: value for name, value in manifest.items() if name not in names}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _damaged(version: ModelVersion, what: str) -> ModelRefused:
    return ModelRefused(
        f"model {version.version} is not what was saved: {what}",
        fix="run `kstock-batch models promote` with another version, or retrain",
    )
