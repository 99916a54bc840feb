"""The marcap files as a source: every stock's raw day since 1995, a file a year, kept here once it was fetched.

A year's file is fetched again while it grows: that of a year that is over was whole when it came.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from kstock_batch.errors import SourceChanged, SourceUnreachable
from kstock_batch.files import write_atomically
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources import text
from kstock_batch.ingest.sources.answers import body
from kstock_batch.ingest.sources.files import DAMAGE, DTYPES
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.rows import finished, seoul_instant
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

log = logging.getLogger(__name__)

_MAGIC = {".parquet": b"PAR1", ".gz": b"\x1f\x8b"}
_SUFFIXES = ("parquet", "csv.gz")  # older years may have the second only
_WHOLE_FROM = (1, 5)  # month and day of the next year: the file of December's last session is there by then
_OUT_OF_REACH = "KNX"  # KONEX: the market of start-ups, which is not scored
_MARKETS = {"STK": "KOSPI", "KSQ": "KOSDAQ", "KNX": "KONEX"}

_FIELDS = {
    "ticker": text.Field("Code", "text"),
    "name": text.Field("Name", "text"),
    "market": text.Field("MarketId", "text"),
    "session": text.Field("Date", "date"),
    "open": text.Field("Open", "number"),
    "high": text.Field("High", "number"),
    "low": text.Field("Low", "number"),
    "close": text.Field("Close", "number"),
    "volume": text.Field("Volume", "count"),
    "traded_value": text.Field("Amount", "number"),
    "change_pct": text.Field("ChagesRatio", "number"),  # sic
    "market_cap": text.Field("Marcap", "number"),
    "shares_outstanding": text.Field("Stocks", "count"),
}
_READ = {"text": text.bare, "number": text.number, "count": text.count, "date": text.day}


class _Damaged(SourceUnreachable):
    """A file of a year is not readable to its end."""


class Marcap:
    """Prices as printed, market capitalisation and names of all listed stocks, by year."""

    name = "marcap"
    adds = "raw prices and market capitalisation of every stock since 1995, delisted ones included, without a key"
    offers: Mapping[str, Span] = {"price": "year", "market_cap": "year", "listing": "year"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._url = settings.marcap_url
        self._cache = settings.warehouse / "sources" / "cache"
        self._session = session
        self._fetched: dict[int, date] = {}  # year to the last day it was fetched for, by this run

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return nothing: it is open to all."""
        return []

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` from ``start`` through ``end``; of a listing each ticker's newest row."""
        years = range(start.year, end.year + 1)
        told = pl.concat(self._year(year, max(start, date(year, 1, 1)), min(end, date(year, 12, 31))) for year in years)
        if dataset == "listing":
            told = told.sort("session").unique("ticker", keep="last")
        elif dataset == "price":
            told = told.with_columns(price_basis=pl.lit("raw"))
        about = DATASETS[dataset]
        return finished(told, about.table, self.name, seoul_instant("session", about.final_at))

    def _year(self, year: int, start: date, end: date) -> pl.DataFrame:
        """Return the days of one year; a file that cannot be read is fetched once more."""
        path = self._file(year, end)
        if path is None:
            return pl.DataFrame(schema={name: DTYPES[field.kind] for name, field in _FIELDS.items()})
        try:
            return _read_whole(path, start, end)
        except _Damaged as error:
            log.warning("%s; it is fetched anew", error.what)
        anew = self._download(year, end)
        return _read_whole(anew or path, start, end)

    def _file(self, year: int, until: date) -> Path | None:
        """Return the file that holds ``year`` through ``until``, fetched if it must be; None = there is none."""
        found = next((path for suffix in _SUFFIXES if (path := self._path(year, suffix)).is_file()), None)
        if found and (self._fetched.get(year, date.min) >= until or _is_whole(found, year) or _reaches(found, until)):
            return found
        return self._download(year, until)

    def _download(self, year: int, until: date) -> Path | None:
        for suffix in _SUFFIXES:
            path = self._path(year, suffix)
            response = self._session.get(f"{self._url}/master/data/{path.name}")
            if response.status_code != 404:
                write_atomically(path, body(response, of=f"marcap {path.name}"))
                self._fetched[year] = until
                return path
        return None

    def _path(self, year: int, suffix: str) -> Path:
        return self._cache / f"marcap-{year}.{suffix}"


def _is_whole(path: Path, year: int) -> bool:
    fetched_on = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    return fetched_on >= date(year + 1, *_WHOLE_FROM)


def _reaches(path: Path, until: date) -> bool:
    """Return whether the file holds rows of ``until`` or later; one that cannot be read is looked at later."""
    try:
        return not _read(path, until, date.max).is_empty()
    except DAMAGE:
        return True


def _read_whole(path: Path, start: date, end: date) -> pl.DataFrame:
    """Return the rows of these days; a damaged file is removed and named."""
    try:
        return _read(path, start, end)
    except DAMAGE as error:
        what = f"marcap: {path} ({path.stat().st_size:,} bytes) is damaged: {str(error).splitlines()[0]}"
        path.unlink()
        raise _Damaged(what, fix="it came damaged: try again later, or leave marcap out of `sources`") from error


def _read(path: Path, start: date, end: date) -> pl.DataFrame:
    """Return the rows of these days by our names, in our types, or name the columns that are absent."""
    with path.open("rb") as file:
        if not file.read(4).startswith(_MAGIC[path.suffix]):  # polars would read a page as a CSV
            raise OSError(f"it does not begin as a {path.suffix} file does")
    rows = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_csv(path, infer_schema=False)
    schema = rows.collect_schema()
    if absent := sorted({field.column for field in _FIELDS.values()} - schema.keys()):
        raise SourceChanged(f"marcap {path.name} lacks {absent}; it has {sorted(schema)}", fix=text.UPDATE)
    ours = (_typed(field, schema).alias(name) for name, field in _FIELDS.items())
    told = rows.select(ours).filter(pl.col("session").is_between(start, end)).collect()
    if unknown := sorted(set(told["market"]) - _MARKETS.keys()):
        raise SourceChanged(f"marcap {path.name} has unknown markets {unknown[:5]}", fix=text.UPDATE)
    return told.filter(pl.col("market") != _OUT_OF_REACH).with_columns(
        pl.col("ticker").str.zfill(6), pl.col("market").replace_strict(_MARKETS, return_dtype=pl.String)
    )


def _typed(field: text.Field, schema: pl.Schema) -> pl.Expr:
    """Return the column in our type: the parquet files hold numbers, the others texts."""
    if schema[field.column] == pl.String:
        return _READ[field.kind](field.column)
    return pl.col(field.column).cast(DTYPES[field.kind], strict=False)
