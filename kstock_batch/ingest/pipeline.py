"""Ingest: source rows become raw rows. All of a folder is upserted in one transaction, or none of it.

Rows that break a rule of their table go to quarantine with the rule's name. A few are life; more than
``max_rejected_share`` of a file is a broken source, which is refused whole.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from kstock_batch.errors import ConfigError, RowsRefused
from kstock_batch.ingest.restatement import Restatement, rescale_restated
from kstock_batch.ingest.sources.files import Dataset, locate
from kstock_batch.ingest.versions import Delta
from kstock_batch.market.sessions import cutoff_at, krx_sessions, seoul_date
from kstock_batch.market.tables import Rule, Table, rules_for
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse, insert_rows

INVENTING = "demo"  # the command whose prices are invented
CALENDAR_START = date(2010, 1, 1)
CALENDAR_AHEAD = timedelta(days=200)

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
    now, found = run.started_at, locate(folder, mapping)
    done: list[Upserted] = []
    with warehouse.transaction() as con:
        require_one_kind(con, run)
        sessions = extend_calendar(con, now)
        for dataset, path in found:
            advance(f"{path.name} → {dataset.table.name}")
            with run.stage(f"ingest {dataset.table.name} from {path.name}") as stage:
                arrival = Arrival(dataset.table, dataset.constants["source"], str(path), dataset.read(path))
                stage.n_rows = arrival.rows.height
                done.append(
                    take_in(con, arrival, settings=settings, run=run, sessions=sessions, retroactive=retroactive)
                )
    return done


def take_in(
    con: duckdb.DuckDBPyConnection,
    arrival: Arrival,
    *,
    settings: Settings,
    run: Run,
    sessions: list[date],
    retroactive: bool = False,
    choose: Choose = lambda good: good,
) -> Upserted:
    """Judge the rows by the contract of their table, set aside what breaks it, and upsert what is chosen of the rest.

    In a transaction of the caller's, whom RowsRefused tells to roll it back.
    """
    table, rows, now = arrival.table, arrival.rows, run.started_at
    good, bad = judge(rows, rules_for(table, sessions=sessions, now=now, today=seoul_date(now)))
    _refuse_if_too_many(bad, arrival, settings)
    _quarantine(con, bad, arrival, run)
    delta, restated = _upsert(con, table, choose(good), run, retroactive=retroactive)
    reasons, counts = dict(Counter(bad["rule"].to_list())), (rows.height, delta.n_new, delta.n_changed, bad.height)
    return Upserted(table.name, Path(arrival.where).name, *counts, reasons, tuple(restated))


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


def extend_calendar(con: duckdb.DuckDBPyConnection, now: datetime) -> list[date]:
    """Make raw_calendar reach well past ``now`` and return its sessions."""
    known = [row[0] for row in con.execute("SELECT session FROM raw_calendar ORDER BY session").fetchall()]
    until = seoul_date(now) + CALENDAR_AHEAD
    if known and known[-1] >= until - timedelta(days=30):
        return known
    sessions = krx_sessions(CALENDAR_START, until)
    missing = sorted(set(sessions) - set(known))
    facts = {"session": missing, "cutoff_at": [cutoff_at(day) for day in missing]}
    rows = pl.DataFrame(facts, schema={"session": pl.Date, "cutoff_at": pl.Datetime("us")})
    stamped = rows.with_columns(available_at=pl.lit(now), ingested_at=pl.lit(now))
    insert_rows(con, "raw_calendar", stamped, order="session")
    return sessions


def judge(rows: pl.DataFrame, rules: tuple[Rule, ...]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the rows that keep every rule, and the others with the name of the first ``rule`` they break."""
    broken = pl.coalesce(
        *(pl.when(rule.is_broken.fill_null(False)).then(pl.lit(rule.name)) for rule in rules),
        pl.lit(None, dtype=pl.String),
    )
    judged = rows.with_columns(broken.alias("rule"))
    return judged.filter(pl.col("rule").is_null()).drop("rule"), judged.filter(pl.col("rule").is_not_null())


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
