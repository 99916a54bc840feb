"""The store's calendar: what the library lists, what the data showed, what a person wrote, each over the one before.

A night that has passed keeps the cutoff it had: the setting counts from the coming night on, and for sessions that are
new to the store. A calendar that changes in the past marks the features and labels that may change with it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from importlib.metadata import version

import duckdb
import polars as pl

from kstock_batch.errors import ConfigError
from kstock_batch.market.calendar import Overrides
from kstock_batch.market.sessions import CLOSE, CLOSURES, EXAM_DAYS, cutoff_at, krx_closes, seoul_date, to_utc
from kstock_batch.market.tables import TABLES
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import insert_rows

CALENDAR_START = date(2010, 1, 1)
CALENDAR_AHEAD = timedelta(days=200)
DERIVED = ("feature_daily", "feature_session", "label_daily", "scored_session")

SCHEMA = pl.Schema({"session": pl.Date(), "closes_at": pl.Datetime("us"), "cutoff_at": pl.Datetime("us")})


@dataclass(frozen=True)
class Hours:
    """When a session closes and when its night's knowledge ends, UTC."""

    closes_at: datetime
    cutoff_at: datetime


Calendar = Mapping[date, Hours]


def read_overrides(settings: Settings) -> Overrides:
    """Return the calendar file; one that a setting names must be there."""
    return Overrides.load(settings.calendar_file, required=settings.calendar != Settings.calendar)


def read_calendar(con: duckdb.DuckDBPyConnection) -> dict[date, Hours]:
    """Return the stored sessions, oldest first."""
    return {day: Hours(*hours) for day, *hours in Query.load("ingest/calendar").frame(con).iter_rows()}


def frame_of(calendar: Calendar) -> pl.DataFrame:
    """Return the calendar as columns: session, closes_at, cutoff_at."""
    return pl.DataFrame([(day, h.closes_at, h.cutoff_at) for day, h in calendar.items()], schema=SCHEMA, orient="row")


def extend_calendar(con: duckdb.DuckDBPyConnection, settings: Settings, run: Run) -> dict[date, Hours]:
    """Make raw_calendar what is known now, well past the run's start, and return it."""
    known, overrides = read_calendar(con), read_overrides(settings)
    until = max([seoul_date(run.started_at) + CALENDAR_AHEAD, *list(known)[-1:]])
    digest = _digest(settings, overrides)
    built = con.execute("SELECT definition_digest FROM calendar_build ORDER BY built_at DESC, rowid DESC LIMIT 1")
    if known and list(known)[-1] >= until - timedelta(days=30) and built.fetchall() == [(digest,)]:
        return known
    closes = overrides.applied(_as_observed(con, krx_closes(CALENDAR_START, until)))
    wanted = _kept_if_traded(con, known, closes, overrides)
    n_added, n_removed = make_calendar(con, known, wanted, settings, run)
    con.execute(
        "INSERT INTO calendar_build VALUES ($digest, $n_added, $n_removed, $run_id, $now)",
        {
            "digest": digest, "n_added": n_added, "n_removed": n_removed, "run_id": run.run_id, "now": run.started_at,
        },
    )  # fmt: skip
    return read_calendar(con)


def make_calendar(
    con: duckdb.DuckDBPyConnection, known: Calendar, closes: Mapping[date, datetime], settings: Settings, run: Run
) -> tuple[int, int]:
    """Make raw_calendar hold exactly the sessions of ``closes``; return how many are new and how many are gone."""
    at, now = time.fromisoformat(settings.cutoff), run.started_at
    wanted = {day: Hours(closes_at, cutoff_at(day, at, closes_at)) for day, closes_at in closes.items()}
    passed = {day: hours.cutoff_at for day, hours in known.items() if hours.cutoff_at <= now}
    wanted = {day: Hours(hours.closes_at, passed.get(day, hours.cutoff_at)) for day, hours in wanted.items()}
    removed = sorted(known.keys() - wanted.keys())
    added = sorted(wanted.keys() - known.keys())
    moved = sorted(day for day in wanted if day in known and wanted[day] != known[day])
    for day in removed:
        _forget_session(con, day, run)
        con.execute("DELETE FROM raw_calendar WHERE session = $day", {"day": day})
    others = frame_of({day: wanted[day] for day in moved})  # noqa: F841  # DuckDB finds it by its name
    con.execute(
        "UPDATE raw_calendar SET closes_at = o.closes_at, cutoff_at = o.cutoff_at FROM others AS o"
        " WHERE raw_calendar.session = o.session"
    )
    new = frame_of({day: wanted[day] for day in added}).with_columns(available_at=pl.lit(now), ingested_at=pl.lit(now))
    insert_rows(con, "raw_calendar", new, order="session")
    if known:
        _mark_due(con, "feature_due", [day for day in moved if wanted[day].cutoff_at != known[day].cutoff_at], run)
        for due in ("feature_due", "label_due"):
            _mark_due(con, due, sorted(added + removed), run)
    return len(added), len(removed)


