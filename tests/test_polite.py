"""A polite session against a server that fails: what is tried again, how often, and what is never."""

from __future__ import annotations

import io
import logging
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
import requests

from fake_exchange.server import (
    BLOCK_PAGE,
    BLOCK_PAGE_EUC_KR,
    CAPTCHA,
    CLOSED,
    CLOUDFLARE,
    CUT_SHORT,
    FIREWALL,
    HALF_A_MARKET,
    HANG,
    HANG_IN_THE_MIDDLE,
    LOGIN_REDIRECT,
    LOGIN_WALL,
    PROVISIONAL_FLOWS,
    RESET,
    SERVER_ERROR,
    TOO_MANY,
    UNAUTHORIZED,
    FakeExchange,
    Reply,
    Request,
    changed,
    changed_column,
    replaced,
    too_many,
)
from kstock_batch.errors import (
    BudgetSpent,
    ConfigError,
    CredentialRefused,
    KStockError,
    SourceBlocked,
    SourceUnreachable,
)
from kstock_batch.ingest.web.addresses import moved, shown
from kstock_batch.ingest.web.detour import detour
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState

NIGHT = datetime(2026, 11, 25, 9, 31)
SHORT = {HANG: 0.25, HANG_IN_THE_MIDDLE: 0.25}  # seconds of waiting for what never comes
LIMITS = {"timeout_s": 5.0, "attempts": 4, "wait_s": 1.0, "wait_max_s": 60.0, "min_interval_s": 0.0, "answer_s": 5.0}
SECRET = "s3cr3t-of-the-exchange"
ROWS = {"OutBlock_1": [{"ISU_CD": f"{n:06}", "TDD_CLSPRC": f"{n:,}"} for n in range(1, 9)]}


class Clock:
    """A clock that only ``sleep`` and a test move."""

    def __init__(self) -> None:
        self.at, self.slept = NIGHT, []

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange() -> Iterator[FakeExchange]:
    with FakeExchange() as exchange:
        exchange.serve("/rows.json", Reply.json(ROWS))
        exchange.serve("/page.do", Reply.html("<table><tr><td>코스피</td></tr></table>", encoding="cp949", says=""))
        exchange.serve("/list.csv", Reply("Code,Name\n005930,삼성\n".encode(), content_type="text/plain"))
        yield exchange


@pytest.fixture
def make(tmp_path: Path, clock: Clock):
    made = []

    def make(source: str = "krx", redirect=None, **limits) -> PoliteSession:
        state = SourceState(tmp_path / "sources")
        told = Limits(**LIMITS | limits)
        made.append(
            PoliteSession(source, state, told, redirect=redirect or {}, sleep=clock.sleep, now=clock.now),
        )
        return made[-1]

    yield make
    for session in made:
        session.close()


@pytest.fixture
def session(make) -> PoliteSession:
    return make()


# What is tried again


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (CLOSED, "Remote end closed connection without response"),
        (RESET, "Connection reset by peer"),
        (CUT_SHORT, "IncompleteRead"),
        (HANG, "nothing came within 0.25 s"),
        (HANG_IN_THE_MIDDLE, "nothing came within 0.25 s"),
        (SERVER_ERROR, "it answers 503"),
        (TOO_MANY, "it answers 429"),
        *((changed(status=status), f"it answers {status}") for status in (500, 502, 504)),
    ],
)
def test_what_may_go_better_is_tried_a_bounded_number_of_times(make, exchange, clock, fault, says):
    session = make(timeout_s=SHORT.get(fault, 5.0))
    exchange.fail("/rows.json", fault, times=3)
    assert session.get(f"{exchange.url}/rows.json").json() == ROWS
    assert (len(exchange.calls), session.n_calls) == (4, 4)

    exchange.fail("/rows.json", fault)
    with pytest.raises(SourceUnreachable) as caught:
        session.get(f"{exchange.url}/rows.json")
    assert (len(exchange.calls), session.n_calls) == (8, 8)
    assert str(caught.value).startswith(f"krx gave no usable answer to {exchange.url}/rows.json: {says}")
    assert str(caught.value).endswith(
        ", 4 times\n  fix: run the same command again when it answers: what was stored is not asked again"
    )
    assert len(clock.slept) == 6


