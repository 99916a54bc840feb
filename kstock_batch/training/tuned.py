"""The parameters a search found: written by `kstock-batch tune`, used by every later retrain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kstock_batch.errors import ConfigError
from kstock_batch.files import write_atomically

FILE_NAME = "tuned.json"


def tuned_parameters(models: Path) -> dict[str, dict[str, Any]]:
    """Return member -> the library's parameters that replace the member's own; empty if nothing was tuned."""
    path = models / FILE_NAME
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["members"]
        return {str(name): dict(facts["parameters"]) for name, facts in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"{path} is not what `kstock-batch tune` writes: {error!r}", fix="delete it, or tune again"
        ) from error


def write_tuned(models: Path, members: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write ``members``: name -> facts with their ``parameters``; return the file."""
    path = models / FILE_NAME
    models.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"members": members}, indent=2, sort_keys=True, default=str).encode())
    return path
