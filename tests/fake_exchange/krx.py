"""KRX's Open API as the fake exchange serves it: ``krx_url`` is the exchange's own address.

The shapes are those of the documentation: every value a text, dashes where there is none, an empty list for a day
without trading and for one that is not published yet, 401 for a service one has not applied for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Reply, Request

KEY = "0123456789ABCDEF0123456789ABCDEF01234567"
REFUSED = Reply.json({"respMsg": "Unauthorized API Call", "respCode": "401"}, status=401)
INDEX_NAMES = {"KOSPI": "코스피", "KOSPI200": "코스피 200", "KOSDAQ": "코스닥"}

Rows = list[dict[str, Any]]


def serve_krx(
    exchange: FakeExchange,
    market: Market,
    *,
    published: date = date.max,
    keys: Mapping[str, str] | str = KEY,
) -> None:
    """Answer all six services from ``market``; sessions after ``published`` are not told yet.

    ``keys``: the one that all services accept, or each service's own ({} = it accepts none).
    """
    answers: dict[str, Callable[[date], Rows]] = {
        "/sto/stk_bydd_trd": lambda day: traded_rows(market, day, "KOSPI"),
        "/sto/ksq_bydd_trd": lambda day: traded_rows(market, day, "KOSDAQ"),
        "/sto/stk_isu_base_info": lambda day: listed_rows(market, day, "KOSPI"),
        "/sto/ksq_isu_base_info": lambda day: listed_rows(market, day, "KOSDAQ"),
        "/idx/kospi_dd_trd": lambda day: index_rows(market, day, ("KOSPI", "KOSPI200")),
        "/idx/kosdaq_dd_trd": lambda day: index_rows(market, day, ("KOSDAQ",)),
    }
    for path, rows_of in answers.items():
        exchange.serve(path, _handler(path, rows_of, published, keys))


def _handler(
    path: str, rows_of: Callable[[date], Rows], published: date, keys: Mapping[str, str] | str
) -> Callable[[Request], Reply]:
    accepted = keys if isinstance(keys, str) else keys.get(path.rpartition("/")[2])

    def answer(asked: Request) -> Reply:
        if asked.headers.get("auth_key") != accepted:
            return REFUSED
        day = datetime.strptime(asked.query["basDd"], "%Y%m%d").date()
        return Reply.json({"OutBlock_1": rows_of(day) if day <= published else []})

    return answer


def traded_rows(market: Market, day: date, name: str) -> Rows:
    rows = market.of("price", day, name)
    boards = dict(market.listing.select("ticker", "board").iter_rows())
    return [
        {
            "BAS_DD": f"{day:%Y%m%d}",
            "ISU_CD": row["ticker"],
            "ISU_NM": row["name"],
            "MKT_NM": name,
            "SECT_TP_NM": boards[row["ticker"]] or "-",
            "TDD_CLSPRC": str(row["close"]),
            "CMPPREVDD_PRC": str(row["close"] - row["base"]),
            "FLUC_RT": f"{row['change_pct']:.2f}",
            "TDD_OPNPRC": str(row["open"]),
            "TDD_HGPRC": str(row["high"]),
            "TDD_LWPRC": str(row["low"]),
            "ACC_TRDVOL": str(row["volume"]),
            "ACC_TRDVAL": str(row["traded_value"]),
            "MKTCAP": str(row["market_cap"]),
            "LIST_SHRS": str(row["shares"]),
        }
        for row in rows.iter_rows(named=True)
    ]


def listed_rows(market: Market, day: date, name: str) -> Rows:
    if day not in market.sessions:
        return []
    listed = market.listed(day).filter(pl.col("market") == name)
    return [stock_row(row, f"{row['first_seen']:%Y%m%d}", str) for row in listed.iter_rows(named=True)]


def stock_row(row: dict[str, Any], listed_on: str, written: Callable[[int], str]) -> dict[str, Any]:
    """Return one stock as both of KRX's sites print it; they write dates and numbers differently."""
    kind = "구형우선주" if row["is_preferred"] else "보통주"
    return {
        "ISU_CD": row["isin"],
        "ISU_SRT_CD": row["ticker"],
        "ISU_NM": f"{row['name']}{kind}" if row["market"] == "KOSPI" else f"(주){row['name']}",
        "ISU_ABBRV": row["name"],
        "ISU_ENG_NM": f"Sample {row['ticker']} Co., Ltd.",
        "LIST_DD": listed_on,
        "MKT_TP_NM": row["market"],
        "SECUGRP_NM": "주권",
        "SECT_TP_NM": row["board"] or "-",
        "KIND_STKCERT_TP_NM": kind,
        "PARVAL": written(row["par"]),
        "LIST_SHRS": written(10_000_000),
    }


def index_rows(market: Market, day: date, series: tuple[str, ...]) -> Rows:
    """Return the closes of the series, after one that is printed but not computed, as the exchange does."""
    told = market.macro.filter((pl.col("event_date") == day) & pl.col("series").is_in(series))
    closes = {INDEX_NAMES[name]: f"{close:.2f}" for name, close in told.select("series", "close").iter_rows()}
    return [
        {"BAS_DD": f"{day:%Y%m%d}", "IDX_CLSS": series[0], "IDX_NM": name, "CLSPRC_IDX": close, "CMPPREVDD_IDX": "-"}
        | {"FLUC_RT": "-", "OPNPRC_IDX": close, "HGPRC_IDX": close, "LWPRC_IDX": close}
        | {"ACC_TRDVOL": "522289892", "ACC_TRDVAL": "8384472928787", "MKTCAP": "2075148802709824"}
        for name, close in ({f"{INDEX_NAMES[series[0]]} (외국주포함)": "-"} | closes if closes else {}).items()
    ]
