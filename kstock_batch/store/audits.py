"""Audits: statements under sql/audits/ that return offending rows; empty means pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from kstock_batch.errors import AuditFailed, ConfigError
from kstock_batch.store.queries import Query, sql_folder

SHOWN = 3


@dataclass(frozen=True)
class AuditResult:
    """What one audit found for one session."""

    audit: str
    severity: str
    as_of: date
    n_offending: int
    sample: Sequence[dict[str, Any]]


def audit_names() -> list[str]:
    """Return the names of all audits, sorted."""
    return sorted(path.stem for path in (sql_folder() / "audits").glob("*.sql"))


def run_audits(con: duckdb.DuckDBPyConnection, as_of: date, names: Sequence[str] = ()) -> list[AuditResult]:
    """Return what each of the named audits (default: all) found for ``as_of``."""
    known = audit_names()
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"no audit is called {unknown}", fix=f"use one of {known}")
    results = []
    for name in names or known:
        query = Query.load(f"audits/{name}")
        bad = query.rows(con, as_of=as_of)
        severity = "warn" if "\n-- severity: warn" in query.text else "fail"
        results.append(AuditResult(name, severity, as_of, len(bad), bad[:SHOWN]))
    return results


def require_clean(results: Sequence[AuditResult]) -> None:
    """Raise for the first audit of severity fail that found rows."""
    for result in results:
        if result.n_offending and result.severity == "fail":
            raise AuditFailed(
                f"audit {result.audit} found {result.n_offending} bad rows for as-of {result.as_of}:"
                f" {[tuple(row.values()) for row in result.sample]}",
                fix=f"see `kstock-batch audit {result.audit} --as-of {result.as_of}`, mend the source, ingest again",
            )
