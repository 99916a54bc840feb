"""OpenDART as a source: the figures of periodic reports, asked for by the day the reports were received.

1. ``list.json``, page by page: the annual, half-year and quarterly reports received in these days.
2. ``corpCode.xml``, once, if one of them names no stock: companies that have left the exchange keep their code there.
3. ``fnlttMultiAcnt.json``, a hundred companies a call: the figures of a fiscal year and kind of report.

A corrected report replaces the old one there, under its own receipt number. What is returned counts from the midnight
after *that* receipt, so a correction becomes a new version and is never known too early.
"""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree

import polars as pl
import requests

from kstock_batch.errors import BudgetSpent, CredentialRefused, KStockError, SourceChanged, SourceUnreachable
from kstock_batch.ingest.sources.answers import body, branch, shown, tree
from kstock_batch.ingest.sources.dart_accounts import figures, financial_rows
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.text import UPDATE
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

KEY = "KSTOCK_DART_KEY"
MAX_COMPANIES = 100  # a call
MAX_DAYS = 90  # a list that names no company
PAGE = 100
_REPORT = re.compile(r"(사업|반기|분기)보고서\s*\((\d{4})\.(\d{2})\)")
_MONTHS = {"사업": (12,), "반기": (6,), "분기": (3, 9)}  # since the fiscal year began
_CODES = {3: "11013", 6: "11012", 9: "11014", 12: "11011"}
_LISTED = ("report_nm", "corp_code", "stock_code")
_PAGING = ("total_page", "total_count")
_OK, _NOTHING, _QUOTA = "000", "013", "020"
_REFUSED = {"010", "011", "012", "901"}  # unknown, disabled, from another address, expired
_AWAY = {"800", "900"}  # maintenance, undefined error
_GET_KEY = f"get a key at OpenDART (free, by e-mail) and set {KEY} in the environment"