def test_waits_grow_have_jitter_and_stay_below_their_bound(make, exchange, clock):
    exchange.fail("/rows.json", SERVER_ERROR)
    with pytest.raises(SourceUnreachable):
        make(attempts=8, wait_max_s=20.0).get(f"{exchange.url}/rows.json")
    assert len(clock.slept) == 7
    for n, wait in enumerate(clock.slept):
        assert min(2**n, 20) <= wait <= min(2**n + 1, 20)
    assert any(wait != int(wait) for wait in clock.slept[:4])


def test_a_connection_that_nobody_takes_is_told_in_the_systems_words(session):
    with FakeExchange() as gone:
        url = gone.url
    with pytest.raises(SourceUnreachable, match="Connection refused, 4 times"):
        session.get(f"{url}/rows.json")
    assert session.n_calls == 4


def test_the_cause_is_its_own_and_not_what_the_caller_was_handling(session):
    with FakeExchange() as gone:
        url = gone.url
    try:
        raise ValueError("another trouble")
    except ValueError:
        with pytest.raises(SourceUnreachable, match="Connection refused"):
            session.get(f"{url}/rows.json")


def test_a_body_that_drips_is_no_answer(make, exchange):
    exchange.fail("/rows.json", changed(body=b"[" + b" " * 100_000 + b"]", drip_s=0.02))  # for half an hour
    with pytest.raises(SourceUnreachable, match=r"the answer was not complete within 0\.1 s, 2 times"):
        make(answer_s=0.1, attempts=2).get(f"{exchange.url}/rows.json")
    assert len(exchange.calls) == 2


@pytest.mark.parametrize("status", [400, 404, 405, 410, 422])
def test_what_is_our_mistake_is_not_tried_again_but_handed_on(session, exchange, clock, status):
    exchange.fail("/rows.json", changed(status=status))
    assert session.get(f"{exchange.url}/rows.json").status_code == status
    assert (len(exchange.calls), clock.slept) == (1, [])


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_tried_again_and_names_the_service(session, exchange, status):
    exchange.fail("/rows.json", changed(status=status, body=b'{"respMsg": "Unauthorized API Call"}'))
    with pytest.raises(CredentialRefused) as caught:
        session.get(f"{exchange.url}/rows.json")
    assert str(caught.value) == (
        f'krx refuses its key or login ({status}) at {exchange.url}/rows.json: {{"respMsg": "Unauthorized API Call"}}\n'
        "  fix: see that the key or login is right, and that it was granted for this very service"
    )
    assert len(exchange.calls) == 1
    exchange.heal()
    assert session.get(f"{exchange.url}/rows.json").ok  # one service's refusal shuts no other


def test_a_certificate_that_is_not_valid_is_not_tried_again(session, monkeypatch):
    def refused(*_, **__):
        raise requests.exceptions.SSLError("wrapped") from ssl.SSLCertVerificationError(1, "certificate has expired")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refused)
    with pytest.raises(SourceUnreachable, match="its certificate: "):
        session.get("https://127.0.0.1:1/rows.json")
    assert session.n_calls == 1


@pytest.mark.parametrize("url", ["data.krx.co.kr/a", "ftp://data.krx.co.kr/a", "http://"])
def test_an_address_that_is_none_is_a_mistake_in_the_settings(session, url):
    with pytest.raises(ConfigError) as caught:
        session.get(url)
    assert str(caught.value) == (
        f"{url!r} of krx is no address\n  fix: write the source's …_url in kstock.toml like https://host/path"
    )


# Retry-After


def test_a_wish_to_come_back_later_is_granted(session, exchange, clock):
    exchange.fail("/rows.json", too_many("37"), times=1)
    assert session.get(f"{exchange.url}/rows.json").ok
    assert clock.at >= NIGHT + timedelta(seconds=37)
    assert len(exchange.calls) == 2


