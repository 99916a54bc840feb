"""FRED as a source: the closes of US series as the St. Louis Fed's charts download them, all in one call.

It takes its time: a US close appears there hours after Seoul's night, the exchange rate once a week for the last one.
"""

import io
import zipfile
from collections.abc import Mapping
from datetime import date

import polars as pl

from kstock_batch.errors import SourceChanged
from kstock_batch.ingest.sources.answers import body, shown, table
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.macro import CLOSE_SCHEMA, SERIES, macro_rows
from kstock_batch.ingest.sources.text import UPDATE, Field, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

_HEADERS = {"Accept": "text/csv, application/zip"}
_DAY, _DAY_BEFORE_2024 = "observation_date", "DATE"


class Fred:
    """VIX, S&P 500, Nasdaq, the ten-year yield and the won's rate; no key."""

    name = "fred"
    adds = "VIX, S&P 500, Nasdaq, US ten-year yield and USD/KRW, a day late, without a key"
    offers: Mapping[str, Span] = {"macro": "range"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._url = settings.fred_url
        self._session = session

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return nothing: it is open to all."""
        return []

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the closes of all series from ``start`` through ``end``."""
        ids = [series.fred for series in SERIES]
        asked = {"id": ids, "cosd": [start.isoformat()] * len(ids), "coed": [end.isoformat()] * len(ids)}
        params = {key: ",".join(values) for key, values in asked.items()}
        response = self._session.get(self._url, params=params, headers=_HEADERS)
        told = {name: column for frame in _tables(body(response, of=self.name)) for name, column in _columns(frame)}
        if absent := sorted(set(ids) - told.keys()):
            raise SourceChanged(f"fred answers without the series {absent}; it has {sorted(told)}", fix=UPDATE)
        named = (told[series.fred].with_columns(pl.lit(series.name).alias("series")) for series in SERIES)
        closes = pl.concat([frame.select(*CLOSE_SCHEMA) for frame in named])
        return macro_rows(closes.filter(pl.col("event_date").is_between(start, end)), self.name)


def _tables(content: bytes) -> list[pl.DataFrame]:
    """Return the CSV, or those of the archive that several series may come in."""
    if not content.startswith(b"PK"):
        return [table(content, of="fred")]
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [
                table(archive.read(name), of=f"fred {name}") for name in archive.namelist() if name.endswith(".csv")
            ]
    except zipfile.BadZipFile as error:
        what = f"fred answers {len(content):,} bytes that are no whole archive: {shown(content[:8])}"
        raise SourceChanged(what, fix=UPDATE) from error


def _columns(answer: pl.DataFrame) -> list[tuple[str, pl.DataFrame]]:
    """Return each series of a CSV with its days."""
    day = _DAY_BEFORE_2024 if _DAY_BEFORE_2024 in answer.columns else _DAY
    names = [name for name in answer.columns if name != day]
    fields = {"event_date": Field(day, "date"), **{name: Field(name, "number") for name in names}}
    told = read_fields(answer, fields, of="fred")
    return [(name, told.select("event_date", pl.col(name).alias("close"))) for name in names]
