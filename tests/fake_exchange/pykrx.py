"""KRX's data site as the fake exchange serves it: what goes over the wire when pykrx asks (``pykrx_url``).

Texts with commas, dashes for what did not happen, every name of the day before in dashes on a day without trading,
a login that hands out a cookie, and LOGOUT for whoever has none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

import polars as pl

from fake_exchange.krx import Rows, stock_row
from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Reply, Request

ACCOUNT = {"KRX_ID": "sample-user", "KRX_PW": "sample-pass-1"}
DATA = "/comm/bldAttendant/getJsonData.cmd"
LOGIN_PAGE = "/contents/MDC/COMS/client/MDCCOMS001.cmd"
LOGIN_FRAME = "/contents/MDC/COMS/client/view/login.jsp"
LOGIN = "/contents/MDC/COMS/client/MDCCOMS001D1.cmd"
LOGGED_OUT = Reply(b"LOGOUT", status=400, content_type="text/html; charset=utf-8")
MARKETS = {"STK": "KOSPI", "KSQ": "KOSDAQ", "1": "KOSPI", "2": "KOSDAQ"}

_STANDARD, _SHORTS = "dbms/MDC/STAT/standard/MDCSTAT", "dbms/MDC/STAT/srt/MDCSTAT"
PRICES, STOCKS, NET_BUYERS = f"{_STANDARD}01501", f"{_STANDARD}01901", f"{_STANDARD}02401"
MARKET_FLOWS, RATIOS, HOLDINGS = f"{_STANDARD}02202", f"{_STANDARD}03501", f"{_STANDARD}03701"
SHORTS = f"{_SHORTS}30501"


def asks(bld: str) -> Callable[[Request], bool]:
    """Return a ``when`` for FakeExchange.fail: the site has one address for all its questions."""
    return lambda asked: asked.form.get("bld") == bld


@dataclass
class KrxSite:
    """The site's state; a test may change it between two nights.

    Attributes
    ----------
    market : what it tells; ``market.until(day)`` for the evening of a day
    refuses : the code with which it refuses the next logins, in order; then it accepts who has the password
    zeros : write 0 instead of dashes on a day without trading
    """

    market: Market
    refuses: list[str] = field(default_factory=list)
    zeros: bool = False
    n_logins: int = 0
    _inside: set[str] = field(default_factory=set)

    def log_out(self) -> None:
        """Forget who is logged in."""
        self._inside.clear()

    def login(self, asked: Request) -> Reply:
        code = self.refuses.pop(0) if self.refuses else "CD001"
        account = {"KRX_ID": asked.form["mbrId"], "KRX_PW": asked.form["pw"]}
        if code == "CD001" and account != ACCOUNT:
            code = "CD003"
        if code == "CD001":
            self.n_logins += 1
            self._inside.add(_cookie(asked))
        messages = {"CD001": "정상", "CD003": "회원정보가 일치하지 않습니다.", "CD010": "비밀번호를 변경해 주세요."}
        return Reply.json({"_error_code": code, "_error_message": messages.get(code, "이미 로그인되어 있습니다.")})

    def answer(self, asked: Request) -> Reply:
        if _cookie(asked) not in self._inside:
            return LOGGED_OUT
        block, rows = {
            PRICES: ("OutBlock_1", self._prices),
            STOCKS: ("OutBlock_1", self._stocks),
            RATIOS: ("output", self._ratios),
            HOLDINGS: ("output", self._holdings),
            NET_BUYERS: ("output", self._net_buyers),
            MARKET_FLOWS: ("output", self._market_flows),
            SHORTS: ("OutBlock_1", self._shorts),
        }[asked.form["bld"]]
        return Reply.json({block: rows(asked.form), "CURRENT_DATETIME": "2026.07.31 PM 06:31:00"})

    def _listed(self, form: dict[str, str], name: str) -> list[dict[str, Any]]:
        """Return the rows of a frame, or the names of the last session without them on a day without trading."""
        day, of = _day(form["trdDd"]), MARKETS.get(form["mktId"])
        rows = self.market.of(name, day, of)
        if not rows.is_empty():
            return list(rows.iter_rows(named=True))
        before = [session for session in self.market.sessions if session < day]
        names = self.market.of("price", before[-1], of) if before else self.market.price.clear()
        return [{"ticker": row["ticker"], "name": row["name"], "market": row["market"]} for row in _named(names)]

    def _prices(self, form: dict[str, str]) -> Rows:
        boards = dict(self.market.listing.select("ticker", "board").iter_rows())
        return [
            {
                "ISU_SRT_CD": row["ticker"],
                "ISU_CD": "KR7",
                "ISU_ABBRV": row["name"],
                "MKT_NM": row["market"],
                "SECT_TP_NM": boards[row["ticker"]],
                "TDD_CLSPRC": self._won(row.get("close")),
                "FLUC_TP_CD": "3",
                "CMPPREVDD_PRC": self._won(row["close"] - row["base"] if "close" in row else None),
                "FLUC_RT": self._pct(row.get("change_pct")),
                "TDD_OPNPRC": self._won(row.get("open")),
                "TDD_HGPRC": self._won(row.get("high")),
                "TDD_LWPRC": self._won(row.get("low")),
                "ACC_TRDVOL": self._won(row.get("volume")),
                "ACC_TRDVAL": self._won(row.get("traded_value")),
                "MKTCAP": self._won(row.get("market_cap")),
                "LIST_SHRS": self._won(row.get("shares", 10_000_000)),
                "MKT_ID": "STK" if row["market"] == "KOSPI" else "KSQ",
            }
            for row in self._listed(form, "price")
        ] + [_konex(form)]

    def _ratios(self, form: dict[str, str]) -> Rows:
        closes = _closes(self.market, _day(form["trdDd"]))
        return [
            {"ISU_SRT_CD": row["ticker"], "ISU_CD": "KR7", "ISU_ABBRV": "종목", "ISU_ABBRV_STR": "종목 <em></em>"}
            | {"TDD_CLSPRC": self._won(closes.get(row["ticker"])), "FLUC_TP_CD": "1", "CMPPREVDD_PRC": "20"}
            | {"FLUC_RT": "0.92", "EPS": self._won(row.get("eps")), "PER": self._pct(row.get("per"))}
            | {"BPS": self._won(row.get("bps")), "PBR": self._pct(row.get("pbr")), "DPS": "0", "DVD_YLD": "0.00"}
            for row in self._listed(form, "valuation")
        ]

    def _holdings(self, form: dict[str, str]) -> Rows:
        day = _day(form["trdDd"])
        flows = {row["ticker"]: row for row in _named(self.market.of("flow", day))}
        return [
            {"ISU_SRT_CD": row["ticker"], "ISU_CD": "KR7", "ISU_ABBRV": row["name"]}
            | {"TDD_CLSPRC": self._won(row.get("close")), "FLUC_TP_CD": "2", "CMPPREVDD_PRC": "-10", "FLUC_RT": "-0.46"}
            | {"LIST_SHRS": "10,000,000", "FORN_ORD_LMT_QTY": "10,000,000", "FORN_LMT_EXHST_RT": "1.65"}
            | {"FORN_HD_QTY": self._won(flows.get(row["ticker"], {}).get("foreign_shares"), blank="")}
            | {"FORN_SHR_RT": self._pct(flows.get(row["ticker"], {}).get("foreign_holding_pct"), blank="")}
            for row in self._listed(form, "price")
        ]

    def _net_buyers(self, form: dict[str, str]) -> Rows:
        """Return who bought most first; a stock the group did not touch is not on the list."""
        day, of = _day(form["strtDd"]), MARKETS.get(form["mktId"])
        column = {"9000": "foreign_net", "7050": "institution_net", "8000": "retail_net"}[form["invstTpCd"]]
        rows = self.market.of("flow", day, of).filter(pl.col(column) != 0).sort(column, descending=True)
        return [
            {"ISU_SRT_CD": row["ticker"], "ISU_CD": "KR7", "ISU_NM": "종목", "ASK_TRDVOL": "1,000"}
            | {"BID_TRDVOL": f"{1_000 + row[column]:,}", "NETBID_TRDVOL": f"{row[column]:,}", "ASK_TRDVAL": "1,000,000"}
            | {"BID_TRDVAL": f"{1_000_000 + 100 * row[column]:,}", "NETBID_TRDVAL": f"{100 * row[column]:,}"}
            for row in _named(rows)
        ]

    def _market_flows(self, form: dict[str, str]) -> Rows:
        assert (form["trdVolVal"], form["askBid"]) == ("2", "3"), "values and net purchases are what is stored"
        first, last = _day(form["strtDd"]), _day(form["endDd"])
        mine = pl.col("session").is_between(first, last) & (pl.col("market") == MARKETS[form["mktId"]])
        rows = self.market.market_flow.filter(mine).pivot("investor", index="session", values="net_value")
        groups = ("기관합계", "기타법인", "개인", "외국인합계")
        return [
            {"TRD_DD": f"{row['session']:%Y/%m/%d}", "TRDVAL_TOT": "0"}
            | {f"TRDVAL{n}": f"{row[group]:,}" for n, group in enumerate(groups, 1)}
            for row in _named(rows.sort("session", descending=True))
        ]

    def _shorts(self, form: dict[str, str]) -> Rows:
        rows = self.market.of("short_balance", _day(form["trdDd"]), MARKETS[form["mktTpCd"]])
        return [
            {"ISU_CD": row["ticker"], "ISU_ABBRV": "종목", "BAL_QTY": f"{row['short_balance']:,}"}
            | {"LIST_SHRS": f"{row['shares']:,}", "BAL_AMT": f"{row['short_value']:,}"}
            | {"MKTCAP": f"{row['market_cap']:,}", "BAL_RTO": f"{row['short_balance_pct']:.2f}"}
            for row in _named(rows)
        ]

    def _stocks(self, form: dict[str, str]) -> Rows:
        """Return what is listed on the last day the market knows: this question has no date."""
        listed = self.market.listed(self.market.sessions[-1])
        rows = [stock_row(row, f"{row['first_seen']:%Y/%m/%d}", lambda n: f"{n:,}") for row in _named(listed)]
        for row in rows[::7]:  # the better half of KOSDAQ has a segment of its own
            row["MKT_TP_NM"] = row["MKT_TP_NM"].replace("KOSDAQ", "KOSDAQ GLOBAL")
        return rows

    def _won(self, value: int | None, blank: str = "-") -> str:
        return f"{value:,}" if value is not None else "0" if self.zeros else blank

    def _pct(self, value: float | None, blank: str = "-") -> str:
        return f"{value:.2f}" if value is not None else "0.00" if self.zeros else blank


def serve_pykrx(exchange: FakeExchange, market: Market) -> KrxSite:
    """Serve the login and every question of a night from ``market``; return the site, to change it."""
    site = KrxSite(market)
    cookies = iter(range(1, 1_000))
    page = Reply.html("<html><head><title>KRX</title></head><body>정보데이터시스템</body></html>")

    def login_page(asked: Request) -> Reply:
        return replace(page, headers={"Set-Cookie": f"JSESSIONID=session-{next(cookies)}; Path=/; HttpOnly"})

    exchange.serve(LOGIN_PAGE, login_page)
    exchange.serve(LOGIN_FRAME, page)
    exchange.serve(LOGIN, site.login)
    exchange.serve(DATA, site.answer)
    return site


def another_block(asked: Request, sound: Reply) -> Reply:
    """Name the block of rows otherwise."""
    told = json.loads(sound.body)
    return Reply.json({f"{name}_2" if isinstance(rows, list) else name: rows for name, rows in told.items()})


def _konex(form: dict[str, str]) -> dict[str, Any]:
    """Return a row of the third market, which comes along where all are asked for."""
    return {"ISU_SRT_CD": "223220", "ISU_CD": "KR7", "ISU_ABBRV": "코넥스표본", "MKT_NM": "KONEX", "SECT_TP_NM": ""} | {
        "TDD_CLSPRC": "1,000", "FLUC_TP_CD": "3", "CMPPREVDD_PRC": "0", "FLUC_RT": "0.00", "TDD_OPNPRC": "1,000",
        "TDD_HGPRC": "1,000", "TDD_LWPRC": "1,000", "ACC_TRDVOL": "1", "ACC_TRDVAL": "1,000", "MKTCAP": "10,000,000",
        "LIST_SHRS": "10,000", "MKT_ID": "KNX",
    }  # fmt: skip


def _cookie(asked: Request) -> str:
    return asked.headers.get("cookie", "")


def _day(text: str) -> date:
    return datetime.strptime(text, "%Y%m%d").date()


def _named(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return list(rows.iter_rows(named=True))


def _closes(market: Market, day: date) -> dict[str, int]:
    return dict(market.of("price", day).select("ticker", "close").iter_rows())
