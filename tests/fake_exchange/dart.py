"""OpenDART of the fake market: receipts page by page, the archive of company codes, main accounts a hundred companies a
call; a status in every answer, every number a text, and the key in the address."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, replace
from datetime import date

from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Fault, Reply, Request, replaced

CODES = {3: "11013", 6: "11012", 9: "11014", 12: "11011"}
NAMES = {"11013": "분기보고서", "11012": "반기보고서", "11014": "분기보고서", "11011": "사업보고서"}
_FLOWS = {"매출액": "revenue_ytd", "영업이익": "op_income_ytd", "당기순이익(손실)": "net_income_ytd"}
_STOCKS = {"자산총계": "assets", "부채총계": "liabilities", "자본총계": "equity"}


@dataclass(frozen=True)
class Filing:
    """One report as it was received. ``figures`` in won, by our names; ``so_far`` = months of the fiscal year."""

    corp_code: str
    ticker: str
    period_end: date
    received_on: date
    so_far: int
    figures: dict[str, int | None]
    basis: str = "CFS"
    number: int = 1
    is_correction: bool = False
    corp_cls: str = "Y"
    code_in_list: bool = True
    currency: str = "KRW"

    @property
    def receipt(self) -> str:
        return f"{self.received_on:%Y%m%d}{self.number:06d}"

    @property
    def code(self) -> str:
        return CODES[self.so_far]

    @property
    def fiscal_year(self) -> int:
        return (self.period_end.year * 12 + self.period_end.month - self.so_far) // 12

    def listed(self) -> dict[str, str]:
        mark = "[기재정정]" if self.is_correction else ""
        return {
            "corp_code": self.corp_code,
            "corp_name": "표본",
            "stock_code": self.ticker if self.code_in_list else "",
            "corp_cls": self.corp_cls,
            "report_nm": f"{mark}{NAMES[self.code]} ({self.period_end:%Y.%m})",
            "rcept_no": self.receipt,
            "flr_nm": "표본",
            "rcept_dt": f"{self.received_on:%Y%m%d}",
            "rm": "",
        }

    def accounts(self) -> list[dict[str, str]]:
        """Return the lines of the report, first those of its last day."""
        end = f"{self.period_end:%Y.%m.%d}"
        begin = f"{self.fiscal_year}.01.01 ~ {end}"
        lines = [self._line("BS", name, f"{end} 현재", self.figures.get(ours)) for name, ours in _STOCKS.items()]
        for name, ours in _FLOWS.items():
            total = self.figures.get(ours)
            line = self._line("IS", name, begin, total)
            if self.so_far < 12:  # the amount is of three months, the sum stands beside it
                line |= {"thstrm_amount": _text(None if total is None else total * 3 // self.so_far)}
                line |= {"thstrm_add_amount": _text(total)}
            lines.append(line)
        return [{**line, "ord": str(n)} for n, line in enumerate(lines, 1)]

    def _line(self, statement: str, account: str, period: str, amount: int | None) -> dict[str, str]:
        return {
            "rcept_no": self.receipt,
            "reprt_code": self.code,
            "bsns_year": str(self.fiscal_year),
            "corp_code": self.corp_code,
            "stock_code": self.ticker,
            "fs_div": self.basis,
            "sj_div": statement,
            "account_nm": account,
            "thstrm_nm": "제 58 기",
            "thstrm_dt": period,
            "thstrm_amount": _text(amount),
            "currency": self.currency,
        }


def filings_of(market: Market) -> list[Filing]:
    return [
        Filing(
            corp_code=row["corp_code"],
            ticker=row["ticker"],
            period_end=row["period_end"],
            received_on=row["received_on"],
            so_far=row["period_end"].month,
            figures={name: row[name] for name in (*_FLOWS.values(), *_STOCKS.values())},
            number=n,
        )
        for n, row in enumerate(market.financial.iter_rows(named=True), 1)
    ]


def serve_dart(exchange: FakeExchange, filings: list[Filing], *, key: str, path: str = "/api") -> None:
    """Serve the three services to whoever has the key."""

    def guarded(answer: object) -> object:
        def asked_with_key(asked: Request) -> Reply:
            if asked.query.get("crtfc_key") != key:
                return status("010", "등록되지 않은 키입니다.")
            return answer(asked)

        return asked_with_key

    def received(asked: Request) -> Reply:
        here = [one for one in filings if asked.query["bgn_de"] <= f"{one.received_on:%Y%m%d}" <= asked.query["end_de"]]
        if not here:
            return status("013", "조회된 데이타가 없습니다.")
        size, page = int(asked.query["page_count"]), int(asked.query["page_no"])
        rows = [one.listed() for one in sorted(here, key=lambda one: one.receipt, reverse=True)]
        paging = {"page_no": page, "page_count": size, "total_count": len(rows), "total_page": -(-len(rows) // size)}
        return _ok(paging | {"list": rows[(page - 1) * size : page * size]})

    def accounts(asked: Request) -> Reply:
        companies = asked.query["corp_code"].split(",")
        if len(companies) > 100:
            return status("021", "조회 가능한 회사 개수가 초과하였습니다.(최대 100건)")
        wanted = (asked.query["bsns_year"], asked.query["reprt_code"])
        here = [one for one in filings if one.corp_code in companies and (str(one.fiscal_year), one.code) == wanted]
        newest = {(one.corp_code, one.basis): one for one in sorted(here, key=lambda one: one.receipt)}
        rows = [line for one in newest.values() for line in one.accounts()]
        return _ok({"list": rows}) if rows else status("013", "조회된 데이타가 없습니다.")

    exchange.serve(f"{path}/list.json", guarded(received))
    exchange.serve(f"{path}/fnlttMultiAcnt.json", guarded(accounts))
    exchange.serve(
        f"{path}/corpCode.xml", guarded(lambda _: Reply(corp_codes(filings), content_type="application/zip"))
    )


def corp_codes(filings: list[Filing]) -> bytes:
    """Return the archive of all companies: those that were never listed have a blank as stock code."""
    companies = {"00999999": " "} | {one.corp_code: one.ticker for one in filings}
    rows = "".join(
        f"<list><corp_code>{corp}</corp_code><corp_name>표본</corp_name><stock_code>{ticker}</stock_code>"
        f"<modify_date>20260101</modify_date></list>"
        for corp, ticker in companies.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("CORPCODE.xml", f'<?xml version="1.0" encoding="UTF-8"?><result>{rows}</result>'.encode())
    return buffer.getvalue()


def status(code: str, message: str) -> Reply:
    return Reply.json({"status": code, "message": message})


def status_xml(code: str, message: str) -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?><result><status>{code}</status><message>{message}</message></result>'
    return Reply(text.encode(), content_type="application/xml")


QUOTA: Fault = replaced(status("020", "요청 제한을 초과하였습니다."))
MAINTENANCE: Fault = replaced(status("800", "시스템 점검으로 인한 서비스가 중지 중입니다."))


def corrected(filing: Filing, received_on: date, **figures: int) -> Filing:
    """Return the correction of a report, received on another day with other figures."""
    changed = filing.figures | figures
    return replace(filing, received_on=received_on, figures=changed, is_correction=True, number=filing.number + 1)


def _ok(answer: dict[str, object]) -> Reply:
    return Reply.json({"status": "000", "message": "정상"} | answer)


def _text(amount: int | None) -> str:
    """Return a number as OpenDART writes it: with commas, and a dash where there is none."""
    return "-" if amount is None else f"{amount:,}"