def test_a_wish_may_be_a_date(session, exchange, clock):
    exchange.fail("/rows.json", too_many("Wed, 25 Nov 2026 09:31:45 GMT"), times=1)
    assert session.get(f"{exchange.url}/rows.json").ok
    assert clock.at >= NIGHT + timedelta(seconds=45)


@pytest.mark.parametrize("wish", ["soon", "-5", "0", "Wed, 25 Nov 2020 09:31:45 GMT", ""])
def test_a_wish_that_cannot_be_read_or_is_over_waits_as_usual(session, exchange, clock, wish):
    exchange.fail("/rows.json", too_many(wish), times=1)
    assert session.get(f"{exchange.url}/rows.json").ok
    assert clock.at <= NIGHT + timedelta(seconds=2)


def test_a_wish_that_is_too_long_ends_the_attempts_and_holds_for_everyone_until_it_is_over(make, exchange, clock):
    exchange.fail("/rows.json", too_many("600"), times=1)
    with pytest.raises(SourceUnreachable, match="it answers 429 and asks to come back in 600 s"):
        make().get(f"{exchange.url}/rows.json")
    with pytest.raises(SourceUnreachable, match="krx asked to be left alone until 2026-11-25 09:41:00 UTC"):
        make().get(f"{exchange.url}/rows.json")
    assert (len(exchange.calls), clock.slept) == (1, [])
    clock.at += timedelta(seconds=600)
    assert make().get(f"{exchange.url}/rows.json").ok


def test_a_wish_of_years_is_one_of_a_day(session, exchange, clock):
    exchange.fail("/rows.json", too_many("99999999999"), times=1)
    with pytest.raises(SourceUnreachable, match="in 86,400 s"):
        session.get(f"{exchange.url}/rows.json")


# Walls


@pytest.mark.parametrize(
    "fault", [BLOCK_PAGE, BLOCK_PAGE_EUC_KR, FIREWALL, CLOUDFLARE, CAPTCHA, LOGIN_WALL, LOGIN_REDIRECT]
)
@pytest.mark.parametrize("path", ["/rows.json", "/page.do"])
def test_one_wall_is_one_request_in_24_hours(make, exchange, clock, fault, path):
    exchange.fail("/*", fault)
    for hours in (0, 1, 12, 22):
        clock.at = NIGHT + timedelta(hours=hours)
        for session in (make(), make()):
            with pytest.raises(SourceBlocked):
                session.get(exchange.url + path)
            with pytest.raises(SourceBlocked):
                session.post(f"{exchange.url}/other.do", data={"a": "1"})
    assert len(exchange.calls) == 1
    assert clock.slept == []
    clock.at = NIGHT + timedelta(hours=24)
    exchange.heal()
    assert make().get(exchange.url + path).ok


def test_a_block_on_a_server_in_trouble_is_not_tried_again(session, exchange):
    exchange.fail("/rows.json", BLOCK_PAGE, times=1)
    exchange.fail("/rows.json", SERVER_ERROR)
    with pytest.raises(SourceBlocked, match="a block page came from http://127"):
        session.get(f"{exchange.url}/rows.json")
    assert len(exchange.calls) == 1


def test_a_wall_met_on_the_second_attempt_ends_the_attempts(session, exchange):
    exchange.fail("/rows.json", SERVER_ERROR, times=1)
    exchange.fail("/rows.json", CLOUDFLARE)
    with pytest.raises(SourceBlocked, match="a page of Cloudflare"):
        session.get(f"{exchange.url}/rows.json")
    assert len(exchange.calls) == 2


def test_a_page_where_json_was_asked_for_is_a_wall_and_elsewhere_an_answer(make, exchange):
    assert make().get(f"{exchange.url}/page.do").text == "<table><tr><td>코스피</td></tr></table>"
    with pytest.raises(SourceBlocked, match="a page where json was asked for came from"):
        make().get(f"{exchange.url}/page.do", headers={"Accept": "application/json"})


