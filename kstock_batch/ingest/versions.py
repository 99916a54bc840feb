"""Versions: what a source says anew becomes a new version of the fact beside the old one, never an overwrite.

- A key the store does not know is version 1, known since the mapping says.
- Other values for a known key are a correction. It counts from the instant the source itself gives if that is later
  than the old one's, else from its arrival: no night before could know it. The old version stands for those nights.
- ``retroactive``: the old version should never have counted (a wrong column, a botched export). It is retracted, which
  the store remembers, and the new one counts from the beginning.
- The same values known since another instant: the rule was wrong, not the fact, so that is retroactive too.
"""

from dataclasses import dataclass
from datetime import datetime

import duckdb

from kstock_batch.market.tables import Table
from kstock_batch.store.ledger import Run

_FIRST_PRICE = "SELECT ticker, min(session) AS first_session FROM raw_price GROUP BY ticker"


@dataclass(frozen=True)
class Delta:
    """Rows of the view ``incoming`` that say something new, in the temporary table ``delta``."""

    table: Table
    n_new: int
    n_changed: int
    retroactive: bool

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, table: Table, now: datetime, *, retroactive: bool) -> "Delta":
        """Compare ``incoming`` with the newest standing versions; each differing row gets its version and its time."""
        on_key = " AND ".join(f"s.{name} = t.{name}" for name in table.key)
        values = [name for name in table.columns if name not in table.key]
        differs = " OR ".join(f"s.{name} IS DISTINCT FROM t.{name}" for name in values) or "false"
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE delta AS"
            f" WITH standing AS ({standing(table)}),"
            f" compared AS (SELECT s.*, t.row_id AS old_row, t.version AS old_version,"
            f"   t.available_at AS old_available_at, {differs} AS is_other, t.row_id IS NULL AS is_new,"
            # A correction dated by its arrival comes back with the source's own time, which is no news.
            f"   s.available_at <> t.available_at AND ($retroactive OR t.available_at <> t.ingested_at)"
            f"   AS is_other_time"
            f"  FROM incoming AS s LEFT JOIN standing AS t ON {on_key})"
            f" SELECT * REPLACE (CASE"
            f"   WHEN is_new OR $retroactive OR NOT is_other OR available_at > old_available_at THEN available_at"
            f"   ELSE greatest(available_at, $now) END AS available_at),"
            f"  coalesce(old_version, 0) + 1 AS version, NOT is_new AND ($retroactive OR NOT is_other) AS retracts,"
            f" false AS is_rescaled"
            f" FROM compared WHERE is_new OR is_other OR is_other_time",
            {"now": now, "retroactive": retroactive},
        )
        counts = con.execute("SELECT count(*) FILTER (is_new), count(*) FILTER (NOT is_new) FROM delta").fetchall()
        return cls(table, int(counts[0][0]), int(counts[0][1]), retroactive)

    def store(self, con: duckdb.DuckDBPyConnection, run: Run) -> None:
        """Make the new versions stand, mark the nights that may change, and forget the delta."""
        if self.n_new or self.n_changed:
            # What stood until now decides which nights may change, so it is asked before anything is.
            self._mark_features(con, run)
            self._mark_labels(con, run)
            self._retract(con, run.started_at)
            con.execute(
                f"INSERT INTO {self.table.name} BY NAME SELECT * EXCLUDE (old_row, old_version, old_available_at,"
                f" is_other, is_new, is_other_time, retracts, is_rescaled), $now AS ingested_at FROM delta"
                f" ORDER BY {', '.join(_physical_order(self.table))}",
                {"now": run.started_at},
            )
        con.execute("DROP TABLE delta")

    def _retract(self, con: duckdb.DuckDBPyConnection, now: datetime) -> None:
        """Retract every version of a value that was never right, but of one that was only dated wrongly that one."""
        key = ", ".join(self.table.key)
        wrong = (
            f"({key}) IN (SELECT ({key}) FROM delta WHERE retracts)"
            if self.retroactive
            else "rowid IN (SELECT old_row FROM delta WHERE retracts)"
        )
        con.execute(
            f"UPDATE {self.table.name} SET retracted_at = $now WHERE retracted_at IS NULL AND {wrong}", {"now": now}
        )

    def _mark_features(self, con: duckdb.DuckDBPyConnection, run: Run) -> None:
        """Mark the first night that may change: of retracted versions, the first that used one of them."""
        key = ", ".join(self.table.key)
        used = (
            f"SELECT {key}, min(available_at) AS first_available_at FROM {self.table.name} WHERE retracted_at IS NULL"
            f" AND ({key}) IN (SELECT ({key}) FROM delta WHERE retracts) GROUP BY {key}"
        )
        source = (
            f"(SELECT {key}, least(available_at, first_available_at) AS known_at FROM delta LEFT JOIN ({used}) AS u"
            # A night that the calendar does not hold is none of those that are built: any date after them will do.
            f" USING ({key})) AS k ASOF LEFT JOIN raw_calendar AS c ON k.known_at <= c.cutoff_at"
        )
        night = "coalesce(c.session, k.known_at::DATE)"
        if self.table.name == "raw_listing":  # known since ever, but of no effect before its ticker has a price
            night = f"greatest({night}, p.first_session)"
            source += f" JOIN ({_FIRST_PRICE}) AS p USING (ticker)"
        con.execute(
            f"INSERT INTO feature_due SELECT $table, min({night}), $run_id FROM {source} HAVING min({night}) NOTNULL",
            {"table": self.table.name, "run_id": run.run_id},
        )

    def _mark_labels(self, con: duckdb.DuckDBPyConnection, run: Run) -> None:
        """Mark outcomes that a corrected price or a delisting may change: they are told by what is known now."""
        changed = {
            "raw_price": "SELECT min(session) AS day FROM delta WHERE NOT is_new",
            "raw_listing": "SELECT min(coalesce(least(d.last_seen, t.last_seen), p.first_session)) AS day"
            f" FROM delta AS d JOIN ({_FIRST_PRICE}) AS p USING (ticker)"
            " LEFT JOIN raw_listing AS t ON t.ticker = d.ticker AND t.retracted_at IS NULL",
        }.get(self.table.name)
        if changed:
            statement = f"INSERT INTO label_due SELECT day, $run_id FROM ({changed}) WHERE day NOTNULL"
            con.execute(statement, {"run_id": run.run_id})


def standing(table: Table) -> str:
    """Return a statement of the newest version of each key that was not retracted, with ``row_id``.

    Nearly all keys have one version, so those with more are looked up instead of ranking every row.
    """
    key = ", ".join(table.key)
    on_key = " AND ".join(f"r.{name} = t.{name}" for name in table.key)
    return (
        f"SELECT t.*, t.rowid AS row_id FROM {table.name} AS t LEFT JOIN (SELECT {key}, max(version) AS newest"
        f" FROM {table.name} WHERE version > 1 AND retracted_at IS NULL GROUP BY {key}) AS r ON {on_key}"
        f" WHERE t.retracted_at IS NULL AND t.version = coalesce(r.newest, 1)"
    )


def _physical_order(table: Table) -> tuple[str, ...]:
    """Return the key with its day first: nights read by session."""
    return (table.day, *(name for name in table.key if name != table.day)) if table.day in table.key else table.key