@dataclass(frozen=True)
class Report:
    """A periodic report: whose, and the month its period ends in."""

    corp_code: str
    kind: str
    year: int
    month: int

    def questions(self) -> list[tuple[int, str]]:
        """Return the fiscal year (that in which it began) and code it may stand under, the likeliest first.

        A report of March is the first quarter of a calendar year or the third of one that begins in July.
        """
        found = []
        for n in _MONTHS[self.kind]:
            first_month = self.year * 12 + self.month - n  # of the fiscal year: January of year 1 is 12
            found.append((first_month % 12, first_month // 12, _CODES[n]))  # most begin in January, then in April
        return [(year, code) for _, year, code in sorted(found)]


class Dart:
    """Revenue, income, equity, debt and assets as companies report them."""

    name = "dart"
    adds = "quarterly figures of every listed company from the day after it filed them: needed for roe and debt_ratio"
    offers: Mapping[str, Span] = {"financial": "range"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._url = settings.dart_url
        self._session = session
        self._key = environ.get(KEY, "").strip()
        self._codes: dict[str, str] | None = None

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return the key if it is not set."""
        return [] if self._key else [Need(f"{KEY} is not set", _GET_KEY)]

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the figures of the reports received from ``start`` through ``end``."""
        if not self._key:
            raise CredentialRefused(f"dart: {KEY} is not set", fix=_GET_KEY)
        tickers, reports = self._reports(start, end)
        told, open_reports = [], reports
        for n in range(max(map(len, _MONTHS.values()))):
            answer = self._figures(open_reports, n)
            told.append(answer)
            open_reports = open_reports - _answered(answer)
        return financial_rows(_of_reports(pl.concat(told), reports), tickers, self.name)

    def _reports(self, start: date, end: date) -> tuple[dict[str, str], set[Report]]:
        """Return company code to ticker, and the periodic reports of these companies received in these days."""
        tickers, reports = {}, set()
        for row in self._list(start, end):
            title, corp_code, code = (str(branch("dart list", row, name) or "") for name in _LISTED)
            found = _REPORT.search(title)
            if found and (ticker := code.strip() or self._ticker(corp_code)):
                tickers[corp_code] = ticker
                reports.add(Report(corp_code, found[1], int(found[2]), int(found[3])))
        return tickers, reports

    def _list(self, start: date, end: date) -> Iterator[Mapping[str, Any]]:
        """Yield the periodic reports received in these days, which the list tells a page at a time."""
        while start <= end:
            until = min(end, start + timedelta(days=MAX_DAYS - 1))
            asked = {"bgn_de": f"{start:%Y%m%d}", "end_de": f"{until:%Y%m%d}", "pblntf_ty": "A", "page_count": PAGE}
            n_pages, page, n_rows, n_total = 1, 0, 0, 0
            while page < n_pages:
                page += 1
                answer = self._ask("list.json", {**asked, "page_no": page})
                if answer is None:
                    break
                rows = branch("dart list", answer, "list")
                n_pages, n_total = (int(branch("dart list", answer, name) or 0) for name in _PAGING)
                n_rows += len(rows)
                yield from rows
            if n_rows < n_total:
                raise SourceChanged(f"dart list tells of {n_total} reports and gives {n_rows}", fix=UPDATE)
            start = until + timedelta(days=1)

    def _figures(self, reports: Iterable[Report], n: int) -> pl.DataFrame:
        """Return the figures of reports, asked under the ``n``-th fiscal year and code each may stand under."""
        asked = defaultdict(set)
        for report in reports:
            for question in report.questions()[n : n + 1]:
                asked[question].add(report.corp_code)
        told = [figures([])]
        for (year, code), companies in sorted(asked.items()):
            for at in range(0, len(companies), MAX_COMPANIES):
                some = ",".join(sorted(companies)[at : at + MAX_COMPANIES])
                answer = self._ask("fnlttMultiAcnt.json", {"corp_code": some, "bsns_year": year, "reprt_code": code})
                told.append(figures(branch("dart fnlttMultiAcnt", answer, "list") if answer else []))
        return pl.concat(told)

    def _ticker(self, corp_code: str) -> str | None:
        """Return the stock code of a company that the list names without one; None = it never had one."""
        if self._codes is None:
            self._codes = self._corp_codes()
        return self._codes.get(corp_code)

    def _corp_codes(self) -> dict[str, str]:
        content = body(self._get("corpCode.xml", {}), of="dart corpCode.xml")
        try:
            if content.lstrip().startswith(b"<"):  # an error comes as XML without an archive
                told = ElementTree.fromstring(content)
                _require_ok("corpCode.xml", told.findtext("status", ""), told.findtext("message", ""))
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                companies = ElementTree.fromstring(archive.read(archive.namelist()[0]))
        except (zipfile.BadZipFile, IndexError, ElementTree.ParseError) as error:
            what = f"dart corpCode.xml answers {len(content):,} bytes that are no archive of XML: {shown(content[:40])}"
            raise SourceChanged(what, fix=UPDATE) from error
        codes = (
            (one.findtext("corp_code", ""), one.findtext("stock_code", "").strip()) for one in companies.iter("list")
        )
        found = {corp_code: ticker for corp_code, ticker in codes if ticker}
        if not found:
            raise SourceChanged("dart corpCode.xml names no company with a stock_code", fix=UPDATE)
        return found

    def _ask(self, service: str, asked: Mapping[str, object]) -> Mapping[str, Any] | None:
        """Return the answer of a service; None where it has nothing."""
        answer = tree(self._get(service, asked), of=f"dart {service}")
        status = str(branch(f"dart {service}", answer, "status"))
        if status == _NOTHING:
            return None
        _require_ok(service, status, str(answer.get("message", "")))
        return dict(answer)

    def _get(self, service: str, asked: Mapping[str, object]) -> requests.Response:
        params = {"crtfc_key": self._key, **{name: str(value) for name, value in asked.items()}}
        return self._session.get(f"{self._url}/{service}", params=params)


def _require_ok(service: str, status: str, message: str) -> None:
    """Raise what a status other than 000 means."""
    if status == _OK:
        return
    what = f"dart {service} answers status {status!r}: {message}"
    errors: dict[str, KStockError] = {
        **dict.fromkeys(_REFUSED, CredentialRefused(what, fix=f"compare {KEY} with the key at OpenDART; {_GET_KEY}")),
        **dict.fromkeys(_AWAY, SourceUnreachable(what, fix="try again later; OpenDART announces its maintenance")),
        _QUOTA: BudgetSpent(what, fix="go on tomorrow: what is stored is not asked again"),
    }
    raise errors.get(status, SourceChanged(what, fix=UPDATE))


def _answered(told: pl.DataFrame) -> set[Report]:
    """Return the reports, of whichever kind, whose company and month of period are among the figures."""
    months = told.select("corp_code", year=pl.col("period_end").dt.year(), month=pl.col("period_end").dt.month())
    return {Report(corp, kind, year, month) for corp, year, month in months.unique().iter_rows() for kind in _MONTHS}


def _of_reports(told: pl.DataFrame, reports: set[Report]) -> pl.DataFrame:
    """Return the figures whose company and month were asked for: a guess at the fiscal year may bring others."""
    keys = {(report.corp_code, report.year, report.month) for report in reports}
    schema = {"corp_code": pl.String, "year": pl.Int32, "month": pl.Int8}
    wanted = pl.DataFrame(sorted(keys), schema=schema, orient="row")
    dated = told.with_columns(year=pl.col("period_end").dt.year(), month=pl.col("period_end").dt.month())
    return dated.join(wanted, on=list(schema), how="semi")
