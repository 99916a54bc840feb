"""Live sources that are no web: a market of forty stocks in memory, and nights that ask it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from factories import sessions_between
from kstock_batch.errors import KStockError
from kstock_batch.ingest.live.backfill import Backfill, run_backfill
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.live.night import Night, prepare, run_night
from kstock_batch.ingest.sources.live import Need
from kstock_batch.market.sessions import to_utc
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run

DAYS = sessions_between(date(2026, 6, 4), date(2026, 7, 31))
MONDAY = date(2026, 6, 15)
ANY = DAYS.index(MONDAY)
N_STOCKS = 40
TICKERS = tuple(f"{10 * n:06d}" for n in range(1, N_STOCKS + 1))
KOSPI, KOSDAQ = TICKERS[: N_STOCKS // 2], TICKERS[N_STOCKS // 2 :]
PER_SESSION = ("price", "market_cap", "listing", "valuation", "flow", "short_balance")
PRICE = {"price": "day"}
WHOLE = {"price": "day", "listing": "day"}
TABLES = ("raw_price", "raw_market_cap", "raw_listing", "raw_valuation", "raw_flow", "raw_short_balance", "raw_macro")

_DTYPES = {"text": pl.String, "number": pl.Float64, "count": pl.Int64, "date": pl.Date, "flag": pl.Boolean}


def evening(day: date, at: time = time(18, 30)) -> datetime:
    """The UTC instant of a wall-clock time in Seoul."""
    return to_utc(day, at)


def _close(n: int, day: date) -> float:
    return 10_000.0 + 100 * (n % 40) + 10 * DAYS.index(day)


def _facts(dataset: str, day: date, n: int) -> dict[str, Any]:
    """What the market is on a session; every price on the grid, every volume of its own."""
    i, close = DAYS.index(day), _close(n, day)
    traded = {
        "open": close - 10,
        "high": close + 20,
        "low": close - 20,
        "close": close,
        "volume": 1_000 + 7 * n + 13 * i,
    }
    before = _close(n, DAYS[i - 1]) if i else close
    facts = {
        "price": {**traded, "price_basis": "raw", "traded_value": close * traded["volume"]}
        | {"change_pct": round(100 * (close / before - 1), 2), "shares_outstanding": 1_000_000 + n},
        "market_cap": {"market_cap": close * (1_000_000 + n), "shares_outstanding": 1_000_000.0 + n},
        "listing": {"name": f"종목{n}", "market": "KOSPI" if TICKERS[n] in KOSPI else "KOSDAQ", "sector": "반도체"},
        "valuation": {"per": 10.0 + n, "pbr": 1.0, "eps": 1_000.0, "bps": 9_000.0},
        "flow": {"foreign_net": 10.0 * n - i, "institution_net": 5.0 + i, "foreign_holding_pct": 20.0},
        "short_balance": {"short_balance": 100 * n + i, "short_balance_pct": 0.5},
    }
    return facts[dataset] | {"ticker": TICKERS[n], "session": day}


def told(dataset: str, day: date, source: str, *, without: Sequence[str] = ()) -> pl.DataFrame:
    """What a source that tells the truth says of a session."""
    if dataset == "macro":
        return series(day, day, source)
    rows = [_facts(dataset, day, n) for n in range(N_STOCKS) if TICKERS[n] not in without]
    return typed(dataset, rows, source, _final_at(dataset, day))


def _final_at(dataset: str, day: date) -> datetime:
    about = DATASETS[dataset]
    return to_utc(DAYS[min(DAYS.index(day) + about.plus_sessions, len(DAYS) - 1)], about.final_at)


def series(start: date, end: date, source: str) -> pl.DataFrame:
    """Closes of the three series on every weekday, each known when it is."""
    days = [start + timedelta(days=n) for n in range((end - start).days + 1)]
    rows = [
        {"series": name, "event_date": day, "close": level + day.toordinal() % 50}
        | {"available_at": to_utc(day + timedelta(days=plus), at)}
        for day in days
        if day.weekday() < 5
        for name, level, plus, at in (
            *(("VIX", 15.0, 1, time(7)), ("SP500", 6_000.0, 1, time(7))),
            ("USDKRW", 1_300.0, 2, time(0)),
        )
    ]
    return typed("macro", rows, source, None)


def typed(dataset: str, rows: list[dict[str, Any]], source: str, known_at: datetime | None) -> pl.DataFrame:
    """The rows as a source must return them."""
    columns = DATASETS[dataset].table.columns
    schema = {name: _DTYPES[kind] for name, kind in columns.items()} | {
        "source": pl.String,
        "available_at": pl.Datetime("us"),
    }
    made = [
        {name: row.get(name) for name in columns}
        | {"source": source, "available_at": row.get("available_at", known_at)}
        for row in rows
    ]
    return pl.DataFrame(made, schema=schema)


Change = Callable[[pl.DataFrame], pl.DataFrame]


class Told:
    """A source in memory; ``asked`` is what it was asked for. It answers at once, as often as it is asked."""

    def __init__(
        self, name: str, offers: dict[str, str], *, needs: Sequence[Need] = (), adds: str = "a market"
    ) -> None:
        self.name, self.offers, self.adds = name, offers, adds
        self.n_calls = 0
        self.asked: list[tuple[str, date]] = []
        self.starts: list[tuple[str, date]] = []
        self.lacking = list(needs)
        self._odd: dict[tuple[str, date | None], KStockError | Change] = {}

    def needs(self) -> list[Need]:
        return self.lacking

    def on(self, dataset: str, day: date | None, odd: KStockError | Change) -> Told:
        """Answer so to a question for a dataset and day (None = any)."""
        self._odd[dataset, day] = odd
        return self

    def heal(self) -> None:
        self._odd.clear()

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        self.n_calls += 1
        self.asked.append((dataset, end))
        self.starts.append((dataset, start))
        odd = self._odd.get((dataset, end), self._odd.get((dataset, None)))
        if isinstance(odd, KStockError):
            raise odd
        if dataset == "macro":
            rows = series(start, end, self.name)
        else:
            days = DAYS if dataset in PER_SESSION else ()
            parts = [told(dataset, day, self.name) for day in days if start <= day <= end]
            rows = pl.concat([typed(dataset, [], self.name, None), *parts])
        return odd(rows) if odd else rows

    def days_asked(self, dataset: str) -> list[date]:
        return [day for name, day in self.asked if name == dataset]


def nothing(rows: pl.DataFrame) -> pl.DataFrame:
    """The answer of a source that has not published yet."""
    return rows.clear()


def half_a_market(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(~pl.col("ticker").is_in(KOSDAQ))


def with_cell(ticker: str, **values: object) -> Change:
    """The answer with cells of one stock changed."""
    at = pl.col("ticker") == ticker
    return lambda rows: rows.with_columns(
        **{name: pl.when(at).then(pl.lit(v, rows.schema[name])).otherwise(name) for name, v in values.items()}
    )


_AFTER = itertools.count()


def settings_of(root: Path, *sources: Told, **more: Any) -> Settings:
    return Settings(root=root, sources=tuple(source.name for source in sources), **more)


def night(
    root: Path, *sources: Told, day: date = MONDAY, at: datetime | None = None, as_of: date | None = None, **more: Any
) -> Night:
    """Run a night on the evening of ``day``."""
    settings = settings_of(root, *sources, **more)
    with opened_run(settings, "ingest", at=at or evening(day)) as run:
        return run_night(run, settings, sources, as_of=as_of)


def backfilled(root: Path, *sources: Told, start: date, end: date, at: datetime | None = None, **more: Any) -> Backfill:
    """Run a backfill, by default long after its last session."""
    settings = settings_of(root, *sources)
    with opened_run(settings, "ingest backfill", at=at or evening(DAYS[-1])) as run:
        return run_backfill(run, settings, sources, start=start, end=end, **more)


def prepared(root: Path) -> Path:
    """A root whose store has a calendar and nothing else."""
    with opened_run(Settings(root=root), "ingest", at=evening(MONDAY)) as run:
        prepare(run, Settings(root=root))
    return root