def test_maintenance_shuts_nothing_and_is_not_tried_again(session, exchange):
    exchange.fail("/rows.json", replaced(Reply.html("<html><body>서비스 점검 중입니다</body></html>")), times=1)
    with pytest.raises(SourceUnreachable, match="it says that it is closed for maintenance"):
        session.get(f"{exchange.url}/rows.json")
    assert session.get(f"{exchange.url}/rows.json").json() == ROWS
    assert len(exchange.calls) == 2


def test_an_answer_without_end_is_not_kept_nor_asked_for_again(session, exchange, monkeypatch):
    monkeypatch.setattr("kstock_batch.ingest.web.polite._LARGEST", 100)
    with pytest.raises(SourceUnreachable, match="an answer of over 100 bytes"):
        session.get(f"{exchange.url}/rows.json")
    assert len(exchange.calls) == 1


def test_a_ring_of_redirects_ends(make, exchange):
    exchange.serve("/ring", Reply(b"", 302, headers={"Location": "/ring"}))
    with pytest.raises(BudgetSpent):
        make(calls_a_day=9).get(f"{exchange.url}/ring")
    with pytest.raises(SourceUnreachable, match="it sends from one address to another without end"):
        make("fdr").get(f"{exchange.url}/ring")
    assert len(exchange.calls) == 9 + 31


def test_a_prepared_request_does_not_go_around_a_block(session, exchange):
    exchange.fail("/rows.json", BLOCK_PAGE)
    asked = requests.Request("GET", f"{exchange.url}/rows.json").prepare()
    for _ in range(3):
        with pytest.raises(SourceBlocked):
            session.send(asked)
    assert len(exchange.calls) == 1


# Budget and pace


def test_retries_and_redirects_count_in_the_budget(make, exchange):
    exchange.serve("/old", Reply(b"", 301, headers={"Location": "/rows.json"}))
    exchange.fail("/rows.json", SERVER_ERROR, times=2)
    session = make(calls_a_day=5)
    assert session.get(f"{exchange.url}/old").json() == ROWS
    assert session.n_calls == len(exchange.calls) == 4
    exchange.fail("/rows.json", SERVER_ERROR)
    with pytest.raises(BudgetSpent):
        session.get(f"{exchange.url}/rows.json")
    assert session.n_calls == len(exchange.calls) == 5


def test_ten_thousand_calls_a_day_are_ten_thousand(make, exchange, clock, tmp_path):
    session = make(calls_a_day=10_000)
    session.get(f"{exchange.url}/rows.json")
    path = tmp_path / "sources" / "krx.calls.json"
    path.write_text(path.read_text().replace('"2026-11-25": 1', '"2026-11-25": 9999'))
    session.get(f"{exchange.url}/rows.json")
    with pytest.raises(BudgetSpent, match="today's 10,000 calls of krx are used up"):
        session.get(f"{exchange.url}/rows.json")
    assert len(exchange.calls) == 2


def test_a_source_is_asked_no_faster_than_agreed(make, exchange, clock):
    for session in (make(min_interval_s=0.5), make(min_interval_s=0.5)):
        session.get(f"{exchange.url}/rows.json")
        session.get(f"{exchange.url}/rows.json")
    assert clock.slept == [0.5, 0.5, 0.5]


# Secrets


def everywhere(error: BaseException) -> str:
    """Return all that a traceback, with its causes, would show."""
    import traceback

    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("fault", [CLOSED, RESET, HANG, SERVER_ERROR, BLOCK_PAGE, UNAUTHORIZED, too_many("900")])
def test_a_key_in_an_address_a_header_or_a_form_is_in_no_error_no_file_and_no_log(
    make, exchange, fault, caplog, tmp_path
):
    session = make(timeout_s=SHORT.get(fault, 5.0))
    caplog.set_level(logging.DEBUG)
    exchange.fail("/rows.json", fault)
    with pytest.raises(KStockError) as caught:
        session.post(
            f"{exchange.url}/rows.json?crtfc_key={SECRET}&bgn_de=20261125",
            headers={"AUTH_KEY": SECRET},
            data={"mbrId": "me", "pw": SECRET},
        )
    assert SECRET not in everywhere(caught.value)
    assert SECRET not in caplog.text
    assert all(SECRET not in path.read_text() for path in (tmp_path / "sources").iterdir())
    assert exchange.calls[0].headers["auth_key"] == SECRET  # it was sent


