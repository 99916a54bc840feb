"""Audits: statements under sql/audits/ that return offending rows; empty means pass.

A statement's header gives its severity: ``fail`` (the default) stops the night, ``warn`` tells a person, and ``by row``
means that each offending row has a column ``severity`` of its own: the audit is as bad as its worst row.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import polars as pl

from kstock_batch.errors import AuditFailed, ConfigError
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query, sql_folder
from kstock_batch.store.warehouse import insert_rows

SHOWN = 3
BY_ROW = "by row"
_SEVERITY = re.compile(r"^-- severity: *(.*)$", re.MULTILINE)
_WHAT = re.compile(r"^-- what: *(.*(?:\n--  +.*)*)$", re.MULTILINE)


@dataclass(frozen=True)
class Audit:
    """One audit as its file describes it."""

    name: str
    severity: str
    what: str
    query: Query

    @classmethod
    def load(cls, name: str) -> "Audit":
        """Return the audit ``sql/audits/<name>.sql``."""
        query = Query.load(f"audits/{name}")
        severity, what = _SEVERITY.search(query.text), _WHAT.search(query.text)
        words = re.sub(r"\n-- +", " ", what[1]) if what else ""
        return cls(name, severity[1] if severity else "fail", words, query)


@dataclass(frozen=True)
class AuditResult:
    """What one audit found for one session: how many rows, and the first of them, the worst ones ahead."""

    audit: str
    severity: str
    as_of: date
    n_offending: int
    sample: Sequence[dict[str, Any]]

    @property
    def verdict(self) -> str:
        """Return pass, warn or fail."""
        return self.severity if self.n_offending else "pass"


def audit_names() -> list[str]:
    """Return the names of all audits, sorted."""
    return sorted(path.stem for path in (sql_folder() / "audits").glob("*.sql"))


def chosen_audits(names: Sequence[str] = ()) -> list[Audit]:
    """Return the named audits (default: all)."""
    known = audit_names()
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"no audit is called {unknown}", fix=f"use one of {known}")
    return [Audit.load(name) for name in names or known]


def run_audits(
    con: duckdb.DuckDBPyConnection, as_of: date, names: Sequence[str] = (), *, shown: int = SHOWN
) -> list[AuditResult]:
    """Return what each of the named audits (default: all) found for ``as_of``, with at most ``shown`` rows each."""
    results = []
    for audit in chosen_audits(names):
        bad = audit.query.frame(con, as_of=as_of)
        severity = _worst(bad) if audit.severity == BY_ROW else audit.severity
        results.append(AuditResult(audit.name, severity, as_of, bad.height, bad.head(shown).to_dicts()))
    return results


def record_audits(con: duckdb.DuckDBPyConnection, results: Sequence[AuditResult], run: Run) -> None:
    """Make ``audit_result`` hold exactly these results for their sessions and audits, in a transaction of the caller's.

    Kept before anything is refused for their sake: a night that failed is the one to look at.
    """
    rows = pl.DataFrame(
        [
            {
                "as_of": result.as_of,
                "audit": result.audit,
                "severity": result.severity,
                "n_offending": result.n_offending,
                "sample": json.dumps([json_row(row) for row in result.sample], ensure_ascii=False, default=str),
            }
            for result in results
        ]
    ).with_columns(run_id=pl.lit(run.run_id), audited_at=pl.lit(run.started_at))
    con.execute("DELETE FROM audit_result WHERE (as_of, audit) IN (SELECT (as_of, audit) FROM rows)")
    insert_rows(con, "audit_result", rows, order="as_of, audit")


def kept_sessions(con: duckdb.DuckDBPyConnection, n: int) -> list[dict[str, Any]]:
    """Return the newest ``n`` sessions whose results were kept, with what failed and warned on each."""
    return Query.load("reports/audit_session").rows(con, n=n)


def kept_results(con: duckdb.DuckDBPyConnection, names: Sequence[str], n: int) -> list[dict[str, Any]]:
    """Return the newest ``n`` kept results of the named audits."""
    chosen = [audit.name for audit in chosen_audits(names)]
    return Query.load("reports/audit_history").rows(con, audits=chosen, n=n)


def require_clean(results: Sequence[AuditResult]) -> None:
    """Raise for the first audit of severity fail that found rows."""
    for result in results:
        if result.verdict == "fail":
            raise AuditFailed(
                f"audit {result.audit} found {result.n_offending} bad rows for as-of {result.as_of}:"
                f" {[tuple(row.values()) for row in result.sample]}",
                fix=f"see `kstock-batch audit {result.audit} --as-of {result.as_of}`, mend the source, ingest again",
            )


def json_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with NaN and infinity as texts: JSON has no such numbers."""
    return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _worst(bad: pl.DataFrame) -> str:
    return "fail" if (bad["severity"] == "fail").any() else "warn"
