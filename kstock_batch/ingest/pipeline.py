"""Ingest: source rows become raw rows. All of a folder is upserted in one transaction, or none of it.

Rows that break a rule of their table go to quarantine with the rule's name. A few are life; more than
``max_rejected_share`` of a file is a broken source, which is refused whole.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from kstock_batch.errors import ConfigError, RowsRefused
from kstock_batch.ingest.calendar import Calendar, extend_calendar
from kstock_batch.ingest.contract import judge_batch
from kstock_batch.ingest.restatement import Restatement, rescale_restated
from kstock_batch.ingest.sources.files import Dataset, locate
from kstock_batch.ingest.versions import Delta
from kstock_batch.market.tables import Table
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse

INVENTING = "demo"  # the command whose prices are invented

Advance = Callable[[str], None]
Choose = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Arrival:
    """Rows on their way into a table: who tells them, and where they were found, as a person would say it."""

    table: Table
    source: str
    where: str
    rows: pl.DataFrame


@dataclass(frozen=True)
class Upserted:
    """What became of one file's rows, or of one answer's, in one table."""

    table: str
    file: str
    n_read: int
    n_new: int
    n_changed: int
    n_rejected: int
    reasons: dict[str, int]
    restated: tuple[Restatement, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as a row to print."""
        reasons = ", ".join(f"{rule} {n}" for rule, n in sorted(self.reasons.items()))
        unchanged = self.n_read - self.n_new - self.n_changed - self.n_rejected
        return {
            "table": self.table,
            "file": self.file,
            "read": self.n_read,
            "new": self.n_new,
            "changed": self.n_changed,
            "unchanged": unchanged,
            "rejected": self.n_rejected,
            "reasons": reasons or None,
        }


def summary(upserted: Sequence[Upserted]) -> str:
    """Return what became of all rows in one line: new, changed, rejected and why, restated."""
    new, changed = sum(u.n_new for u in upserted), sum(u.n_changed for u in upserted)
    told = f"{new:,} new, {changed:,} changed"
    if reasons := sum((Counter(u.reasons) for u in upserted), Counter()):
        why = ", ".join(f"{rule} {n:,}" for rule, n in reasons.most_common())
        told += f", {reasons.total():,} rejected ({why})"
    n_restated = sum(len(u.restated) for u in upserted)
    return told + (f", {n_restated:,} tickers restated" if n_restated else "")


def ingest_files(
    warehouse: Warehouse,
    folder: Path,
    mapping: tuple[Dataset, ...],
    *,
    settings: Settings,
    run: Run,
    advance: Advance = lambda _: None,
    retroactive: bool = False,
) -> list[Upserted]:
    """Upsert every mapped file of ``folder``; return what happened to each one's rows.

    ``retroactive``: other values for known keys count from the beginning instead of from their arrival.
    """
    found = locate(folder, mapping)
    done: list[Upserted] = []
    with warehouse.transaction() as con:
        require_one_kind(con, run)
        calendar = extend_calendar(con, settings, run)
        for dataset, path in found:
            advance(f"{path.name} → {dataset.table.name}")
            with run.stage(f"ingest {dataset.table.name} from {path.name}") as stage:
                arrival = Arrival(dataset.table, dataset.constants["source"], str(path), dataset.read(path))
                stage.n_rows = arrival.rows.height
                done.append(
                    take_in(con, arrival, settings=settings, run=run, calendar=calendar, retroactive=retroactive)
                )
    return done


def take_in(
    con: duckdb.DuckDBPyConnection,
    arrival: Arrival,
    *,
    settings: Settings,
    run: Run,
    calendar: Calendar,
    retroactive: bool = False,
    choose: Choose = lambda good: good,
) -> Upserted:
    """Judge the rows by the contract of their table, set aside what breaks it, and upsert what is chosen of the rest.

    In a transaction of the caller's, whom RowsRefused tells to roll it back.
    """
    table, n_read = arrival.table, arrival.rows.height
    judged = judge_batch(con, table, arrival.rows, calendar, run.started_at)
    _refuse_if_too_many(judged.bad, arrival, settings)
    _quarantine(con, judged.bad, arrival, run)
    delta, restated = _upsert(con, table, choose(judged.good), run, retroactive=retroactive)
    counts = (n_read, delta.n_new, delta.n_changed, judged.bad.height)
    return Upserted(table.name, Path(arrival.where).name, *counts, judged.reasons, tuple(restated))