def test_a_key_that_a_library_quotes_in_its_error_is_masked(session, monkeypatch):
    def quoting(*_, **__):
        raise requests.exceptions.ConnectionError(f"Max retries exceeded with url: /rows.json?crtfc_key={SECRET}&x=1")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", quoting)
    with pytest.raises(SourceUnreachable, match=r"with url: /rows\.json\?crtfc_key=\*\*\*&x=1, 4 times") as caught:
        session.get("http://127.0.0.1:1/rows.json")
    assert SECRET not in everywhere(caught.value)


@pytest.mark.parametrize("how", ["query", "header", "form"])
def test_a_key_that_an_answer_repeats_is_masked(session, exchange, how):
    exchange.fail("/rows.json", replaced(Reply.json({"message": f"no such key: {SECRET}"}, status=401)))
    given = {
        "query": {"params": {"serviceKey": SECRET}},
        "header": {"headers": {"AUTH_KEY": SECRET}},
        "form": {"data": {"pw": SECRET}},
    }
    with pytest.raises(CredentialRefused, match=r"no such key: \*\*\*") as caught:
        session.post(f"{exchange.url}/rows.json", **given[how])
    assert SECRET not in everywhere(caught.value)


def test_the_address_of_an_answer_holds_no_key(session, exchange):
    exchange.fail("/rows.json", changed(status=404))
    answer = session.get(f"{exchange.url}/rows.json", params={"crtfc_key": SECRET})
    with pytest.raises(requests.HTTPError, match="404") as caught:
        answer.raise_for_status()
    assert SECRET not in str(caught.value)


def test_a_redirect_to_another_host_takes_no_key_along(session, exchange):
    with FakeExchange() as other:
        other.serve("/rows.json", Reply.json(ROWS))
        exchange.serve("/old", Reply(b"", 302, headers={"Location": f"{other.url}/rows.json"}))
        exchange.serve("/moved", Reply(b"", 302, headers={"Location": "/rows.json"}))
        sent = {"AUTH_KEY": SECRET, "Authorization": SECRET, "X-Requested-With": "XMLHttpRequest"}
        assert session.get(f"{exchange.url}/old", headers=sent).json() == ROWS
        assert SECRET not in str(other.calls[0].headers)
        assert other.calls[0].headers["x-requested-with"] == "XMLHttpRequest"
        session.get(f"{exchange.url}/moved", headers=sent)
        assert exchange.calls[-1].headers["auth_key"] == SECRET  # the same host: it is needed


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://a/b?crtfc_key=abc&x=1", "https://a/b?crtfc_key=***&x=1"),
        ("https://a/b?x=1&apikey=abc#f", "https://a/b?x=1&apikey=***#f"),
        ("https://a/b?AUTH_KEY=a%20b", "https://a/b?AUTH_KEY=***"),
        ("https://me:word@a/b", "https://***@a/b"),
        ("https://a/b?basDd=20261125&keyword", "https://a/b?basDd=20261125&keyword"),
        ("no address", "no address"),
    ],
)
def test_an_address_is_shown_without_its_keys(text, clean):
    assert shown(text) == clean


# Addresses that libraries have hard-wired

