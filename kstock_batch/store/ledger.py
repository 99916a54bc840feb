"""The ledger of runs: what was executed, for which session, how it ended and how long each stage took."""

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

import duckdb

from kstock_batch.errors import ChallengerRefused
from kstock_batch.redaction import redacted
from kstock_batch.settings import Settings
from kstock_batch.store.provenance import Provenance
from kstock_batch.store.warehouse import Warehouse

log = logging.getLogger(__name__)


@dataclass
class Stage:
    """One stage under way: its body says how many rows it handled."""

    n_rows: int = 0


class Stages(Protocol):
    """What tells how long the parts of something took: a run tells its ledger, a worker without a store its caller."""

    def stage(self, name: str) -> AbstractContextManager[Stage]:
        """Record how long the body took and how many rows it handled."""


@dataclass
class Run:
    """One execution of a use case."""

    run_id: str
    command: str
    started_at: datetime
    warehouse: Warehouse
    as_of: date | None = None
    summary: str | None = None
    _clock: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._clock

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Record how long the body took and how many rows it handled."""
        begun, stage = time.monotonic(), Stage()
        yield stage
        seconds = round(time.monotonic() - begun, 3)
        self.warehouse.con.execute(
            "INSERT INTO run_stage VALUES ($run_id, $stage, $rows, $seconds)",
            {"run_id": self.run_id, "stage": name, "rows": stage.n_rows, "seconds": seconds},
        )
        facts = {"run_id": self.run_id, "as_of": self.as_of, "stage": name, "rows": stage.n_rows, "seconds": seconds}
        log.info("stage done", extra=facts)


@contextmanager
def recorded_run(warehouse: Warehouse, command: str, *, at: datetime, as_of: date | None = None) -> Iterator[Run]:
    """Write a run to the ledger as running; at the end as done, or as failed or refused with the error's sentence."""
    run = Run(f"{at:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", command, at, warehouse, as_of)
    _open(run)
    try:
        yield run
    except Exception as error:
        # A gate that refuses a model has done its work: nothing failed, and nothing is to be mended.
        status = "refused" if isinstance(error, ChallengerRefused) else "failed"
        with suppress(duckdb.Error):  # on a full disk the ledger cannot be written either: the cause matters more
            _close(run, status, str(error))
        raise
    _close(run, "done", None)


@contextmanager
def opened_run(settings: Settings, command: str, *, at: datetime) -> Iterator[Run]:
    """Open the store for writing, mark what was killed before as failed, and record this run."""
    with Warehouse.open(settings) as warehouse:
        fail_abandoned_runs(warehouse)
        with recorded_run(warehouse, command, at=at) as run:
            yield run


def fail_abandoned_runs(warehouse: Warehouse) -> int:
    """Mark runs that were killed as failed and return how many: whoever holds the lock knows that none is alive."""
    killed = warehouse.con.execute(
        "UPDATE run SET status = 'failed', error = 'killed before it ended' WHERE status = 'running' RETURNING run_id"
    ).fetchall()
    return len(killed)


def _open(run: Run) -> None:
    here = Provenance.here()
    run.warehouse.con.execute(
        "INSERT INTO run (run_id, command, as_of, status, pid, started_at, program, libraries)"
        " VALUES ($run_id, $command, $as_of, 'running', $pid, $at, $program, $libraries)",
        {
            "run_id": run.run_id,
            "command": run.command,
            "as_of": run.as_of,
            "pid": os.getpid(),
            "at": run.started_at,
            "program": here.program,
            "libraries": here.libraries_json,
        },
    )


def _close(run: Run, status: str, error: str | None) -> None:
    run.warehouse.con.execute(
        "UPDATE run SET status = $status, as_of = $as_of, finished_at = started_at + to_seconds($seconds),"
        " summary = $summary, error = $error WHERE run_id = $run_id",
        {
            "status": status,
            "as_of": run.as_of,
            "seconds": run.seconds,
            "summary": run.summary and redacted(run.summary),
            "error": error and redacted(error),
            "run_id": run.run_id,
        },
    )
