"""The parameters a search found: written by `kstock-batch tune`, used by every later retrain."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from kstock_batch.errors import ConfigError
from kstock_batch.files import write_atomically
from kstock_batch.training.search_space import require_known

FILE_NAME = "tuned.json"


def tuned_parameters(models: Path, as_of: date) -> dict[str, dict[str, Any]]:
    """Return member -> parameters that replace the member's own; empty if nothing was tuned by the night of ``as_of``.

    What a later night's search found has seen outcomes that a retrain for this night must not know.
    """
    return {
        name: dict(facts["parameters"])
        for name, facts in tuned_facts(models).items()
        if date.fromisoformat(facts["as_of"]) <= as_of
    }


def tuned_facts(models: Path) -> dict[str, dict[str, Any]]:
    """Return member -> all that is written of its search, or refuse what no search can have written."""
    path = models / FILE_NAME
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["members"]
        whole = {str(name): dict(facts) for name, facts in found.items()}
        for facts in whole.values():
            dict(facts["parameters"])
            date.fromisoformat(facts["as_of"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"{path} is not what `kstock-batch tune` writes: {error!r}", fix="delete it, or tune again"
        ) from error
    for name, facts in whole.items():
        require_known(name, facts["parameters"], str(path))
    return whole


def write_tuned(models: Path, members: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write ``members``: name -> facts with their ``parameters`` and ``as_of``; other members' facts stay."""
    path = models / FILE_NAME
    models.mkdir(parents=True, exist_ok=True)
    whole = {**tuned_facts(models), **members}
    write_atomically(path, json.dumps({"members": whole}, indent=2, sort_keys=True, default=str).encode())
    return path
