"""Provenance: which version of this program computes, and with which libraries."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from kstock_batch import __version__

# Whose versions decide a probability's last bits, and what can be scored at all.
LIBRARIES = ("duckdb", "lightgbm", "numpy", "polars", "torch", "xgboost", "xgboost-cpu")


@dataclass(frozen=True)
class Provenance:
    """A version of the program, and those of its libraries by name; one that is absent is left out."""

    program: str
    libraries: Mapping[str, str]

    @classmethod
    def here(cls) -> "Provenance":
        """Return what computes in this process."""
        return cls(__version__, library_versions())

    @property
    def libraries_json(self) -> str:
        """Return the libraries as the ledger keeps them."""
        return json.dumps(self.libraries)

    def told(self, names: Collection[str]) -> str:
        """Return the program and those of ``names`` in words."""
        libraries = ", ".join(f"{name} {self.libraries.get(name, 'absent')}" for name in sorted(names))
        return f"kstock-batch {self.program}{f' with {libraries}' if libraries else ''}"


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that are installed here."""
    from importlib import metadata

    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
