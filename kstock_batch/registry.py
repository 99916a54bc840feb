"""Model versions: folders that never change, manifests with digests, and a pointer to the champion.

models/<version>/manifest.json lists every other file of the folder with its SHA-256. A version appears by renaming
a finished folder; the champion is one small file replaced by rename. Neither can be seen half.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kstock_batch.errors import ModelRefused, NoChampion
from kstock_batch.files import disk_full_is_named, fsync, sha256, write_atomically

_VERSION = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{6}$")
_BUILDING = ".building-"


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

    def add(self, created_at: datetime, manifest: dict[str, Any], write: Callable[[Path], None]) -> ModelVersion:
        """Store what ``write`` puts into an empty folder as a new version: named by time and by its files' digests."""
        building = self.folder / f"{_BUILDING}{created_at:%Y%m%dT%H%M%SZ}"
        with disk_full_is_named(self.folder):
            self._remove_unfinished()
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
                whole["manifest_digest"] = _manifest_digest(whole)
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
        return sorted((path.name for path in self.folder.glob("*") if _VERSION.match(path.name)), reverse=True)

    def get(self, version: str) -> ModelVersion:
        """Return one version; its name must be one, so that no path leads out of the models folder."""
        path = self.folder / version / "manifest.json"
        if not _VERSION.match(version) or not path.is_file():
            what = f"there is no model version {version!r} in {self.folder}"
            raise ModelRefused(what, fix=f"use one of {self._names()[:5]}")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if not (isinstance(manifest, dict) and {"fingerprint", "files", "members", "metrics"} <= manifest.keys()):
                raise ValueError("it is no manifest")
        except ValueError as error:
            raise ModelRefused(f"{path} is damaged: {error}", fix="promote another version, or retrain") from error
        return ModelVersion(version, path.parent, manifest)

    def champion(self) -> ModelVersion:
        """Return the version that serves."""
        pointer = self.folder / "champion.json"
        if not pointer.exists():
            raise NoChampion(f"no model has been promoted in {self.folder}", fix="run `kstock-batch retrain`")
        try:
            version = json.loads(pointer.read_text(encoding="utf-8"))["version"]
        except (ValueError, KeyError, TypeError) as error:
            fix = "run `kstock-batch models promote VERSION`"
            raise ModelRefused(f"{pointer} is damaged: {error}", fix=fix) from error
        return self.get(str(version))

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
        pointer = {"version": version, "promoted_at": at.isoformat(), "previous": self.champion_name()}
        write_atomically(self.folder / "champion.json", json.dumps(pointer, indent=2).encode())
        return chosen

    def champion_name(self) -> str | None:
        """Return the version that serves; None too if it is damaged, for promoting another is how that is mended."""
        try:
            return self.champion_version()
        except ModelRefused:
            return None

    def _remove_unfinished(self) -> None:
        """Clear what killed retrains left; the store's lock says that none is at work now."""
        for left in self.folder.glob(f"{_BUILDING}*"):
            shutil.rmtree(left, ignore_errors=True)


def require_intact(version: ModelVersion) -> None:
    """Raise unless the manifest is the one that was written, and every file has the digest it states."""
    if version.manifest.get("manifest_digest") != _manifest_digest(version.manifest):
        raise _damaged(version, "its manifest.json was changed")
    for name, digest in version.manifest["files"].items():
        path = version.folder / Path(name).name
        if not path.is_file():
            raise _damaged(version, f"{name} is missing")
        if (found := sha256(path)) != digest:
            raise _damaged(version, f"{name} has digest {found[:12]}…, its manifest says {digest[:12]}…")


def require_fingerprint(version: ModelVersion, fingerprint: str) -> None:
    """Raise unless the version was trained on the features this program computes."""
    if (trained := version.manifest["fingerprint"]) != fingerprint:
        raise ModelRefused(
            f"model {version.version} was trained on feature fingerprint {trained}, the store has {fingerprint}",
            fix="run `kstock-batch retrain`, or go back to the program version that made the model",
        )


def _manifest_digest(manifest: Mapping[str, Any]) -> str:
    """Return a digest of the facts, which decide probabilities as much as the members' files do."""
    facts = {name: value for name, value in manifest.items() if name != "manifest_digest"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _damaged(version: ModelVersion, what: str) -> ModelRefused:
    return ModelRefused(
        f"model {version.version} is not what was saved: {what}",
        fix="run `kstock-batch models promote` with another version, or retrain",
    )
