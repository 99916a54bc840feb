"""KRX's Open API: official prices, market values, listings and index closes of whole markets, one day a call.

A session appears there the next morning: on its own evening the answer is an empty list, and the night's prices come
from elsewhere; a day later this source confirms them. Each service is applied for separately.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial

import polars as pl
import requests

from kstock_batch.errors import CredentialRefused, SourceChanged
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.daily import SharedAnswers, weekdays
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.printed import read_listing, read_prices
from kstock_batch.ingest.sources.rows import finished, seoul_instant
from kstock_batch.ingest.sources.text import UPDATE, Field, as_text, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.redaction import redacted
from kstock_batch.settings import Settings

KEY = "KSTOCK_KRX_KEY"
_REFUSALS = ("401", "403")


@dataclass(frozen=True)
class Service:
    """One service of the API: its folder, and the title under which its use is applied for."""

    folder: str
    title: str


SERVICES = {
    "stk_bydd_trd": Service("sto", "유가증권 일별매매정보"),
    "ksq_bydd_trd": Service("sto", "코스닥 일별매매정보"),
    "stk_isu_base_info": Service("sto", "유가증권 종목기본정보"),
    "ksq_isu_base_info": Service("sto", "코스닥 종목기본정보"),
    "kospi_dd_trd": Service("idx", "KOSPI 시리즈 일별시세정보"),
    "kosdaq_dd_trd": Service("idx", "KOSDAQ 시리즈 일별시세정보"),
}
_TRADED, _LISTED = ("stk_bydd_trd", "ksq_bydd_trd"), ("stk_isu_base_info", "ksq_isu_base_info")
# The first series of each service must be there: a market without its index is another answer than was agreed.
_SERIES = {
    "kospi_dd_trd": {"코스피": "KOSPI", "코스피 200": "KOSPI200"},
    "kosdaq_dd_trd": {"코스닥": "KOSDAQ"},
}
_INDEX = {
    "event_date": Field("BAS_DD", "date"),
    "index": Field("IDX_NM", "text"),
    "close": Field("CLSPRC_IDX", "number"),
}


class Krx:
    """The Open API of the Korea Exchange."""

    name = "krx"
    adds = "official prices, market values, listings and index closes, from the next morning on; no investor flows"
    offers: Mapping[str, Span] = {"price": "day", "market_cap": "day", "listing": "day", "macro": "day"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._url = settings.krx_url.rstrip("/")
        self._session = session
        self._environ = environ
        self._answers = SharedAnswers()

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return what is missing before it can be asked: the key, or that of single services."""
        lacking = [service for service in SERVICES if not self._key(service)]
        if len(lacking) == len(SERVICES):
            return [Need(f"{KEY} is not set", "ask openapi.krx.co.kr for a key and for the use of each service")]
        return [
            Need(
                f"there is no key for the service {service} ({SERVICES[service].title})",
                f"set {KEY}, or {_own_key(service)}",
            )
            for service in lacking
        ]

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` for the days from ``start`` through ``end``; see Source.fetch."""
        read = {"price": self._prices, "market_cap": self._caps, "listing": self._listing, "macro": self._indices}
        days = [read[dataset](day) for day in weekdays(start, end)]
        return _ready(dataset, pl.concat([pl.DataFrame(), *days], how="diagonal"))

    def _prices(self, day: date) -> pl.DataFrame:
        return self._traded("price", day)

    def _caps(self, day: date) -> pl.DataFrame:
        return self._traded("market_cap", day)

    def _traded(self, dataset: str, day: date) -> pl.DataFrame:
        """Return prices and market values of both markets."""
        read = []
        for service in _TRADED:
            ask = partial(self._ask, service, day)
            answer = self._answers.get((service, day), dataset, ask)
            _require_day(answer, day, service)
            read.append(read_prices(answer, day, ticker="ISU_CD", of=f"krx {service}"))
        return pl.concat(read, how="diagonal")

    def _listing(self, day: date) -> pl.DataFrame:
        """Return what was listed on ``day``."""
        read = [read_listing(self._ask(service, day), day, of=f"krx {service}") for service in _LISTED]
        return pl.concat(read, how="diagonal")

    def _indices(self, day: date) -> pl.DataFrame:
        """Return the closes of the indices of both markets."""
        read = [_closes(self._ask(service, day), day, service) for service in _SERIES]
        return pl.concat(read, how="diagonal")

    def _ask(self, service: str, day: date) -> pl.DataFrame:
        """Return a service's answer for ``day`` as texts; no rows = not published yet, or no session."""
        key = self._key(service)
        if not key:
            raise _refused(service, "has no key")
        try:
            response = self._session.request(
                "GET",
                f"{self._url}/{SERVICES[service].folder}/{service}",
                params={"basDd": f"{day:%Y%m%d}"},
                headers={"AUTH_KEY": key, "Accept": "application/json"},
            )
        except CredentialRefused as error:
            raise _refused(service, "does not accept the key") from error
        return _table(response, service, key)

    def _key(self, service: str) -> str:
        """Return the key of one service, or the one of all."""
        return self._environ.get(_own_key(service)) or self._environ.get(KEY, "")


def _own_key(service: str) -> str:
    return f"{KEY}_{service.upper()}"


def _refused(service: str, why: str) -> CredentialRefused:
    return CredentialRefused(
        f"krx: the service {service} ({SERVICES[service].title}) {why}",
        fix=f"apply for that service at openapi.krx.co.kr, wait for its approval, and check {KEY}"
        f" or {_own_key(service)}",
    )


def _table(response: requests.Response, service: str, key: str) -> pl.DataFrame:
    """Return the rows of an answer, or say what came instead; an answer may repeat the key."""
    shown = redacted(response.text, {KEY: key})[:120]
    try:
        told = response.json()
    except ValueError as error:
        raise SourceChanged(
            f"krx {service} answers {response.status_code} with what is no JSON: {shown!r}", fix=UPDATE
        ) from error
    if isinstance(told, dict) and isinstance(told.get("OutBlock_1"), list):
        return as_text(told["OutBlock_1"], of=f"krx {service}")
    if isinstance(told, dict) and str(told.get("respCode")) in _REFUSALS:
        raise _refused(service, "does not accept the key")
    raise SourceChanged(f"krx {service} answers {response.status_code} without 'OutBlock_1': {shown}", fix=UPDATE)


def _require_day(answer: pl.DataFrame, day: date, service: str) -> None:
    """Raise if a row is of another day than was asked for: it would be stored under the wrong session."""
    if answer.is_empty():
        return
    read = read_fields(answer, {"day": Field("BAS_DD", "date")}, of=f"krx {service}")
    if other := read.filter(pl.col("day").ne_missing(day))["day"].to_list():
        raise SourceChanged(
            f"krx {service} answers {len(other)} rows of {other[0]} to a question for {day}",
            fix="nothing of it is stored; ask again later, and compare with the exchange's own page if it stays so",
        )


def _closes(answer: pl.DataFrame, day: date, service: str) -> pl.DataFrame:
    """Return the closes of the series we keep; an index that was not computed is printed as a dash."""
    if answer.is_empty():
        return pl.DataFrame()
    _require_day(answer, day, service)
    names = _SERIES[service]
    read = read_fields(answer, _INDEX, of=f"krx {service}")
    kept = read.filter(pl.col("index").is_in(list(names)) & pl.col("close").is_not_null())
    if (first := next(iter(names))) not in kept["index"].to_list():
        raise SourceChanged(f"krx {service} answers without the index {first}", fix=UPDATE)
    return kept.with_columns(series=pl.col("index").replace_strict(names))


def _ready(dataset: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows in the columns of their table; all of a session are known when its prices are final."""
    table = DATASETS[dataset].table
    day = {"listing": "told_on", "macro": "event_date"}.get(dataset, "session")
    if rows.is_empty():
        rows = pl.DataFrame(schema={day: pl.Date})
    # An index of this exchange is final with its prices, not with the New York closes that macro is otherwise made of.
    return finished(rows, table, Krx.name, seoul_instant(day, DATASETS["price"].final_at))
