"""Gates: what must hold of a session before it is published. All are asked; one verdict names everything that fails.

What is missing or odd fails a gate, and a person may accept it: the session is published with the reason in every row.
What is wrong (impossible rows, probabilities that are none, a model that does not fit or has seen the outcome) is
refused by an error of its own that nobody can accept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import duckdb

from kstock_batch.errors import PublicationGated
from kstock_batch.features.completeness import market_counts
from kstock_batch.settings import Settings
from kstock_batch.store.audits import AuditResult
from kstock_batch.store.queries import Query
from kstock_batch.wording import counted

# Audits that may find that something is missing, by which a ranking of the rest is not made wrong. Every other audit
# that fails has found rows that cannot be.
FRESHNESS = "source_freshness"
OF_WHAT_IS_MISSING = frozenset({FRESHNESS, "feature_daily_coverage", "feature_daily_null_share"})

# On 245 sessions of 2024 every scoreable name was scored, and a market's count was never below 98.7 % of its median.
MIN_SCORED_SHARE = 0.98
MIN_USUAL_SHARE = 0.90


@dataclass(frozen=True)
class Finding:
    """One thing a gate looked at, with its values, and whether it is as it must be."""

    told: str
    holds: bool


@dataclass(frozen=True)
class Gate:
    """A gate and what it found of a session."""

    name: str
    findings: Sequence[Finding]

    @property
    def is_passed(self) -> bool:
        """Whether everything it looked at is as it must be."""
        return all(finding.holds for finding in self.findings)

    def __str__(self) -> str:
        """Return the gate with what fails it, or with all it looked at if nothing does."""
        told = [finding.told for finding in self.findings if self.is_passed or not finding.holds]
        return f"{self.name}: {', '.join(told) or 'nothing to object to'}"


def wrong(results: Sequence[AuditResult]) -> list[AuditResult]:
    """Return the results of audits whose rows cannot be, which nobody may accept."""
    return [result for result in results if result.audit not in OF_WHAT_IS_MISSING]


def data_gates(
    con: duckdb.DuckDBPyConnection, as_of: date, settings: Settings, results: Sequence[AuditResult]
) -> list[Gate]:
    """Return the gates on what a session would be scored from."""
    return [_freshness(con, as_of), _completeness(con, as_of, settings), _audits(results)]


def _freshness(con: duckdb.DuckDBPyConnection, as_of: date) -> Gate:
    """Every source counts, whatever the audit's severity: a model without one ranks otherwise than was proven."""
    stale = Query.load(f"audits/{FRESHNESS}").rows(con, as_of=as_of)
    told = "{source} ends {newest}, {age_days} days before the session (at most {max_age_days})"
    return Gate("freshness", [Finding(told.format_map(row), False) for row in stale])


def _completeness(con: duckdb.DuckDBPyConnection, as_of: date, settings: Settings) -> Gate:
    limit = settings.min_session_share
    counts = market_counts(con, as_of, settings)
    return Gate(
        "completeness",
        [Finding(f"{c} (at least {limit:.0%}, min_session_share)", c.share >= limit) for c in counts],
    )


def _audits(results: Sequence[AuditResult]) -> Gate:
    """Freshness has a gate of its own; what warns is told and stops nothing."""
    failed = [r for r in results if r.verdict == "fail" and r.audit in OF_WHAT_IS_MISSING - {FRESHNESS}]
    told = (f"{r.audit} found {counted(r.n_offending, 'row')}, e.g. {tuple(r.sample[0].values())}" for r in failed)
    return Gate("audits", [Finding(sentence, False) for sentence in told])


def coverage(con: duckdb.DuckDBPyConnection, as_of: date, tickers: Sequence[str]) -> Gate:
    """Return the gate on how many names of each market were scored."""
    findings = []
    for market, n_scored, n_scoreable, n_usual in (
        Query.load("serve/coverage").frame(con, as_of=as_of, tickers=list(tickers)).rows()
    ):
        scored = f"{n_scored:,} of {n_scoreable:,} scoreable {market} names scored (at least {MIN_SCORED_SHARE:.0%})"
        findings.append(Finding(scored, n_scored >= MIN_SCORED_SHARE * n_scoreable))
        if n_usual is not None:
            share = (
                f"{n_scored / n_usual:.1%} of the usual {n_usual:,.0f} {market} names (at least {MIN_USUAL_SHARE:.0%})"
            )
            findings.append(Finding(share, n_scored >= MIN_USUAL_SHARE * n_usual))
    return Gate("coverage", findings)


def what_fails(gates: Sequence[Gate]) -> str | None:
    """Return the gates that are not passed and what fails them, or None."""
    return "; ".join(str(gate) for gate in gates if not gate.is_passed) or None


def require_passed(gates: Sequence[Gate], as_of: date, *, accept_degraded: bool) -> str | None:
    """Return None if every gate is passed, or what fails if that is accepted; raise if it is not."""
    why = what_fails(gates)
    if why is None or accept_degraded:
        return why
    n_failed = sum(not gate.is_passed for gate in gates)
    raise PublicationGated(
        f"{as_of} fails {n_failed} of {len(gates)} gates: {why}",
        fix="the last publication stays; mend the source, ingest and score again, or publish it flagged with"
        f" `kstock-batch score --as-of {as_of} --accept-degraded`",
    )
