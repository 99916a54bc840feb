"""What a verdict on drift says, and the newest that was kept: whoever only reads one needs nothing that judges."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import duckdb

from kstock_batch.store.queries import Query

STATES = ("ok", "watch", "drifted")  # ascending


@dataclass(frozen=True)
class DriftCheck:
    """One thing that was looked at; ``sentence`` is true whatever the state."""

    name: str
    state: str
    value: float
    watch: float
    drifted: float
    sentence: str

    def row(self) -> dict[str, Any]:
        """Return it as a row to print or to store."""
        return asdict(self)


@dataclass(frozen=True)
class DriftVerdict:
    """What a night knows of the predictions that were served before it.

    Attributes
    ----------
    as_of : the night that gives it; it knows no outcome of later
    model_version : the champion that night
    n_sessions, first_session, last_session : judged; 0 and None while too few have matured
    checks : what was looked at
    """

    as_of: date
    model_version: str
    n_sessions: int
    first_session: date | None
    last_session: date | None
    checks: tuple[DriftCheck, ...]

    @property
    def state(self) -> str:
        """Return ok, watch or drifted: the worst of the checks."""
        return max((check.state for check in self.checks), key=STATES.index, default="ok")

    @property
    def sentence(self) -> str:
        """Return why, with values."""
        judged = f"{self.n_sessions} matured sessions, {self.first_session} … {self.last_session}"
        seen = judged if self.n_sessions else "too few matured sessions to judge by"
        reasons = [check.sentence for check in self.checks if check.state != "ok"]
        return f"{self.model_version} is {self.state} on {seen}" + (f": {', and '.join(reasons)}" if reasons else "")

    def facts(self) -> dict[str, str]:
        """Return what a manifest says of it: JSON values."""
        return {"as_of": str(self.as_of), "state": self.state, "sentence": self.sentence}


def newest_verdict(con: duckdb.DuckDBPyConnection, as_of: date) -> DriftVerdict | None:
    """Return the newest verdict that the night ``as_of`` could know, or None."""
    found = Query.load("judging/newest_drift").rows(con, as_of=as_of)
    return verdict_of(found[0]) if found else None


def verdict_of(row: Mapping[str, Any]) -> DriftVerdict:
    """Return the verdict that a row of ``drift`` holds."""
    names = ("as_of", "model_version", "n_sessions", "first_session", "last_session")
    checks = tuple(DriftCheck(**check) for check in json.loads(row["checks"]))
    return DriftVerdict(**{name: row[name] for name in names}, checks=checks)
