"""FinanceDataReader's daily files, made of the fake market: CSVs that pandas wrote, with its own index in front; and
KIND's page of administrative issues, in EUC-KR as it comes."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Reply, Request

FILES = "/refs/heads/master/data/listing"
KIND = "/investwarn/adminissue.do"
MAX_WORK_DT = "/comm/bldAttendant/executeForResourceBundle.cmd"  # by which the library learns of the newest day
NOT_THERE = Reply(b"404: Not Found", status=404, content_type="text/plain; charset=utf-8")
_IDS = {"KOSPI": "STK", "KOSDAQ": "KSQ", "KONEX": "KNX"}


def serve_fdr(exchange: FakeExchange, market: Market, *, published: date = date.max) -> None:
    """Serve the files of each session through ``published``, and KIND's page as it stands then."""
    exchange.serve(f"{FILES}/*", lambda asked: _file(market, asked, published))
    exchange.serve(KIND, lambda asked: Reply(kind_page(market, published), content_type="application/vnd.ms-excel"))
    newest = max(day for day in market.sessions if day <= published)
    exchange.serve(MAX_WORK_DT, Reply.json({"result": {"output": [{"max_work_dt": f"{newest:%Y%m%d}"}]}}))


def _file(market: Market, asked: Request, published: date) -> Reply:
    kind, name = asked.path.rsplit("/", 2)[1:]
    day = date.fromisoformat(name.removesuffix(".csv"))
    if day not in market.sessions or day > published:
        return NOT_THERE
    rows = {"krx": traded, "desc": described, "delisting": delisted}[kind](market, day)
    return Reply(rows.with_row_index("").write_csv().encode(), content_type="text/plain; charset=utf-8")


def traded(market: Market, day: date) -> pl.DataFrame:
    rows = market.of("price", day).sort("market_cap", descending=True)
    change = pl.col("close") - pl.col("base")
    return rows.select(
        Code="ticker",
        ISU_CD=pl.lit("KR7") + pl.col("ticker") + pl.lit("003"),
        Name="name",
        Market=pl.when(pl.col("ticker").str.ends_with("70")).then(pl.lit("KOSDAQ GLOBAL")).otherwise("market"),
        Dept=pl.lit("중견기업부"),
        Close="close",
        ChangeCode=pl.when(change > 0).then(1).when(change < 0).then(2).otherwise(3),
        Changes=change,
        ChagesRatio="change_pct",
        Open="open",
        High="high",
        Low="low",
        Volume="volume",
        Amount="traded_value",
        Marcap="market_cap",
        Stocks="shares",
        MarketId=pl.col("market").replace(_IDS),
    )


def described(market: Market, day: date) -> pl.DataFrame:
    """Return what is listed; a preferred share has a name and a market only, for it has no company of its own."""
    own = ~pl.col("is_preferred")
    return market.listed(day).select(
        Code="ticker",
        Name="name",
        Market="market",
        Sector=pl.when(own).then("industry"),
        Industry=pl.when(own).then(pl.lit("전자기기, 부품")),
        ListingDate=pl.when(own).then("first_seen"),
        SettleMonth=pl.when(own).then(pl.lit("12월")),
        Representative=pl.when(own).then(pl.lit("홍길동")),
        HomePage=pl.lit(None, pl.String),
        Region=pl.when(own).then(pl.lit("서울특별시")),
    )


def delisted(market: Market, day: date) -> pl.DataFrame:
    """Return all that ever left the exchange, warrants among them; the day of leaving is that after the last."""
    gone = market.listing.filter(pl.col("last_seen") < day).with_columns(group=pl.lit("주권"))
    warrant = gone.with_columns(ticker=pl.lit("J1234") + pl.lit("1"), group=pl.lit("신주인수권증권"))
    moved = market.listed(day).head(1).with_columns(last_seen=pl.lit(day - timedelta(days=1)), group=pl.lit("주권"))
    return pl.concat([gone, warrant, moved]).select(
        Symbol="ticker",
        Name="name",
        Market="market",
        SecuGroup="group",
        Kind=pl.lit("보통주"),
        ListingDate="first_seen",
        DelistingDate=pl.col("last_seen").dt.offset_by("1d"),
        Reason=pl.lit("감사의견 거절('25.1.1)"),
        ArrantEnforceDate=pl.lit(None, pl.Date),
        ArrantEndDate=pl.lit(None, pl.Date),
        Industry="industry",
        ParValue=pl.lit(500.0),
        ListingShares=pl.lit(1_000_000.0),
        ToSymbol=pl.lit(None, pl.String),
        ToName=pl.lit(None, pl.String),
    )


def kind_page(market: Market, day: date) -> bytes:
    """Return the page that KIND calls a spreadsheet."""
    rows = market.designation.filter(pl.col("designated_on") <= day)
    cells = "".join(
        f"<tr>\n<td>{n}</td>\n<td>{row['name']}</td>\n<td style='mso-number-format:\"\\@\"'>{row['ticker']}</td>\n"
        f"<td>{row['designated_on']}</td>\n<td>{row['reason']}</td>\n</tr>\n"
        for n, row in enumerate(rows.iter_rows(named=True), 1)
    )
    none = '<tr><td colspan="5">조회된 결과값이 없습니다.</td></tr>'
    head = "".join(f"<th>{name}</th>" for name in ("번호", "종목명", "종목코드", "지정일", "지정사유"))
    page = f"<table><thead><tr>{head}</tr></thead><tbody>{cells or none}</tbody></table>"
    return f"<html><head><meta charset='euc-kr'></head><body>{page}</body></html>".encode("euc-kr")