def require_one_kind(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Raise if real and invented prices would meet in one store."""
    # Stages are written in the transaction of their rows, so unlike a run's status they survive a kill truly.
    other = con.execute(
        "SELECT r.command, r.started_at FROM run AS r JOIN (SELECT run_id FROM run_stage WHERE stage LIKE 'ingest raw%'"
        "  UNION SELECT run_id FROM ingest_batch WHERE n_rows > 0) AS s ON s.run_id = r.run_id"
        " WHERE (r.command = $inventing) <> ($command = $inventing) ORDER BY r.started_at LIMIT 1",
        {"inventing": INVENTING, "command": run.command},
    ).fetchall()
    if other:
        wanted = "invented" if run.command == INVENTING else "real"
        raise ConfigError(
            f"the store holds data of `{other[0][0]}` ({other[0][1]:%Y-%m-%d}): no place for {wanted} prices",
            fix=f"give them a folder of their own: `kstock-batch --root DIR {run.command} …`",
        )


def is_invented(con: duckdb.DuckDBPyConnection) -> bool:
    """Return whether the store holds a sample market's prices."""
    found = con.execute(
        "SELECT count(*) FROM run AS r JOIN run_stage AS s ON s.run_id = r.run_id"
        " WHERE r.command = $inventing AND s.stage LIKE 'ingest raw%'",
        {"inventing": INVENTING},
    ).fetchall()
    return bool(found[0][0])


def _refuse_if_too_many(bad: pl.DataFrame, arrival: Arrival, settings: Settings) -> None:
    n_read = arrival.rows.height
    if bad.height <= settings.max_rejected_share * n_read:
        return
    rule, n = Counter(bad["rule"].to_list()).most_common(1)[0]
    first = bad.filter(pl.col("rule") == rule).drop("rule").row(0, named=True)
    shown = {key: str(value) if isinstance(value, date) else value for key, value in first.items() if value is not None}
    raise RowsRefused(
        f"{arrival.where}: {bad.height:,} of {n_read:,} rows break a rule of {arrival.table.name},"
        f" most often {rule} ({n:,}), e.g. {shown}",
        fix=f"mend the source; up to {settings.max_rejected_share:.2%} of a file may be set aside (max_rejected_share)",
    )


def _quarantine(con: duckdb.DuckDBPyConnection, bad: pl.DataFrame, arrival: Arrival, run: Run) -> None:
    """Keep the rejected rows; one that is rejected again is kept once, under the last run."""
    if bad.is_empty():
        return
    about = {"table": arrival.table.name, "source": arrival.source}
    con.execute("CREATE OR REPLACE TEMP TABLE rejected AS SELECT b.rule, to_json(b)::VARCHAR AS row_json FROM bad AS b")
    con.execute(
        "DELETE FROM quarantine WHERE table_name = $table AND source = $source"
        " AND (rule, row_json) IN (SELECT (rule, row_json) FROM rejected)",
        about,
    )
    con.execute(
        "INSERT INTO quarantine SELECT $run_id, $table, $source, rule, row_json, $now FROM rejected",
        {**about, "run_id": run.run_id, "now": run.started_at},
    )
    con.execute("DROP TABLE rejected")


def _upsert(
    con: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame, run: Run, *, retroactive: bool
) -> tuple[Delta, list[Restatement]]:
    """Store new keys and new versions, leave equal rows alone; return what was new and what was restated."""
    con.register("incoming", rows)
    delta = Delta.of(con, table, run.started_at, retroactive=retroactive)
    restated = rescale_restated(con, delta, run, retroactive=retroactive)
    delta.store(con, run)
    con.unregister("incoming")
    return delta, restated