PLACES = {"https://data.krx.co.kr": "http://127.0.0.1:1", "https://raw.githubusercontent.com/a/b": "http://local/c/"}


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://data.krx.co.kr/comm/a.cmd?x=1", "http://127.0.0.1:1/comm/a.cmd?x=1"),
        ("http://data.krx.co.kr/comm/a.cmd", "http://127.0.0.1:1/comm/a.cmd"),  # FinanceDataReader's older addresses
        ("HTTPS://DATA.krx.co.kr?x", "http://127.0.0.1:1?x"),
        ("https://data.krx.co.kr", "http://127.0.0.1:1"),
        ("https://data.krx.co.kr.evil.example/a", "https://data.krx.co.kr.evil.example/a"),
        ("https://data.krx.co.kr:444/a", "https://data.krx.co.kr:444/a"),
        ("https://raw.githubusercontent.com/a/b/refs/x.csv", "http://local/c/refs/x.csv"),
        ("https://raw.githubusercontent.com/a/bc/x.csv", "https://raw.githubusercontent.com/a/bc/x.csv"),
        ("https://else/where", "https://else/where"),
    ],
)
def test_a_hard_wired_address_is_moved_by_its_beginning(url, found):
    assert moved(url, PLACES) == found


def test_of_two_beginnings_the_longer_one_counts():
    assert moved("https://a/b/c", {"https://a": "http://1", "https://a/b": "http://2"}) == "http://2/c"


def test_a_hard_wired_https_address_is_asked_where_the_settings_say(make, exchange):
    session = make(redirect={"https://data.krx.co.kr": exchange.url})
    assert session.get("https://data.krx.co.kr/rows.json").json() == ROWS
    exchange.serve("/old", Reply(b"", 302, headers={"Location": "https://data.krx.co.kr/rows.json"}))
    assert session.get("https://data.krx.co.kr/old").json() == ROWS
    assert [asked.path for asked in exchange.calls] == ["/rows.json", "/old", "/rows.json"]


def test_cookies_of_a_login_come_back_to_where_it_was(make, exchange):
    exchange.serve("/login", Reply.json({}, headers={"Set-Cookie": "JSESSIONID=abc; Path=/"}))
    session = make(redirect={"https://data.krx.co.kr": exchange.url})
    session.post("https://data.krx.co.kr/login")
    session.get("https://data.krx.co.kr/rows.json")
    assert exchange.calls[-1].headers["cookie"] == "JSESSIONID=abc"


# What libraries fetch by themselves


def test_requests_of_a_library_go_through_the_session(make, exchange):
    session = make(redirect={"https://data.krx.co.kr": exchange.url}, calls_a_day=3)
    exchange.serve("/login", Reply.json({}, headers={"Set-Cookie": "JSESSIONID=abc; Path=/"}))
    with detour(session):
        assert requests.get("http://data.krx.co.kr/rows.json", headers={"Referer": "x"}, timeout=3).json() == ROWS
        with requests.Session() as library:
            library.headers["Referer"] = "y"
            library.post("https://data.krx.co.kr/login", data={"mbrId": "me"})
            assert library.cookies["JSESSIONID"] == "abc"
            assert library.get("https://data.krx.co.kr/rows.json").json() == ROWS
            with pytest.raises(BudgetSpent):
                library.get("https://data.krx.co.kr/rows.json")
    assert session.n_calls == len(exchange.calls) == 3
    assert exchange.calls[0].headers["referer"] == "x"
    assert exchange.calls[1].form == {"mbrId": "me"}
    assert exchange.calls[1].headers["referer"] == "y"


def test_what_pandas_reads_by_its_address_goes_through_the_session(make, exchange):
    session = make(redirect={"https://raw.githubusercontent.com/a/b": exchange.url})
    with detour(session):
        read = pd.read_csv("https://raw.githubusercontent.com/a/b/list.csv", dtype={"Code": str})
        assert read.to_dict("list") == {"Code": ["005930"], "Name": ["삼성"]}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            pd.read_csv("https://raw.githubusercontent.com/a/b/absent.csv")
        exchange.fail("/list.csv", SERVER_ERROR, times=2)
        assert len(pd.read_csv("https://raw.githubusercontent.com/a/b/list.csv")) == 1
        exchange.fail("/list.csv", BLOCK_PAGE)
        for _ in range(3):
            with pytest.raises(SourceBlocked):
                pd.read_csv("https://raw.githubusercontent.com/a/b/list.csv")
    assert session.n_calls == len(exchange.calls) == 6


