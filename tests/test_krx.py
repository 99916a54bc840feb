"""The Open API of KRX: what it prints becomes rows, and what it does not print becomes none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fake_exchange.krx import KEY, serve_krx
from fake_exchange.market import HALT_AT, HALTED, NEW, NEW_AT, PREFERRED, SPAC, SPLIT, SPLIT_AT, Market, small_market
from fake_exchange.server import FakeExchange, Reply, Request, changed_column, replaced, rewritten
from kstock_batch.errors import CredentialRefused, SourceChanged
from kstock_batch.ingest.sources.krx import SERVICES, Krx
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.market.tables import TABLES
from kstock_batch.redaction import redacted
from kstock_batch.settings import KRX_SERVICES, Settings

SUNDAY, CLOSED = date(2026, 7, 19), date(2026, 7, 17)
KEYS = {"KSTOCK_KRX_KEY": KEY}
AT_1545 = timedelta(hours=6, minutes=45)  # 15:45 in Seoul, in UTC

Make = Callable[..., Krx]


@pytest.fixture(scope="module")
def market() -> Market:
    return small_market()


@pytest.fixture
def exchange(market: Market) -> Iterator[FakeExchange]:
    with FakeExchange() as exchange:
        serve_krx(exchange, market)
        yield exchange


@pytest.fixture
def krx(exchange: FakeExchange, tmp_path: Path) -> Make:
    def make(environ: dict[str, str] = KEYS) -> Krx:
        limits = Limits(attempts=1, min_interval_s=0)
        session = PoliteSession("krx", SourceState(tmp_path / "sources"), limits)
        return Krx(Settings(krx_url=exchange.url), session, environ)

    return make


def rows_on(market: Market, session: date) -> pl.DataFrame:
    """Return the prices of one session as raw_price wants them."""
    halted = pl.col("volume") == 0
    won = [
        pl.when(halted).then("close").otherwise(name).cast(pl.Float64).alias(name) for name in ("open", "high", "low")
    ]
    return market.of("price", session).select(
        "ticker", "session", pl.lit("raw").alias("price_basis"), *won, pl.col("close").cast(pl.Float64), "volume",
        pl.col("traded_value").cast(pl.Float64), "change_pct", pl.col("shares").alias("shares_outstanding"),
        pl.lit("krx").alias("source"), (pl.col("session").cast(pl.Datetime("us")) + AT_1545).alias("available_at"),
    )  # fmt: skip


def test_prices_equal_the_markets(krx, market):
    session = market.sessions[12]
    assert_frame_equal(krx().fetch("price", session, session), rows_on(market, session), rel_tol=0, abs_tol=1e-9)


def test_a_halted_stock_stands_at_its_last_close_and_a_split_shows_in_shares_and_change(krx, market):
    halted = krx().fetch("price", market.sessions[HALT_AT], market.sessions[HALT_AT]).filter(pl.col("ticker") == HALTED)
    last_close = market.of("price", market.sessions[HALT_AT - 1]).filter(pl.col("ticker") == HALTED)["close"][0]
    assert halted.select("open", "high", "low", "close", "volume").row(0) == (*[float(last_close)] * 4, 0)

    split = krx().fetch("price", market.sessions[SPLIT_AT - 1], market.sessions[SPLIT_AT])
    before, after = split.filter(pl.col("ticker") == SPLIT).sort("session").iter_rows(named=True)
    assert after["shares_outstanding"] == 5 * before["shares_outstanding"]
    assert abs(after["change_pct"]) <= 30 and after["close"] < 0.3 * before["close"]


def test_a_halted_stock_whose_absent_values_are_dashes_is_a_row_like_one_whose_are_zeros(exchange, krx, market):
    session = market.sessions[HALT_AT]
    zeros = krx().fetch("price", session, session)
    exchange.fail("/sto/*", rewritten(lambda row: {key: "-" if value == "0" else value for key, value in row.items()}))
    assert_frame_equal(krx().fetch("price", session, session), zeros)


def test_numbers_with_commas_are_the_same_numbers(exchange, krx, market):
    session = market.sessions[12]
    plain = krx().fetch("price", session, session)
    names = ("TDD_CLSPRC", "TDD_OPNPRC", "TDD_HGPRC", "TDD_LWPRC", "ACC_TRDVOL", "ACC_TRDVAL", "LIST_SHRS")
    exchange.fail("/sto/*", rewritten(lambda row: row | {name: f"{int(row[name]):,}" for name in names}))
    assert_frame_equal(krx().fetch("price", session, session), plain)


def test_market_caps_equal_the_markets_and_cost_no_call_beside_prices(exchange, krx, market):
    session, source = market.sessions[12], krx()
    source.fetch("price", session, session)
    told = source.fetch("market_cap", session, session)
    assert source.n_calls == len(exchange.calls) == 2
    expected = market.of("price", session).select(
        "ticker", pl.col("market_cap", "shares").cast(pl.Float64).name.map(lambda name: name)
    )
    assert told.select("ticker", "market_cap", shares="shares_outstanding").equals(expected)
    assert told.columns == [*TABLES["raw_market_cap"].columns, "source", "available_at"]


def test_prices_asked_for_again_are_asked_again(exchange, krx, market):
    session, source = market.sessions[12], krx()
    provisional = rewritten(lambda row: row | {"TDD_CLSPRC": "1"})
    exchange.fail("/sto/*", provisional, times=2)
    assert set(source.fetch("price", session, session)["close"]) == {1.0}
    assert_frame_equal(source.fetch("price", session, session), rows_on(market, session), abs_tol=1e-9)


def test_listing_tells_kind_market_and_first_day_of_every_name_of_the_day(krx, market):
    session = market.sessions[NEW_AT]
    told = krx().fetch("listing", session, session)
    expected = market.listed(session).select("ticker", "name", "market", "is_spac", "is_preferred", "first_seen")
    assert told.select(expected.columns).equals(expected)
    assert set(told.filter("is_preferred")["ticker"]) == set(PREFERRED)
    assert told.filter("is_spac")["ticker"].to_list() == [SPAC]
    assert NEW in told["ticker"]
    assert NEW not in krx().fetch("listing", market.sessions[NEW_AT - 1], market.sessions[NEW_AT - 1])["ticker"]
    assert told["available_at"].unique().to_list() == [datetime.combine(session, datetime.min.time()) + AT_1545]


def test_a_segment_of_kosdaq_is_kosdaq(exchange, krx, market):
    session = market.sessions[-1]
    exchange.fail("/sto/*", rewritten(lambda row: row | {"MKT_TP_NM": row["MKT_TP_NM"].replace("DAQ", "DAQ GLOBAL")}))
    assert set(krx().fetch("listing", session, session)["market"]) == {"KOSPI", "KOSDAQ"}


def test_index_closes_become_series_and_one_that_was_not_computed_does_not(krx, market):
    first, last = market.sessions[3], market.sessions[4]
    told = krx().fetch("macro", first, last)
    indices = pl.col("series").is_in(["KOSPI", "KOSDAQ", "KOSPI200"]) & pl.col("event_date").is_in([first, last])
    assert told.select("series", "event_date", "close").equals(
        market.macro.filter(indices).sort("series", "event_date")
    )
    assert told["available_at"].unique().sort().to_list() == [
        datetime.combine(day, datetime.min.time()) + AT_1545 for day in (first, last)
    ]


def test_a_series_of_dashes_is_no_row(exchange, krx, market):
    exchange.fail(
        "/idx/kospi_dd_trd",
        rewritten(lambda row: row | {"CLSPRC_IDX": "-"} if row["IDX_NM"] == "코스피 200" else row),
    )
    told = krx().fetch("macro", market.sessions[12], market.sessions[12])
    assert told["series"].to_list() == ["KOSDAQ", "KOSPI"]


@pytest.mark.parametrize("dataset", sorted(Krx.offers))
def test_a_closed_day_and_one_not_published_yet_have_no_rows(exchange, krx, market, dataset):
    serve_krx(exchange, market, published=market.sessions[-2])
    for day in (CLOSED, market.sessions[-1]):
        told = krx().fetch(dataset, day, day)
        assert told.is_empty()
        assert told.schema == krx().fetch(dataset, market.sessions[-2], market.sessions[-2]).schema


def test_a_weekend_is_not_asked_for(exchange, krx):
    assert krx().fetch("price", SUNDAY - timedelta(days=1), SUNDAY).is_empty()
    assert exchange.calls == []


def test_days_in_a_row_are_the_days_one_by_one(krx, market):
    first, last = market.sessions[0], market.sessions[4]
    together = krx().fetch("price", first, last)
    one_by_one = pl.concat(krx().fetch("price", day, day) for day in market.sessions[:5])
    assert_frame_equal(together, one_by_one.sort("ticker", "session"))
    assert set(together["session"]) == set(market.sessions[:5])


def test_a_night_costs_six_calls(krx, market):
    source, session = krx(), market.sessions[12]
    for dataset in source.offers:
        source.fetch(dataset, session, session)
    assert source.n_calls == 6


# What is not as it was agreed


@pytest.mark.parametrize(
    ("dataset", "path", "column"),
    [
        ("price", "/sto/stk_bydd_trd", "TDD_CLSPRC"),
        ("price", "/sto/ksq_bydd_trd", "BAS_DD"),
        ("market_cap", "/sto/ksq_bydd_trd", "MKTCAP"),
        ("listing", "/sto/stk_isu_base_info", "KIND_STKCERT_TP_NM"),
        ("macro", "/idx/kospi_dd_trd", "CLSPRC_IDX"),
    ],
)
def test_a_column_named_otherwise_is_named(exchange, krx, market, dataset, path, column):
    exchange.fail(path, changed_column(column, "NEW_NAME"))
    with pytest.raises(SourceChanged, match=rf"krx {path[5:]} answers without \['{column}'\]; it has .*'NEW_NAME'"):
        krx().fetch(dataset, market.sessions[12], market.sessions[12])


def test_a_text_that_is_no_number_is_shown(exchange, krx, market):
    exchange.fail("/sto/*", rewritten(lambda row: row | {"TDD_CLSPRC": "일천"}))
    with pytest.raises(SourceChanged, match=r"answers \['일천', '일천', '일천'\] where TDD_CLSPRC should be a number"):
        krx().fetch("price", market.sessions[12], market.sessions[12])


@pytest.mark.parametrize(("dataset", "path"), [("price", "/sto/stk_bydd_trd"), ("macro", "/idx/kosdaq_dd_trd")])
def test_rows_of_another_day_are_refused(exchange, krx, market, dataset, path):
    exchange.fail(path, rewritten(lambda row: row | {"BAS_DD": "20260519"}))
    with pytest.raises(SourceChanged, match=r"rows of 2026-05-19 to a question for 2026-05-20"):
        krx().fetch(dataset, date(2026, 5, 20), date(2026, 5, 20))


def test_an_index_that_is_gone_is_named(exchange, krx, market):
    exchange.fail("/idx/kospi_dd_trd", rewritten(lambda row: row if row["IDX_NM"] != "코스피" else None))
    with pytest.raises(SourceChanged, match="krx kospi_dd_trd answers without the index 코스피"):
        krx().fetch("macro", market.sessions[12], market.sessions[12])


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply.json({"OutBlock_2": []}), r"answers 200 without 'OutBlock_1': {\"OutBlock_2\": \[\]}"),
        (Reply.json({"OutBlock_1": "none"}), "answers 200 without 'OutBlock_1'"),
        (Reply.json({"OutBlock_1": ["a row"]}), "answers 'a row' where a row with named values should be"),
        (Reply.json([]), "answers 200 without 'OutBlock_1'"),
        (Reply(b"", content_type="application/json"), "answers 200 with what is no JSON: ''"),
        (Reply.json({"error": "no such service"}, status=404), "answers 404 without 'OutBlock_1'"),
    ],
)
def test_an_answer_of_another_shape_is_shown(exchange, krx, market, reply, sentence):
    exchange.fail("/sto/stk_bydd_trd", replaced(reply))
    with pytest.raises(SourceChanged, match=f"krx stk_bydd_trd {sentence}"):
        krx().fetch("price", market.sessions[12], market.sessions[12])


# Keys


@pytest.mark.parametrize("status", [401, 200])
def test_a_service_that_was_not_applied_for_is_named_and_the_others_work(exchange, krx, market, status):
    serve_krx(exchange, market, keys={name: KEY for name in SERVICES if name != "ksq_isu_base_info"})
    exchange.fail("/sto/ksq_isu_base_info", lambda asked, sound: replace(sound, status=status))
    session = market.sessions[12]
    with pytest.raises(CredentialRefused) as caught:
        krx().fetch("listing", session, session)
    assert str(caught.value) == (
        "krx: the service ksq_isu_base_info (코스닥 종목기본정보) does not accept the key\n"
        "  fix: apply for that service at openapi.krx.co.kr, wait for its approval, and check KSTOCK_KRX_KEY"
        " or KSTOCK_KRX_KEY_KSQ_ISU_BASE_INFO"
    )
    assert krx().fetch("price", session, session).height > 0


def test_each_service_may_have_a_key_of_its_own(exchange, krx, market):
    serve_krx(exchange, market, keys={name: KEY for name in SERVICES} | {"stk_bydd_trd": "another"})
    session = market.sessions[12]
    own = KEYS | {"KSTOCK_KRX_KEY_STK_BYDD_TRD": "another"}
    assert krx(own).fetch("price", session, session).height > 0
    with pytest.raises(CredentialRefused, match="stk_bydd_trd"):
        krx().fetch("price", session, session)


def test_needs_name_the_key_or_the_services_without_one(exchange, krx):
    assert krx().needs() == []
    assert [need.what for need in krx({}).needs()] == ["KSTOCK_KRX_KEY is not set"]
    some = {f"KSTOCK_KRX_KEY_{name.upper()}": KEY for name in SERVICES if name != "kosdaq_dd_trd"}
    assert [(need.what, need.fix) for need in krx(some).needs()] == [
        (
            "there is no key for the service kosdaq_dd_trd (KOSDAQ 시리즈 일별시세정보)",
            "set KSTOCK_KRX_KEY, or KSTOCK_KRX_KEY_KOSDAQ_DD_TRD",
        )
    ]
    assert exchange.calls == []


def test_without_a_key_nothing_is_sent(exchange, krx, market):
    with pytest.raises(CredentialRefused, match=r"krx: the service stk_bydd_trd \(유가증권 일별매매정보\) has no key"):
        krx({}).fetch("price", market.sessions[12], market.sessions[12])
    assert exchange.calls == []


def test_every_service_has_a_key_that_may_be_set():
    assert set(KRX_SERVICES) == set(SERVICES)


def test_a_key_of_one_service_is_no_setting_and_stays_secret(tmp_path):
    environ = {"KSTOCK_KRX_KEY_STK_BYDD_TRD": KEY}
    assert Settings.load(tmp_path, environ) == Settings(root=tmp_path)
    assert redacted(f"refused {KEY}", environ) == "refused ***"


def test_the_key_goes_into_the_header_and_nowhere_else(exchange, krx, market):
    krx().fetch("price", market.sessions[12], market.sessions[12])
    assert {call.headers["auth_key"] for call in exchange.calls} == {KEY}
    assert not any(KEY in json.dumps([call.path, call.query, call.form]) for call in exchange.calls)


@pytest.mark.parametrize("status", [401, 200, 404])
@pytest.mark.parametrize("code", ["401", "900"])
def test_an_error_never_holds_the_key(exchange, krx, market, status, code):
    def echo(asked: Request, sound: Reply) -> Reply:
        message = f"{'x' * 70} {asked.headers['auth_key']}"  # at the end of what is shown
        return Reply.json({"respMsg": message, "respCode": code}, status=status)

    exchange.fail("/sto/*", echo)
    with pytest.raises((CredentialRefused, SourceChanged)) as caught:
        krx().fetch("price", market.sessions[12], market.sessions[12])
    assert KEY[:12] not in str(caught.value)
