"""What KRX prints of a stock, on its data site as in its Open API: the same columns, read as rows of ours."""

from datetime import date

import polars as pl

from kstock_batch.ingest.sources.text import Field, read_fields

_C = pl.col
_PRICE = {
    "open": Field("TDD_OPNPRC", "number"),
    "high": Field("TDD_HGPRC", "number"),
    "low": Field("TDD_LWPRC", "number"),
    "close": Field("TDD_CLSPRC", "number"),
    "volume": Field("ACC_TRDVOL", "count"),
    "traded_value": Field("ACC_TRDVAL", "number"),
    "change_pct": Field("FLUC_RT", "number"),
    "market_cap": Field("MKTCAP", "number"),
    "shares_outstanding": Field("LIST_SHRS", "count"),
    "market": Field("MKT_NM", "text"),
}
_LISTING = {
    "ticker": Field("ISU_SRT_CD", "text"),
    "name": Field("ISU_ABBRV", "text"),
    "full_name": Field("ISU_NM", "text"),
    "market": Field("MKT_TP_NM", "text"),
    "board": Field("SECT_TP_NM", "text"),
    "kind": Field("KIND_STKCERT_TP_NM", "text"),
    "first_seen": Field("LIST_DD", "date"),
}
_IN_REACH = _C("market").ne_missing("KONEX")  # which comes along in some answers

HAS_PRICE = _C("close") > 0
"""False for the dashes or zeros that a day without trading is printed with: such a row is of no session."""


def read_prices(answer: pl.DataFrame, session: date, *, ticker: str, of: str) -> pl.DataFrame:
    """Return prices, market values and shares of the two markets; ``ticker`` names the column of the short code.

    A halted stock is printed with its last close, and zeros or dashes for what did not happen.
    """
    if answer.is_empty():
        return pl.DataFrame()
    read = read_fields(answer, {"ticker": Field(ticker, "text")} | _PRICE, of=of)
    is_untraded = _C("volume").fill_null(0) == 0
    happened = [name for name in _PRICE if name in ("open", "high", "low", "volume", "traded_value")]
    return (
        read.filter(HAS_PRICE)
        .with_columns(pl.when(is_untraded).then(_C(name).fill_null(0)).otherwise(_C(name)) for name in happened)
        .with_columns(main_market("market"), session=pl.lit(session), price_basis=pl.lit("raw"))
        .filter(_IN_REACH)
    )


def read_listing(answer: pl.DataFrame, day: date, *, of: str) -> pl.DataFrame:
    """Return the stocks of the two markets: what each is, where it is traded, since when; told on ``day``."""
    if answer.is_empty():
        return pl.DataFrame()
    read = read_fields(answer, _LISTING, of=of).with_columns(main_market("market"))
    is_spac = (
        _C("board").fill_null("").str.contains("SPAC")
        | _C("name").fill_null("").str.contains("스팩")
        | _C("full_name").fill_null("").str.contains("기업인수목적")
    )
    kinds = {"is_spac": is_spac, "is_preferred": _C("kind") != "보통주"}
    return read.filter(_IN_REACH).with_columns(**kinds, told_on=pl.lit(day))


def main_market(column: str) -> pl.Expr:
    """Return the market without the segment that stands behind its name: KOSDAQ for ``KOSDAQ GLOBAL``."""
    return _C(column).str.extract(r"^(\w+)").alias(column)
