"""The run that scored a past night, as the ledger tells of it."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import duckdb

from kstock_batch.store.provenance import Provenance
from kstock_batch.store.queries import Query

ONLY_TRAINS = {"torch"}
UNKNOWN = "which program and libraries scored it is not recorded, so whether they are the reason cannot be known"


@dataclass(frozen=True)
class ScoringRun:
    """A run that scored.

    Attributes
    ----------
    made_by : what computed it; None = of before that was kept
    definition_digest : of the features it scored from; None = of before that was kept, or they were computed anew since
    """

    began_at: datetime
    made_by: Provenance | None
    definition_digest: str | None

    @classmethod
    def find(cls, con: duckdb.DuckDBPyConnection, run_id: str, as_of: date) -> "ScoringRun | None":
        """Return what the ledger says of a run and the session it scored; None = it knows no such run."""
        found = Query.load("reports/scoring_run").frame(con, run_id=run_id, as_of=as_of).rows()
        if not found:
            return None
        _, began_at, program, libraries, digest = found[0]
        made_by = None if program is None else Provenance(program, json.loads(libraries or "{}"))
        return cls(began_at, made_by, digest)

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        made_by = {"program": None, "libraries": None} if self.made_by is None else vars(self.made_by)
        return {**made_by, "definition_digest": self.definition_digest}


def other_program(then: Provenance, here: Provenance) -> str | None:
    """Return in words what computed then and what computes here, where that may change a bit; None = nothing does."""
    names = {*then.libraries, *here.libraries} - ONLY_TRAINS
    others = {name for name in names if then.libraries.get(name) != here.libraries.get(name)}
    if then.program == here.program and not others:
        return None
    return f"scored by {then.told(others)}; this is {here.told(others)}"
