"""KRX's data site through the real pykrx, unchanged, against a fake site: rows, guards, silence, number of calls."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fake_exchange import pykrx as fake
from fake_exchange.market import DELISTED, HALT_AT, HALTED, NEW, NEW_AT, PREFERRED, SPAC, Market, small_market
from fake_exchange.server import CUT_SHORT, FakeExchange, Reply, changed_column, replaced, rewritten
from kstock_batch.errors import CredentialRefused, SourceBlocked, SourceChanged, SourceUnreachable
from kstock_batch.ingest.sources import pykrx_library
from kstock_batch.ingest.sources.pykrx import SITE, Pykrx
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.market.tables import TABLES
from kstock_batch.settings import Settings

CLOSED = date(2026, 7, 17)
AT_1545, AT_1810 = timedelta(hours=6, minutes=45), timedelta(hours=9, minutes=10)  # in Seoul, in UTC
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Site:
    exchange: FakeExchange
    site: fake.KrxSite
    make: Callable[..., Pykrx]

    def fail(self, bld: str, fault, **more) -> None:
        self.exchange.fail(fake.DATA, fault, when=fake.asks(bld), **more)


@pytest.fixture(scope="module")
def market() -> Market:
    return small_market()


@pytest.fixture
def krx(market: Market, tmp_path: Path) -> Iterator[Site]:
    with FakeExchange() as exchange:

        def make(environ: dict[str, str] = fake.ACCOUNT) -> Pykrx:
            session = PoliteSession(
                "pykrx",
                SourceState(tmp_path / "sources"),
                Limits(attempts=2, min_interval_s=0),
                redirect={SITE: exchange.url},
                sleep=lambda seconds: None,
            )
            return Pykrx(Settings(pykrx_url=exchange.url), session, environ)

        yield Site(exchange, fake.serve_pykrx(exchange, market), make)


def known(session: date, after_midnight: timedelta) -> datetime:
    return datetime.combine(session, datetime.min.time()) + after_midnight


def as_floats(rows: pl.DataFrame, *names: str) -> pl.DataFrame:
    return rows.with_columns(pl.col(names).cast(pl.Float64))


# Rows


def test_prices_equal_the_markets_without_konex(krx, market):
    session = market.sessions[12]
    told = krx.make().fetch("price", session, session)
    expected = market.of("price", session)
    same = ["ticker", "open", "high", "low", "close", "volume", "traded_value", "change_pct"]
    wanted = as_floats(expected, "open", "high", "low", "close", "traded_value").select(same)
    assert_frame_equal(told.select(same), wanted)
    assert told["shares_outstanding"].to_list() == expected["shares"].to_list()
    assert told.columns == [*TABLES["raw_price"].columns, "source", "available_at"]
    assert told.select("session", "price_basis", "source", "available_at").unique().rows() == [
        (session, "raw", "pykrx", known(session, AT_1545))
    ]


def test_a_halted_stock_stands_at_its_last_close(krx, market):
    session = market.sessions[HALT_AT]
    last_close = float(market.of("price", market.sessions[HALT_AT - 1]).filter(pl.col("ticker") == HALTED)["close"][0])
    told = krx.make().fetch("price", session, session).filter(pl.col("ticker") == HALTED)
    assert told.select("open", "high", "low", "close", "volume").row(0) == (*[last_close] * 4, 0)


def test_market_caps_equal_the_markets_and_share_the_call_of_prices(krx, market):
    session, source = market.sessions[12], krx.make()
    source.fetch("price", session, session)
    asked = source.n_calls
    told = source.fetch("market_cap", session, session)
    assert source.n_calls == asked
    assert told["market_cap"].to_list() == market.of("price", session)["market_cap"].to_list()
    assert told["shares_outstanding"].to_list() == market.of("price", session)["shares"].to_list()


def test_valuations_equal_the_markets_and_a_dash_is_unknown_rather_than_zero(krx, market):
    session = market.sessions[12]
    told = krx.make().fetch("valuation", session, session)
    expected = market.of("valuation", session).select("ticker", "per", "pbr", "eps", "bps")
    assert_frame_equal(told.select(expected.columns), as_floats(expected, "eps", "bps"))
    assert told["per"].null_count() == told["eps"].null_count() > 0
    assert told["available_at"].unique().to_list() == [known(session, AT_1810)]


def test_flows_equal_the_markets_and_who_is_on_no_list_of_a_group_was_not_touched_by_it(krx, market):
    session = market.sessions[12]
    told = krx.make().fetch("flow", session, session)
    names = ["ticker", "foreign_net", "institution_net", "foreign_holding_pct"]
    expected = market.of("flow", session).select(names)
    assert_frame_equal(told.select(names), as_floats(expected, "foreign_net", "institution_net"))
    assert (told["institution_net"] == 0).any()
    assert told["available_at"].unique().to_list() == [known(session, AT_1810)]


def test_market_flows_equal_the_markets_for_a_range_in_one_call_a_market(krx, market):
    first, last, source = market.sessions[3], market.sessions[12], krx.make()
    told = source.fetch("market_flow", first, last)
    expected = market.market_flow.filter(pl.col("session").is_between(first, last))
    names = ["market", "investor", "session", "net_value"]
    assert_frame_equal(told.select(names), as_floats(expected.select(names).sort(names[:3]), "net_value"))
    assert krx.exchange.n_calls(fake.DATA) == 2


def test_short_balances_equal_the_markets_and_count_two_sessions_later(krx, market):
    session = market.sessions[12]
    told = krx.make().fetch("short_balance", session, session)
    expected = market.of("short_balance", session).select("ticker", "short_balance", "short_balance_pct")
    assert_frame_equal(told.select(expected.columns), expected)
    assert told["available_at"].unique().to_list() == [known(market.sessions[14], AT_1810)]


def test_listing_tells_kind_market_and_first_day_in_one_call(krx, market):
    source, session = krx.make(), market.sessions[-1]
    told = source.fetch("listing", session, session)
    expected = market.listed(session).select("ticker", "name", "market", "is_spac", "is_preferred", "first_seen")
    assert told.select(expected.columns).equals(expected)
    assert set(told.filter("is_preferred")["ticker"]) == set(PREFERRED)
    assert told.filter("is_spac")["ticker"].to_list() == [SPAC]
    assert DELISTED not in told["ticker"]
    assert krx.exchange.n_calls(fake.DATA) == 1


def test_listing_of_the_past_knows_the_new_from_their_first_day_on(krx, market):
    told = krx.make().fetch("listing", market.sessions[0], market.sessions[NEW_AT])
    since = dict(told.select("ticker", "available_at").iter_rows())
    assert since[HALTED] == known(market.sessions[0], AT_1545)
    assert since[NEW] == known(market.sessions[NEW_AT], AT_1545)
    assert NEW not in krx.make().fetch("listing", market.sessions[0], market.sessions[NEW_AT - 1])["ticker"]


def test_days_in_a_row_are_the_days_one_by_one(krx, market):
    source = krx.make()
    together = source.fetch("valuation", market.sessions[0], market.sessions[4])
    one_by_one = pl.concat(source.fetch("valuation", day, day) for day in market.sessions[:5])
    assert_frame_equal(together, one_by_one.sort("ticker", "session"))


# Nothing to tell


@pytest.mark.parametrize("zeros", [False, True], ids=["dashes", "zeros"])
@pytest.mark.parametrize("dataset", sorted(Pykrx.offers.keys() - {"listing"}))
def test_a_closed_day_and_a_session_that_has_not_come_have_no_rows(krx, market, dataset, zeros):
    krx.site.market, krx.site.zeros = market.until(market.sessions[-2]), zeros
    source = krx.make()
    empty = source.fetch(dataset, CLOSED, CLOSED)
    assert empty.is_empty()
    assert source.fetch(dataset, market.sessions[-1], market.sessions[-1]).is_empty()
    assert empty.schema == source.fetch(dataset, market.sessions[0], market.sessions[0]).schema


def test_zeros_of_a_closed_day_are_no_rows_of_market_flows_and_short_balances(krx, market):
    session, source = market.sessions[12], krx.make()
    nothing = {"TRDVAL1": "0", "TRDVAL2": "0", "TRDVAL3": "0", "TRDVAL4": "0", "BAL_QTY": "0", "BAL_RTO": "0.00"}
    krx.exchange.fail(fake.DATA, rewritten(lambda row: row | {key: nothing.get(key, row[key]) for key in row}))
    assert source.fetch("market_flow", session, session).is_empty()
    assert source.fetch("short_balance", session, session).is_empty()


def test_short_balances_of_the_evening_are_not_there_yet(krx, market):
    krx.site.market = market.until(market.sessions[12])
    source = krx.make()
    assert source.fetch("short_balance", market.sessions[11], market.sessions[12]).is_empty()
    assert source.fetch("short_balance", market.sessions[10], market.sessions[10]).height > 0


def test_a_stock_that_tells_no_ratio_is_no_row(krx, market):
    krx.fail(fake.RATIOS, rewritten(lambda row: row | dict.fromkeys(("EPS", "PER", "BPS", "PBR"), "-")))
    assert krx.make().fetch("valuation", market.sessions[12], market.sessions[12]).is_empty()


# What is not as it was agreed


@pytest.mark.parametrize(
    ("dataset", "bld", "column"),
    [
        ("price", fake.PRICES, "TDD_CLSPRC"),
        ("market_cap", fake.PRICES, "MKTCAP"),
        ("valuation", fake.RATIOS, "PBR"),
        ("flow", fake.NET_BUYERS, "NETBID_TRDVOL"),
        ("flow", fake.HOLDINGS, "FORN_SHR_RT"),
        ("market_flow", fake.MARKET_FLOWS, "TRDVAL4"),
        ("short_balance", fake.SHORTS, "BAL_QTY"),
        ("listing", fake.STOCKS, "LIST_DD"),
    ],
)
def test_a_column_named_otherwise_is_named(krx, market, dataset, bld, column):
    krx.fail(bld, changed_column(column, "NEW_NAME"))
    with pytest.raises(SourceChanged, match=rf"pykrx \w+ answers without \['{column}'\]; it has .*'NEW_NAME'"):
        krx.make().fetch(dataset, market.sessions[12], market.sessions[12])


@pytest.mark.parametrize(("dataset", "block"), [("price", "OutBlock_1"), ("flow", "output")])
def test_a_block_named_otherwise_is_named(krx, market, dataset, block):
    krx.exchange.fail(fake.DATA, fake.another_block)
    with pytest.raises(SourceChanged, match=rf"pykrx \w+ answers without '{block}'"):
        krx.make().fetch(dataset, market.sessions[12], market.sessions[12])


def test_an_answer_that_is_no_json_is_said_to_be_none(krx, market):
    krx.exchange.fail(fake.DATA, replaced(Reply(b"maintenance", content_type="text/plain")))
    with pytest.raises(SourceChanged, match="pykrx 전종목시세 answers with what is no JSON"):
        krx.make().fetch("price", market.sessions[12], market.sessions[12])


def test_a_question_pykrx_no_longer_knows_is_named(krx, market, monkeypatch):
    monkeypatch.delattr(pykrx_library._parts().questions, "전종목_공매도_잔고")
    with pytest.raises(SourceChanged, match="this release of pykrx does not know 전종목_공매도_잔고"):
        krx.make().fetch("short_balance", market.sessions[12], market.sessions[12])


def test_market_flows_of_another_day_are_refused(krx, market):
    krx.fail(fake.MARKET_FLOWS, rewritten(lambda row: row | {"TRD_DD": "2026/05/19"}))
    with pytest.raises(SourceChanged, match="answers rows of 2026-05-19 to a question for 2026-05-20 to 2026-05-20"):
        krx.make().fetch("market_flow", date(2026, 5, 20), date(2026, 5, 20))


def test_market_flows_by_more_groups_are_not_taken_for_those_by_four(krx, market):
    krx.fail(fake.MARKET_FLOWS, rewritten(lambda row: row | {"TRDVAL5": "0"}))
    with pytest.raises(SourceChanged, match="answers with more groups than four"):
        krx.make().fetch("market_flow", market.sessions[12], market.sessions[12])


GROUPS = pytest.mark.parametrize(("group", "name"), [("9000", "foreign_net"), ("7050", "institution_net")])


@GROUPS
@pytest.mark.parametrize("every", [0, 6])
def test_a_list_of_a_few_is_none(krx, market, group, name, every):
    def cut(asked, sound):
        return Reply.json({"output": sound_rows(sound)[::every] if every else []})

    krx.exchange.fail(fake.DATA, cut, when=lambda asked: asked.form.get("invstTpCd") == group)
    with pytest.raises(SourceUnreachable, match=rf"pykrx lists \d+ of \d+ KOSPI stocks for {name} on 2026-05-21\n"):
        krx.make().fetch("flow", market.sessions[12], market.sessions[12])


@GROUPS
def test_who_is_absent_from_half_a_list_is_unknown(krx, market, group, name):
    krx.exchange.fail(
        fake.DATA,
        lambda asked, sound: Reply.json({"output": sound_rows(sound)[::2]}),
        when=lambda asked: asked.form.get("invstTpCd") == group,
    )
    told = krx.make().fetch("flow", market.sessions[12], market.sessions[12])
    whole = market.of("flow", market.sessions[12])
    assert 0.4 * whole.height < told[name].null_count() < 0.6 * whole.height
    known = told.drop_nulls(name).join(whole, on="ticker", suffix="_true", validate="1:1")
    assert known[name].to_list() == known[f"{name}_true"].to_list()


def test_a_stock_that_is_listed_twice_is_named(krx, market):
    krx.fail(fake.NET_BUYERS, lambda asked, sound: Reply.json({"output": sound_rows(sound) + sound_rows(sound)[:1]}))
    with pytest.raises(SourceChanged, match=r"pykrx 투자자별_순매수상위종목 answers more than one row of \w{6}"):
        krx.make().fetch("flow", market.sessions[12], market.sessions[12])


def test_a_value_that_one_row_lacks_is_unknown(krx, market):
    def cut(asked, sound):
        rows = json.loads(sound.body)["OutBlock_1"]
        del rows[0]["KIND_STKCERT_TP_NM"], rows[0]["LIST_DD"]
        return Reply.json({"OutBlock_1": rows})

    krx.fail(fake.STOCKS, cut)
    told = krx.make().fetch("listing", market.sessions[-1], market.sessions[-1])
    assert told.sort("ticker").select("first_seen", "is_preferred").row(0) == (None, False)


def sound_rows(sound: Reply) -> list[dict[str, str]]:
    return json.loads(sound.body)["output"]


def test_half_of_every_list_is_half_the_rows_so_that_the_gate_sees_it(krx, market):
    krx.fail(fake.NET_BUYERS, lambda asked, sound: Reply.json({"output": sorted_half(sound)}))
    told = krx.make().fetch("flow", market.sessions[12], market.sessions[12])
    assert told.height < 0.6 * market.of("flow", market.sessions[12]).height


def sorted_half(sound: Reply) -> list[dict[str, str]]:
    rows = sorted(sound_rows(sound), key=lambda row: row["ISU_SRT_CD"])
    return rows[: len(rows) // 2]


# The login


def test_a_login_is_made_once_and_again_before_krx_ends_it(krx, market):
    clock = iter([0.0, *[0.0] * 4, 3_100.0, *[3_100.0] * 20])
    source = krx.make()
    source._library._clock = lambda: next(clock)
    for session in market.sessions[:3]:
        source.fetch("valuation", session, session)
    assert krx.site.n_logins == 1
    for session in market.sessions[3:6]:
        source.fetch("valuation", session, session)
    assert krx.site.n_logins == 2
    assert source.n_calls == 2 * 3 + 6


def test_two_sources_in_one_process_ask_through_their_own_sessions(krx, market):
    one, other = krx.make(), krx.make()
    for source in (one, other, one):
        source.fetch("valuation", market.sessions[12], market.sessions[12])
    assert (one.n_calls, other.n_calls) == (3 + 2, 3 + 1)


@pytest.mark.parametrize(
    ("codes", "sentence", "n_sent"),
    [
        (["CD003"], r"KRX does not accept KRX_ID and KRX_PW \(CD003: 회원정보가 일치하지 않습니다.\)", 3),
        (["CD010"], r"KRX wants a new password for KRX_ID \(CD010\)\n  fix: .*change the password", 3),
        (["CD011", "CD011"], r"KRX_ID is logged in elsewhere and KRX does not let us take its place \(CD011\)", 4),
    ],
)
def test_a_refused_login_is_told_and_not_tried_again(krx, market, capfd, codes, sentence, n_sent):
    krx.site.refuses = codes
    source = krx.make()
    for _ in range(3):
        with pytest.raises(CredentialRefused, match=f"pykrx: {sentence}"):
            source.fetch("price", market.sessions[12], market.sessions[12])
    assert source.n_calls == n_sent
    assert capfd.readouterr() == ("", "")


def test_a_wrong_password_is_refused_and_in_no_text(krx, market):
    with pytest.raises(CredentialRefused) as caught:
        wrong = fake.ACCOUNT | {"KRX_PW": "wrong-pass-77"}
        krx.make(wrong).fetch("price", market.sessions[12], market.sessions[12])
    assert "wrong-pass-77" not in str(caught.value)


def test_a_login_takes_the_place_of_an_older_one(krx, market):
    krx.site.refuses = ["CD011"]
    source = krx.make()
    assert source.fetch("price", market.sessions[12], market.sessions[12]).height > 0
    assert [call.form.get("skipDup") for call in krx.exchange.calls if call.path == fake.LOGIN] == [None, "Y"]


def test_a_login_that_answers_with_a_page_is_told(krx, market):
    krx.exchange.fail(fake.LOGIN, replaced(Reply(b"maintenance", content_type="text/plain")))
    with pytest.raises(SourceChanged, match="pykrx: KRX answers its login with what is no JSON"):
        krx.make().fetch("price", market.sessions[12], market.sessions[12])


def test_who_is_logged_out_by_krx_stops_asking(krx, market):
    source = krx.make()
    source.fetch("price", market.sessions[12], market.sessions[12])
    krx.site.log_out()
    with pytest.raises(SourceBlocked):
        source.fetch("price", market.sessions[13], market.sessions[13])
    asked = len(krx.exchange.calls)
    with pytest.raises(SourceBlocked):
        source.fetch("price", market.sessions[13], market.sessions[13])
    assert len(krx.exchange.calls) == asked


def test_without_an_account_nothing_is_sent(krx, market):
    source = krx.make({})
    assert [need.what for need in source.needs()] == ["KRX_ID and KRX_PW are not set"]
    assert [need.what for need in krx.make({"KRX_ID": "kim"}).needs()] == ["KRX_PW is not set"]
    with pytest.raises(CredentialRefused, match="pykrx: KRX_ID and KRX_PW are not set"):
        source.fetch("price", market.sessions[12], market.sessions[12])
    assert krx.exchange.calls == []
    assert krx.make().needs() == []


# The library


def test_a_missing_package_is_named_with_the_way_to_get_it(krx, market, monkeypatch):
    monkeypatch.setattr(pykrx_library.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "pykrx", None)
    for name in [name for name in sys.modules if name.startswith("pykrx.")]:
        monkeypatch.delitem(sys.modules, name)
    pykrx_library._parts.cache_clear()
    source = krx.make()
    assert [(need.what, need.fix.split(",")[0]) for need in source.needs()] == [
        ("the package pykrx is not installed", "pip install 'kstock-batch[krx]'")
    ]
    with pytest.raises(
        SourceUnreachable, match=r"pykrx cannot be imported: .*\n  fix: pip install 'kstock-batch\[krx\]'"
    ):
        source.fetch("price", market.sessions[12], market.sessions[12])
    pykrx_library._parts.cache_clear()


def test_an_answer_cut_short_is_asked_for_again(krx, market):
    krx.fail(fake.PRICES, CUT_SHORT, times=1)
    source = krx.make()
    assert source.fetch("price", market.sessions[12], market.sessions[12]).height > 50
    assert source.n_calls == 3 + 2


def test_a_night_costs_fifteen_calls_and_none_is_of_one_ticker(krx, market):
    source, session = krx.make(), market.sessions[12]
    for dataset in source.offers:
        source.fetch(dataset, session, session)
    assert source.n_calls == len(krx.exchange.calls) == 15
    assert not any("isuCd" in call.form for call in krx.exchange.calls)


_WALK = """
import os, sys
from datetime import date
from pathlib import Path
from kstock_batch.ingest.sources.pykrx import SITE, Pykrx
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.settings import Settings

url, folder, day = sys.argv[1], Path(sys.argv[2]), date.fromisoformat(sys.argv[3])
session = PoliteSession("pykrx", SourceState(folder), Limits(min_interval_s=0), redirect={SITE: url})
source = Pykrx(Settings(pykrx_url=url), session, os.environ)
assert source.needs() == [] and "pykrx" not in sys.modules
n_rows = [source.fetch(dataset, day, day).height for dataset in source.offers]
loaded = [name for name in ("matplotlib", "pykrx", "pykrx.stock") if name in sys.modules]
account = [os.environ["KRX_ID"], os.environ["KRX_PW"]]
Path(sys.argv[2], "told").write_text(repr((all(n_rows), source.n_calls, loaded, account)))
"""


def test_import_and_use_print_nothing_load_no_matplotlib_and_send_only_what_is_counted(krx, market, tmp_path):
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)} | fake.ACCOUNT
    done = subprocess.run(
        [sys.executable, "-c", _WALK, krx.exchange.url, str(tmp_path), str(market.sessions[12])],
        env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "told").read_text() == repr((True, 15, [], list(fake.ACCOUNT.values())))
    assert len(krx.exchange.calls) == 15
    assert not list(tmp_path.rglob("*matplotlib*"))
