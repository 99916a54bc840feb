"""The bot's own SQLite file as a source: investor flows, short balances and the last US closes it has looked up.

The file belongs to the bot, which writes it while we read: it is opened read-only, never "immutable" (that would skip
the locks and the write-ahead log), and one SELECT sees one state of it.

Its columns are ``DEFAULT 0``, so a 0 says "nobody filled this in" as often as "nothing was bought". What decides:

- investor flows: whoever fills ``retail_net`` has the whole table of investors before him, so there a 0 is a 0; beside
  ``retail_net = 0`` a 0 is unknown (the other writer stores 0 for a question that failed). All unknown: no row.
- short balances: 0 is unknown (the exchange publishes them two sessions later, the bot stores 0 until then and after).
- the snapshot of the markets: an index, a rate or a yield is never 0.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from kstock_batch.errors import SourceChanged, SourceUnreachable
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.macro import CLOSE_SCHEMA
from kstock_batch.ingest.sources.rows import finished, seoul_instant, sessions_later
from kstock_batch.ingest.sources.text import Field, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.market.sessions import KST_OFFSET
from kstock_batch.market.tables import Table
from kstock_batch.settings import Settings

_WAIT_S = 5.0  # for the bot to finish a write
_UPDATE = 'compare with the bot\'s version, or set bot_database = "" to go on without it'
_US_OPENS, _US_IS_CLOSED_FROM = time(22, 30), time(7, 0)  # in Seoul, whatever the season
_SATURDAY = 5
_SNAPSHOT = {"VIX": "vix", "US10Y": "us10y", "USDKRW": "usdkrw"}

_FLOW = {
    "ticker": Field("ticker", "text"),
    "session": Field("date", "date"),
    "foreign_net": Field("foreign_net", "number"),
    "institution_net": Field("institution_net", "number"),
    "retail_net": Field("retail_net", "number"),
    "created_at": Field("created_at", "text"),
}
_SHORT_BALANCE = {
    "ticker": Field("ticker", "text"),
    "session": Field("date", "date"),
    "short_balance": Field("short_balance", "count"),
    "short_balance_pct": Field("short_balance_ratio", "number"),
}


class Bot:
    """The tables ``supply_demand``, ``short_selling`` and ``macro_cache`` of the bot."""

    name = "bot"
    adds = "investor flows and short balances of the stocks the bot watches, and its last US closes; sends nothing"
    offers: Mapping[str, Span] = {"flow": "range", "short_balance": "range", "macro": "range"}
    n_calls = 0

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        name = settings.bot_database
        self._file = settings.root / Path(name).expanduser() if name else None

    def needs(self) -> list[Need]:
        """Return what is missing: the setting, or the file it names."""
        if self._file is None:
            return [Need("bot_database is not set", 'set bot_database = "path of the bot\'s SQLite file"')]
        if not self._file.is_file():
            return [Need(f"bot_database = {self._file} is no file", "correct the path; it is the file the bot writes")]
        return []

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` from ``start`` through ``end``."""
        read = {"flow": self._flow, "short_balance": self._short_balance, "macro": self._macro}[dataset]
        return read(start, end)

    def _flow(self, start: date, end: date) -> pl.DataFrame:
        """Return final flows: what was collected before they were final was never corrected, so it is left out."""
        told = self._between("supply_demand", _FLOW, start, end)
        final_at = seoul_instant("session", DATASETS["flow"].final_at)
        collected_at = _instants(told["created_at"])
        is_unknown = pl.col("retail_net").fill_null(0) == 0
        nets = ("foreign_net", "institution_net")
        known = told.filter(collected_at >= final_at).with_columns(
            pl.when(is_unknown & (pl.col(net) == 0)).then(None).otherwise(pl.col(net)).alias(net) for net in nets
        )
        return finished(
            known.filter(pl.any_horizontal(pl.col(nets).is_not_null())), _table("flow"), self.name, final_at
        )

    def _short_balance(self, start: date, end: date) -> pl.DataFrame:
        told = self._between("short_selling", _SHORT_BALANCE, start, end)
        known = told.filter(pl.col("short_balance") != 0).with_columns(
            pl.when(pl.col("short_balance_pct") != 0).then("short_balance_pct").alias("short_balance_pct")
        )
        about = DATASETS["short_balance"]
        published = known.with_columns(sessions_later("session", about.plus_sessions, start=start, end=end).alias("on"))
        return finished(published, about.table, self.name, seoul_instant("on", about.final_at))

    def _macro(self, start: date, end: date) -> pl.DataFrame:
        """Return the closes in the bot's only snapshot, if they are of these days."""
        rows = self._select("macro_cache", ("snapshot_json", "fetched_at"), "WHERE id = 1", ())
        told = _closes(*rows[0]) if rows and None not in rows[0] else []
        closes = pl.DataFrame(told, schema={**CLOSE_SCHEMA, "known_at": pl.Datetime("us")}, orient="row")
        mine = closes.filter(pl.col("event_date").is_between(start, end))
        return finished(mine, _table("macro"), self.name, pl.col("known_at"))

    def _between(self, table: str, wanted: Mapping[str, Field], start: date, end: date) -> pl.DataFrame:
        """Return the wanted columns of the rows of these days; the bot has written dates with dashes and without."""
        columns = [field.column for field in wanted.values()]
        days = (f"{start:%Y%m%d}", f"{end:%Y%m%d}")
        rows = self._select(table, columns, "WHERE replace(date, '-', '') BETWEEN ? AND ?", days)
        texts = [tuple(None if value is None else str(value) for value in row) for row in rows]
        answer = pl.DataFrame(texts, schema=dict.fromkeys(columns, pl.String), orient="row")
        return read_fields(answer, wanted, of=f"bot {table}")

    def _select(
        self, table: str, columns: Sequence[str], where: str, values: tuple[str, ...]
    ) -> list[tuple[object, ...]]:
        """Return the rows of one of the bot's tables as they stand at this instant."""
        if needs := self.needs():
            raise SourceUnreachable(f"bot: {needs[0].what}", fix=needs[0].fix)
        assert self._file is not None  # needs() would have said so
        address = f"{self._file.absolute().as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=_WAIT_S)) as con:
                self._require_columns(con, table, columns)
                return con.execute(f"SELECT {', '.join(columns)} FROM {table} {where}", values).fetchall()
        except sqlite3.Error as error:
            raise SourceUnreachable(
                f"bot: {self._file} cannot be read: {error}",
                fix="see that it is the bot's SQLite file and that this user may read it, or wait for its lock",
            ) from error

    def _require_columns(self, con: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        """Raise unless the bot's table has these columns."""
        has = sorted(row[1] for row in con.execute(f"PRAGMA table_info({table})"))
        if not has:
            raise SourceChanged(f"bot: {self._file} has no table {table}", fix=_UPDATE)
        if absent := sorted(set(columns) - set(has)):
            raise SourceChanged(f"bot: {self._file} has no columns {absent} in {table}, but {has}", fix=_UPDATE)


def _table(dataset: str) -> Table:
    return DATASETS[dataset].table


def _instants(texts: pl.Series) -> pl.Series:
    return pl.Series([None if text is None else _instant(text) for text in texts], dtype=pl.Datetime("us"))


def _instant(text: str) -> datetime:
    """Return the naive UTC instant of an ISO text; the bot writes UTC without saying so."""
    try:
        told = datetime.fromisoformat(text)
    except ValueError as error:
        raise SourceChanged(f"bot: {text!r} is no instant such as 2026-11-25T09:10:00", fix=_UPDATE) from error
    return told.astimezone(UTC).replace(tzinfo=None) if told.tzinfo else told


def _closes(snapshot: object, fetched_at: object) -> list[tuple[str, date, float, datetime]]:
    """Return (series, event_date, close, known at) of what the snapshot knows.

    While New York trades a value is no close, so there are none. On its holidays the last close counts for that day.
    """
    known_at = _instant(str(fetched_at))
    try:
        told = json.loads(str(snapshot))
        values = {series: told.get(key) for series, key in _SNAPSHOT.items()}
        numbers = {series: float(value) for series, value in values.items() if value not in (None, 0, "")}
    except (ValueError, TypeError, AttributeError) as error:
        raise SourceChanged(f"bot: macro_cache.snapshot_json is not as agreed: {error}", fix=_UPDATE) from error
    if not told.keys() & _SNAPSHOT.values():
        what = f"has none of {sorted(_SNAPSHOT.values())}, but {sorted(told)}"
        raise SourceChanged(f"bot: macro_cache.snapshot_json {what}", fix=_UPDATE)
    seoul = known_at + KST_OFFSET
    us_day = _weekday_before(seoul.date())
    after_close = datetime.combine(us_day + timedelta(days=1), _US_IS_CLOSED_FROM) - KST_OFFSET
    is_closed = _US_IS_CLOSED_FROM <= seoul.time() < _US_OPENS
    us = [
        (series, us_day, numbers[series], after_close) for series in ("VIX", "US10Y") if series in numbers and is_closed
    ]
    return us + [("USDKRW", seoul.date(), value, known_at) for series, value in numbers.items() if series == "USDKRW"]


def _weekday_before(day: date) -> date:
    """Return the last weekday before ``day``."""
    before = day - timedelta(days=1)
    return before - timedelta(days=max(0, before.weekday() - _SATURDAY + 1))