def test_a_packed_answer_reaches_pandas_unpacked_once(make, exchange):
    import gzip

    packed = gzip.compress(b"Code\n005930\n")
    exchange.serve("/zipped.csv", Reply(packed, content_type="text/plain", headers={"Content-Encoding": "gzip"}))
    exchange.serve("/file.csv.gz", Reply(packed, content_type="application/gzip"))
    with detour(make()):
        for name in ("zipped.csv", "file.csv.gz"):
            assert pd.read_csv(f"{exchange.url}/{name}", dtype=str)["Code"].tolist() == ["005930"]


def test_a_detour_opens_no_file_and_no_other_scheme(make, tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    with detour(make()):
        for url in ((tmp_path / "a.csv").as_uri(), "ftp://127.0.0.1/a.csv"):
            with pytest.raises(urllib.error.URLError, match="unknown url type"):
                urllib.request.urlopen(url)


def test_after_a_detour_everything_is_as_it_was_even_if_it_failed(make, exchange):
    request, opener = requests.Session.request, urllib.request._opener
    with pytest.raises(RuntimeError), detour(make()):
        raise RuntimeError
    assert requests.Session.request is request
    assert urllib.request._opener is opener
    assert requests.get(f"{exchange.url}/rows.json", timeout=5).json() == ROWS


def test_detours_within_detours_end_one_by_one(make, exchange):
    outer, inner = make("fdr"), make("kind")
    with detour(outer):
        with detour(inner):
            requests.get(f"{exchange.url}/rows.json", timeout=5)
        requests.get(f"{exchange.url}/rows.json", timeout=5)
    assert (outer.n_calls, inner.n_calls) == (1, 1)


# The fake exchange itself


def asked(path: str = "/rows.json") -> Request:
    return Request("GET", path, {}, {}, {})


def test_the_fake_exchange_tells_what_it_was_asked(session, exchange):
    session.post(f"{exchange.url}/rows.json?basDd=20261125&empty=", data={"bld": "a/b", "mktId": "STK"})
    call = exchange.calls[0]
    assert (call.method, call.path, call.query) == ("POST", "/rows.json", {"basDd": "20261125", "empty": ""})
    assert call.form == {"bld": "a/b", "mktId": "STK"}
    assert exchange.n_calls("/rows.json") == 1
    assert exchange.n_calls("/other*") == 0


def test_a_fault_strikes_where_when_and_as_often_as_it_was_told(session, exchange):
    exchange.fail("/rows.json", changed(status=404), times=1, when=lambda request: request.query.get("day") == "2")
    told = [session.get(f"{exchange.url}/rows.json?day={day}").status_code for day in (1, 2, 2, 3)]
    assert told == [200, 404, 200, 200]


def test_a_handler_that_raises_is_the_tests_mistake(make):
    def wrong(request):
        raise KeyError("no such column")

    with pytest.raises(KeyError, match="no such column"), FakeExchange() as exchange:
        exchange.serve("/a", wrong)
        with pytest.raises(SourceUnreachable):
            make(attempts=1).get(f"{exchange.url}/a")


def test_ready_made_faults_of_data_do_what_they_say():
    rows = Reply.json({"OutBlock_1": [{"A": "1", "NETBID_TRDVAL": "-1,000"}, {"A": "2", "NETBID_TRDVAL": "10"}]})
    half = HALF_A_MARKET(asked(), rows)
    assert half == Reply.json({"OutBlock_1": [{"A": "1", "NETBID_TRDVAL": "-1,000"}]})
    assert b'"B": "1"' in changed_column("A", "B")(asked(), rows).body
    assert b'"-900"' in PROVISIONAL_FLOWS(asked(), rows).body
    csv = Reply(b"A,C\n1,2\n3,4\n")
    assert HALF_A_MARKET(asked(), csv).body == b"A,C\n1,2\n"
    assert pd.read_csv(io.BytesIO(changed_column("A", "B")(asked(), csv).body)).columns.tolist() == ["B", "C"]