def require_no_trades(con: duckdb.DuckDBPyConnection, day: date, overrides: Overrides) -> None:
    """Raise if a person closes a day on which stored rows show that the exchange traded, or that was predicted."""
    if reason := what_happened(con, day):
        raise ConfigError(
            f"{overrides.path} closes {day}, but the store holds {reason}",
            fix="delete that line; if those rows are wrong, their source has to be mended and ingested --retroactive",
        )


def _digest(settings: Settings, overrides: Overrides) -> str:
    facts = (version("exchange_calendars"), sorted(CLOSURES), sorted(EXAM_DAYS), CALENDAR_START, settings.cutoff)
    told = [sorted(table.items()) for table in (overrides.closed, overrides.opened, overrides.closes)]
    return hashlib.sha256(repr((facts, told)).encode()).hexdigest()[:12]


def _as_observed(con: duckdb.DuckDBPyConnection, closes: Mapping[date, datetime]) -> dict[date, datetime]:
    observed = dict(con.execute("SELECT session, is_session FROM observed_session").fetchall())
    added = {day: to_utc(day, CLOSE) for day, is_session in observed.items() if is_session}
    return {day: at for day, at in (added | dict(closes)).items() if observed.get(day, True)}


def _kept_if_traded(
    con: duckdb.DuckDBPyConnection, known: Calendar, closes: Mapping[date, datetime], overrides: Overrides
) -> dict[date, datetime]:
    """Return ``closes`` with the sessions that only stored trades speak for; a person who denies those is refused."""
    kept = dict(closes)
    for day in known.keys() - closes.keys():
        if day in overrides.closed:
            require_no_trades(con, day, overrides)
        elif what_happened(con, day):
            kept[day] = known[day].closes_at
    return dict(sorted(kept.items()))


def what_happened(con: duckdb.DuckDBPyConnection, day: date) -> str | None:
    """Return what the store holds that only a session can have left, in words."""
    n_traded, n_predicted = con.execute(
        "SELECT (SELECT count(*) FROM raw_price WHERE session = $day AND volume > 0 AND retracted_at IS NULL),"
        " (SELECT count(*) FROM prediction WHERE as_of = $day)",
        {"day": day},
    ).fetchall()[0]
    if n_traded:
        return f"prices of {n_traded:,} stocks that traded on it"
    return f"{n_predicted:,} predictions as of it" if n_predicted else None


def _forget_session(con: duckdb.DuckDBPyConnection, day: date, run: Run) -> None:
    """Retract what was stored of a day that was no session (rows without a trade), and drop what was made of it."""
    about = {"day": day, "now": run.started_at}
    for table in TABLES.values():
        if table.on_session:
            con.execute(
                f"UPDATE {table.name} SET retracted_at = $now WHERE {table.day} = $day AND retracted_at IS NULL", about
            )
    for name in DERIVED:
        con.execute(f"DELETE FROM {name} WHERE as_of = $day", {"day": day})
    con.execute("DELETE FROM feature_state WHERE session >= $day", {"day": day})  # nothing may go on from that day


def _mark_due(con: duckdb.DuckDBPyConnection, due: str, changed: list[date], run: Run) -> None:
    """Mark what counts sessions, or knows up to a cutoff, from the first changed session on that has prices."""
    newest = con.execute("SELECT max(session) FROM raw_price WHERE retracted_at IS NULL").fetchall()[0][0]
    if newest and changed and changed[0] <= newest:
        told = "'raw_calendar', " if due == "feature_due" else ""
        con.execute(f"INSERT INTO {due} VALUES ({told}$since, $run_id)", {"since": changed[0], "run_id": run.run_id})
