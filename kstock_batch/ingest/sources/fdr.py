"""FinanceDataReader's data as a source: its daily files of the whole market, and KIND's list of administrative issues.

The files and columns are those that FinanceDataReader 0.9.202 reads, and a test reads them with both. The package
itself is not asked: it knows only the newest day and does not say which, takes a download that failed for an empty
list, and switches off the check of certificates for the whole process.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from functools import partial

import polars as pl

from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.answers import body, records, table
from kstock_batch.ingest.sources.daily import SharedAnswers, weekdays
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.page_table import page_rows
from kstock_batch.ingest.sources.printed import main_market
from kstock_batch.ingest.sources.rows import finished, seoul_instant
from kstock_batch.ingest.sources.text import Field, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

_FILES = "refs/heads/master/data/listing"
_CSV, _PAGE = {"Accept": "text/csv, text/plain"}, {"Accept": "text/html"}
_ADMINISTRATIVE = "investwarn/adminissue.do"
_ALL_OF_THEM = {"method": "searchAdminIssueSub", "currentPageSize": "5000", "forward": "adminissue_down"}
_EUC_KR = "cp949"  # EUC-KR with the syllables that it lacks: KIND's pages

_TRADED = {
    "ticker": Field("Code", "text"),
    "market": Field("Market", "text"),
    "open": Field("Open", "number"),
    "high": Field("High", "number"),
    "low": Field("Low", "number"),
    "close": Field("Close", "number"),
    "volume": Field("Volume", "count"),
    "traded_value": Field("Amount", "number"),
    "change_pct": Field("ChagesRatio", "number"),  # sic
    "market_cap": Field("Marcap", "number"),
    "shares_outstanding": Field("Stocks", "count"),
}
# What the file calls Sector is the class of industry, and what it calls Industry the main products.
_DESCRIBED = {
    "ticker": Field("Code", "text"),
    "name": Field("Name", "text"),
    "market": Field("Market", "text"),
    "industry": Field("Sector", "text"),
    "first_seen": Field("ListingDate", "date"),
}
_DELISTED = {
    "ticker": Field("Symbol", "text"),
    "name": Field("Name", "text"),
    "market": Field("Market", "text"),
    "security": Field("SecuGroup", "text"),
    "first_seen": Field("ListingDate", "date"),
    "delisted_on": Field("DelistingDate", "date"),
}
_DESIGNATED = {
    "ticker": Field("종목코드", "text"),
    "designated_on": Field("지정일", "date"),
    "reason": Field("지정사유", "text"),
}
_SHARES = "주권"  # among the delisted are warrants and trusts as well
_JUST_NOW = timedelta(days=7)  # a night may have been missed, and to be told twice is no news
_IN_REACH = pl.col("market").ne_missing("KONEX")


class Fdr:
    """Listings with industries, delistings, administrative issues, and the day's prices should others fail."""

    name = "fdr"
    adds = "industries, delistings and administrative issues, and a second way to the day's prices, without a key"
    offers: Mapping[str, Span] = {"listing": "day", "designation": "range", "price": "day", "market_cap": "day"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._files, self._kind = f"{settings.fdr_url}/{_FILES}", f"{settings.kind_url}/{_ADMINISTRATIVE}"
        self._session = session
        self._answers = SharedAnswers(keep=1)

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return nothing: it is open to all."""
        return []

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` from ``start`` through ``end``."""
        about = DATASETS[dataset]
        if dataset == "designation":
            told = self._designations().filter(pl.col("designated_on").is_between(start, end))
            return finished(told, about.table, self.name, seoul_instant("designated_on", about.final_at))
        read = self._listing if dataset == "listing" else partial(self._traded, dataset)
        days = [read(day).with_columns(told_on=day) for day in weekdays(start, end)]
        told = pl.concat([pl.DataFrame(schema={"told_on": pl.Date}), *days], how="diagonal")
        if dataset == "listing" and told.height:
            told = told.unique("ticker", keep="last", maintain_order=True)
        return finished(told, about.table, self.name, seoul_instant("told_on", about.final_at))

    def _traded(self, dataset: str, day: date) -> pl.DataFrame:
        """Return the day's prices and market values of both markets."""
        answer = self._answers.get((day,), dataset, partial(self._file, "krx", day, _TRADED))
        return _two_markets(answer).with_columns(session=pl.lit(day), price_basis=pl.lit("raw"))

    def _listing(self, day: date) -> pl.DataFrame:
        """Return what is listed on ``day``, and with their last day the stocks that have just left the exchange."""
        listed = self._file("desc", day, _DESCRIBED)
        if listed.is_empty():
            return pl.DataFrame()
        left_now = pl.col("delisted_on").is_between(day - _JUST_NOW, day) & (pl.col("security") == _SHARES)
        moved = pl.col("ticker").is_in(listed["ticker"].implode())  # to the other market
        gone = self._file("delisting", day, _DELISTED).filter(left_now & ~moved)
        left = gone.with_columns(last_seen=pl.col("delisted_on").dt.offset_by("-1d"))
        return _two_markets(pl.concat([listed, left.drop("security", "delisted_on")], how="diagonal"))

    def _designations(self) -> pl.DataFrame:
        """Return the administrative issues in force."""
        of = "fdr KIND administrative issues"
        response = self._session.get(self._kind, params=_ALL_OF_THEM, headers=_PAGE)
        rows = page_rows(response, [field.column for field in _DESIGNATED.values()], of=of, encoding=_EUC_KR)
        answer = records(rows, [field.column for field in _DESIGNATED.values()], of=of)
        told = read_fields(answer, _DESIGNATED, of=of)
        return told.with_columns(pl.col("ticker").str.zfill(6), kind=pl.lit("administrative"))

    def _file(self, kind: str, day: date, wanted: Mapping[str, Field]) -> pl.DataFrame:
        """Return the rows of one of the day's files; none if there is no such file (yet)."""
        of = f"fdr {kind}/{day}.csv"
        response = self._session.get(f"{self._files}/{kind}/{day}.csv", headers=_CSV)
        if response.status_code == 404:
            answer = pl.DataFrame(schema={field.column: pl.String for field in wanted.values()})
        else:
            answer = table(body(response, of=of), of=of)
        return read_fields(answer, wanted, of=of)


def _two_markets(told: pl.DataFrame) -> pl.DataFrame:
    return told.with_columns(main_market("market")).filter(_IN_REACH)
