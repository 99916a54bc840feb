"""KRX's data site through pykrx: the evening's prices, ratios, investor flows and short balances of whole markets.

One question covers a market, or all of them: a night costs some fifteen requests with the login, never one a ticker.
"""

from collections.abc import Mapping
from datetime import date

import polars as pl

from kstock_batch.errors import SourceChanged, SourceUnreachable
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.daily import SharedAnswers, weekdays
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.printed import HAS_PRICE, read_listing, read_prices
from kstock_batch.ingest.sources.pykrx_library import PykrxLibrary
from kstock_batch.ingest.sources.rows import finished, seoul_instant, sessions_later
from kstock_batch.ingest.sources.text import UPDATE, Field, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

SITE = "https://data.krx.co.kr"
"""Where pykrx itself looks: its session redirects this to ``pykrx_url``."""

_C = pl.col
_PRICES, _RATIOS = "전종목시세", "PER_PBR_배당수익률_전종목"
_NET_BUYERS, _HOLDINGS = "투자자별_순매수상위종목", "외국인보유량_전종목"
_MARKET_FLOWS, _SHORTS, _STOCKS = "투자자별_거래실적_전체시장_일별추이_일반", "전종목_공매도_잔고", "전종목기본정보"

_MARKETS = {"KOSPI": "STK", "KOSDAQ": "KSQ"}
_SHORT_MARKETS = (1, 2)  # KOSPI, KOSDAQ
_NET = {"foreign_net": "9000", "institution_net": "7050"}  # foreigners (without "other foreigners"), all institutions
# Of the names that either group traded. A list of fewer is none; on one of most, who is absent was not touched: 0.
# In between it may be half a list: who is absent is unknown.
_FEWEST, _MOST = 0.25, 0.6
_INVESTORS = {"TRDVAL1": "기관합계", "TRDVAL2": "기타법인", "TRDVAL3": "개인", "TRDVAL4": "외국인합계"}

_RATIO = {
    "ticker": Field("ISU_SRT_CD", "text"),
    "close": Field("TDD_CLSPRC", "number"),
    "per": Field("PER", "number"),
    "pbr": Field("PBR", "number"),
    "eps": Field("EPS", "number"),
    "bps": Field("BPS", "number"),
}
_NET_BUYER = {"ticker": Field("ISU_SRT_CD", "text"), "net": Field("NETBID_TRDVOL", "number")}
_HOLDING = {
    "ticker": Field("ISU_SRT_CD", "text"),
    "close": Field("TDD_CLSPRC", "number"),
    "foreign_holding_pct": Field("FORN_SHR_RT", "number"),
}
_SHORT = {
    "ticker": Field("ISU_CD", "text"),
    "short_balance": Field("BAL_QTY", "count"),
    "short_balance_pct": Field("BAL_RTO", "number"),
}
_MARKET_FLOW = {
    "session": Field("TRD_DD", "date"),
    **{name: Field(column, "number") for column, name in _INVESTORS.items()},
}


