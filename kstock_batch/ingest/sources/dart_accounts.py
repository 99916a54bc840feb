"""OpenDART's main accounts: which line of a report is which of our figures, and how much of the year it counts."""

from collections.abc import Mapping
from datetime import time
from typing import Any

import polars as pl

from kstock_batch.errors import SourceChanged
from kstock_batch.ingest.sources.answers import records
from kstock_batch.ingest.sources.rows import finished, seoul_instant
from kstock_batch.ingest.sources.text import UPDATE, Field, day, read_fields
from kstock_batch.market.tables import TABLES

_OF = "dart fnlttMultiAcnt"

# Names without spaces and brackets: 당기순이익(손실) is 당기순이익, and the quarters have names of their own.
_ACCOUNTS = {
    "revenue_ytd": ("매출액", "수익", "영업수익", "매출"),
    "op_income_ytd": ("영업이익",),
    "net_income_ytd": ("당기순이익", "반기순이익", "분기순이익"),
    "equity": ("자본총계",),
    "liabilities": ("부채총계",),
    "assets": ("자산총계",),
}
FIGURES = tuple(_ACCOUNTS)
_OF_THE_YEAR = tuple(name for name in FIGURES if name.endswith("_ytd"))
_FIRST_QUARTER, _ANNUAL = "11013", "11011"

_FIELDS = {
    "corp_code": Field("corp_code", "text"),
    "receipt": Field("rcept_no", "text"),
    "report": Field("reprt_code", "text"),
    "basis": Field("fs_div", "text"),
    "account": Field("account_nm", "text"),
    "period": Field("thstrm_dt", "text"),
    "amount": Field("thstrm_amount", "number"),
    "amount_so_far": Field("thstrm_add_amount", "number"),
    "currency": Field("currency", "text"),
}
_MAY_BE_ABSENT = ("thstrm_add_amount", "currency")  # no row of an annual report has the first


def figures(rows: Any) -> pl.DataFrame:
    """Return one row a company and report: corp_code, receipt, received_on, period_end and the figures in won.

    Consolidated figures are taken where a report has any, never mixed with separate ones. Of a year-to-date figure
    that a half-year or third-quarter report gives only for its three months, nothing is known.
    """
    answer = records(rows, [field.column for field in _FIELDS.values()], of=_OF)
    absent = [name for name in _MAY_BE_ABSENT if name not in answer.columns]
    told = read_fields(answer.with_columns(pl.lit(None, pl.String).alias(name) for name in absent), _FIELDS, of=_OF)
    lines = told.with_columns(
        day_of_receipt().alias("received_on"),
        pl.col("period").str.extract_all(r"\d{4}\.\d{2}\.\d{2}").list.last().alias("last_day"),
        _figure().alias("figure"),
        _won().alias("won"),
    ).with_columns(day("last_day").alias("period_end"))
    _require_dates(lines)
    report = ["corp_code", "report", "receipt", "received_on", "period_end"]
    dated = lines.filter(pl.col("received_on").is_not_null() & pl.col("period_end").is_not_null())
    is_consolidated = (pl.col("basis") == "CFS").any().over(report)
    preferred = dated.filter((pl.col("basis") == "CFS") | ~is_consolidated)
    first = [
        pl.col("won").filter((pl.col("figure") == name) & pl.col("won").is_not_null()).first().alias(name)
        for name in FIGURES
    ]
    return preferred.group_by(report, maintain_order=True).agg(first)


def financial_rows(told: pl.DataFrame, tickers: Mapping[str, str], source: str) -> pl.DataFrame:
    """Return finished rows of raw_financial: of two reports on one period the one received last."""
    rows = (
        told.filter(pl.any_horizontal(pl.col(FIGURES).is_not_null()))
        .with_columns(
            pl.col("corp_code").replace_strict(dict(tickers), default=None, return_dtype=pl.String).alias("ticker"),
            pl.when(pl.col("equity") > 0).then(pl.col("liabilities") / pl.col("equity") * 100).alias("debt_ratio"),
        )
        .sort("receipt")
        .unique(["ticker", "period_end"], keep="last", maintain_order=True)
    )
    known_at = seoul_instant("received_on", time(0), plus_days=1)  # a receipt has no time of day
    return finished(rows, TABLES["raw_financial"], source, known_at)


def day_of_receipt() -> pl.Expr:
    """Return the date a receipt number begins with."""
    return pl.col("receipt").str.slice(0, 8).str.to_date("%Y%m%d", strict=False)


def _figure() -> pl.Expr:
    """Return which figure a line is; null = none of ours."""
    bare = pl.col("account").str.replace_all(r"\s|\(.*?\)|\[.*?\]", "")
    names = {account: figure for figure, accounts in _ACCOUNTS.items() for account in accounts}
    return bare.replace_strict(names, default=None, return_dtype=pl.String)


def _won() -> pl.Expr:
    """Return what a line says of the fiscal year so far, or of its last day; null unless in won."""
    so_far = (
        pl.when(pl.col("report") == _ANNUAL)
        .then(pl.col("amount"))
        .when(pl.col("report") == _FIRST_QUARTER)
        .then(pl.coalesce("amount_so_far", "amount"))
        .otherwise(pl.col("amount_so_far"))
    )
    amount = pl.when(_figure().is_in(_OF_THE_YEAR)).then(so_far).otherwise(pl.col("amount"))
    return pl.when(pl.col("currency").fill_null("KRW") == "KRW").then(amount)


def _require_dates(lines: pl.DataFrame) -> None:
    """Raise if no line has its dates; a report without them says nothing of when it counts and is left out."""
    for ours, theirs in (("received_on", "receipt"), ("period_end", "period")):
        if lines.height and lines[ours].null_count() == lines.height:
            wrong = lines[theirs].unique().sort().to_list()
            raise SourceChanged(f"{_OF} answers {wrong[:3]} where a {theirs} with its date was agreed", fix=UPDATE)