class Pykrx:
    """The exchange's data site, with an account of one's own."""

    name = "pykrx"
    adds = "a session's prices, ratios, investor flows, holdings and short balances on its own evening"
    offers: Mapping[str, Span] = {
        "price": "day",
        "market_cap": "day",
        "valuation": "day",
        "flow": "day",
        "short_balance": "day",
        "market_flow": "range",
        "listing": "range",
    }

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._session = session
        self._library = PykrxLibrary(session, environ)
        self._answers = SharedAnswers()

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return what is missing before it can be asked: the package, the account."""
        return self._library.needs()

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` for the days from ``start`` through ``end``; see Source.fetch."""
        if dataset == "listing":
            return _ready(dataset, self._listing(start, end), start, end)
        if dataset == "market_flow":
            return _ready(dataset, self._market_flows(start, end), start, end)
        read = {
            "price": lambda day: self._traded(dataset, day),
            "market_cap": lambda day: self._traded(dataset, day),
            "valuation": self._ratios,
            "flow": self._flows,
            "short_balance": self._short_balances,
        }[dataset]
        days = [read(day) for day in weekdays(start, end)]
        return _ready(dataset, pl.concat([pl.DataFrame(), *days], how="diagonal"), start, end)

    def _traded(self, dataset: str, day: date) -> pl.DataFrame:
        """Return prices and market values of both markets, which come in one answer."""
        answer = self._answers.get(
            (_PRICES, day), dataset, lambda: self._library.ask(_PRICES, trdDd=_asked(day), mktId="ALL")
        )
        return read_prices(answer, day, ticker="ISU_SRT_CD", of=f"pykrx {_PRICES}")

    def _ratios(self, day: date) -> pl.DataFrame:
        """Return the exchange's own ratios; a dash (no earnings, no book value) stays unknown."""
        answer = self._library.ask(_RATIOS, trdDd=_asked(day), mktId="ALL")
        read = _read(answer, _RATIO, _RATIOS)
        if read.is_empty():
            return read
        tells = pl.any_horizontal(_C(name).is_not_null() for name in ("per", "pbr", "eps", "bps"))
        return read.filter(HAS_PRICE & tells).with_columns(session=pl.lit(day))

    def _flows(self, day: date) -> pl.DataFrame:
        """Return what foreigners and institutions bought of each stock that either of them traded."""
        flows = [self._net_purchases(market, day) for market in _MARKETS]
        traded = pl.concat([flow for flow in flows if not flow.is_empty()] or [pl.DataFrame()])
        if traded.is_empty():
            return traded
        answer = self._library.ask(_HOLDINGS, trdDd=_asked(day), mktId="ALL", isuLmtRto=0)
        held = _read(answer, _HOLDING, _HOLDINGS)
        if not held.is_empty():
            held = held.filter(HAS_PRICE).select("ticker", "foreign_holding_pct")
            traded = traded.join(held, on="ticker", how="left", validate="m:1")
        return traded.with_columns(session=pl.lit(day))

    def _net_purchases(self, market: str, day: date) -> pl.DataFrame:
        """Return the shares each group bought net of each stock of one market that either of them traded."""
        lists = {}
        for name, group in _NET.items():
            when = {"strtDd": _asked(day), "endDd": _asked(day)}
            answer = self._library.ask(_NET_BUYERS, **when, mktId=_MARKETS[market], invstTpCd=group)
            lists[name] = _read(answer, _NET_BUYER, _NET_BUYERS).rename({"net": name}, strict=False)
        if all(told.is_empty() for told in lists.values()):
            return pl.DataFrame()
        names = pl.concat([told.select("ticker") for told in lists.values() if not told.is_empty()]).unique()
        for name, told in lists.items():
            if told.height < _FEWEST * names.height:
                raise SourceUnreachable(
                    f"pykrx lists {told.height} of {names.height} {market} stocks for {name} on {day}",
                    fix="nothing of it is stored; ask again later in the evening",
                )
            listed = told.with_columns(is_listed=pl.lit(True))
            absent = 0.0 if told.height >= _MOST * names.height else None
            known = pl.when(_C("is_listed")).then(_C(name)).otherwise(absent).alias(name)
            names = names.join(listed, on="ticker", how="left", validate="1:1").with_columns(known).drop("is_listed")
        return names

    def _market_flows(self, start: date, end: date) -> pl.DataFrame:
        """Return in won what each group bought net of the stocks (no ETF, ETN, ELW) of each market, day by day."""
        return pl.concat([self._market_flow(market, start, end) for market in _MARKETS], how="diagonal")

    def _market_flow(self, market: str, start: date, end: date) -> pl.DataFrame:
        answer = self._library.ask(
            _MARKET_FLOWS,
            **{"strtDd": _asked(start), "endDd": _asked(end), "mktId": _MARKETS[market]},
            **{"etf": "", "etn": "", "els": "", "trdVolVal": 2, "askBid": 3},  # values rather than shares, net
        )
        if "TRDVAL5" in answer.columns:  # one list by eleven groups looks like this one by four, but for its length
            raise SourceChanged(f"pykrx {_MARKET_FLOWS} answers with more groups than four", fix=UPDATE)
        read = _read(answer, _MARKET_FLOW, _MARKET_FLOWS)
        if read.is_empty():
            return read
        if other := read.filter(~_C("session").is_between(start, end))["session"].to_list():
            raise SourceChanged(
                f"pykrx {_MARKET_FLOWS} answers rows of {other[0]} to a question for {start} to {end}",
                fix="nothing of it is stored; ask again later",
            )
        long = read.unpivot(index="session", variable_name="investor", value_name="net_value").drop_nulls("net_value")
        zeros = _C("net_value").abs().sum().over("session") == 0  # of a day without trading
        return long.filter(~zeros).with_columns(market=pl.lit(market))

    def _short_balances(self, day: date) -> pl.DataFrame:
        """Return what was sold short and not yet given back; a market without any is one not told yet."""
        told = []
        for market in _SHORT_MARKETS:
            read = _read(self._library.ask(_SHORTS, trdDd=_asked(day), mktTpCd=market), _SHORT, _SHORTS)
            if not read.is_empty() and read["short_balance"].sum() > 0:
                told.append(read.drop_nulls("short_balance").with_columns(session=pl.lit(day)))
        return pl.concat(told) if told else pl.DataFrame()

    def _listing(self, start: date, end: date) -> pl.DataFrame:
        """Return the stocks listed now that were there by ``end``; KRX does not tell here what was listed before."""
        read = read_listing(self._library.ask(_STOCKS), start, of=f"pykrx {_STOCKS}")
        if read.is_empty():
            return read
        told_on = pl.max_horizontal("told_on", "first_seen")  # the new were unknown before their day
        return read.with_columns(told_on).filter(_C("told_on") <= end)


def _asked(day: date) -> str:
    return f"{day:%Y%m%d}"


def _read(answer: pl.DataFrame, wanted: Mapping[str, Field], question: str) -> pl.DataFrame:
    """Return an answer's fields, a row a ticker; no rows have no columns to miss."""
    if answer.is_empty():
        return answer
    read = read_fields(answer, wanted, of=f"pykrx {question}")
    if "ticker" in wanted and (twice := read.filter(_C("ticker").is_duplicated())["ticker"].to_list()):
        raise SourceChanged(f"pykrx {question} answers more than one row of {twice[0]}", fix=UPDATE)
    return read


def _ready(dataset: str, rows: pl.DataFrame, start: date, end: date) -> pl.DataFrame:
    """Return rows in the columns of their table, known since their dataset is final."""
    live = DATASETS[dataset]
    day = "told_on" if dataset == "listing" else "session"
    if rows.is_empty():
        return finished(pl.DataFrame(schema={day: pl.Date}), live.table, Pykrx.name, seoul_instant(day, live.final_at))
    if live.plus_sessions:
        later = sessions_later(day, live.plus_sessions, start=start, end=end)
        rows, day = rows.with_columns(known_on=later), "known_on"
    return finished(rows, live.table, Pykrx.name, seoul_instant(day, live.final_at))
