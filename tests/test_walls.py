"""What shuts us out is recognised by its body, and nothing else is taken for it: a false alarm costs a day."""

from __future__ import annotations

import io

import pytest
import requests

from fake_exchange.server import (
    BLOCK_PAGE,
    BLOCK_PAGE_403,
    BLOCK_PAGE_EUC_KR,
    CAPTCHA,
    CLOUDFLARE,
    FIREWALL,
    LOGIN_PAGE,
    LOGIN_REDIRECT,
    LOGIN_WALL,
    SERVER_ERROR,
    UNAUTHORIZED,
    Reply,
    Request,
)
from kstock_batch.ingest.web.walls import charset_of, is_under_repair, wall_in, wanted_kind

DATA = "https://data.krx.co.kr/comm/bldAttendant/getJsonData.cmd"
PAGE = "https://kind.krx.co.kr/corpgeneral/corpList.do"
LOGIN = "https://data.krx.co.kr/contents/MDC/COMS/client/view/login.jsp?site=mdc"


def answer(reply: Reply, url: str = PAGE, accept: str = "*/*") -> requests.Response:
    """Return a reply as requests hands it on."""
    response = requests.Response()
    response.status_code, response.raw = reply.status, io.BytesIO(reply.body)
    response.headers.update({"Content-Type": reply.content_type, **reply.headers})
    response.request = requests.Request("GET", url, headers={"Accept": accept}).prepare()
    return response


def of(fault, **how):
    return answer(fault(Request("GET", "/", {}, {}, {}), Reply(b"")), **how)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (BLOCK_PAGE, "a block page"),
        (BLOCK_PAGE_403, "a block page"),
        (BLOCK_PAGE_EUC_KR, "a block page"),
        (FIREWALL, "a firewall's page"),
        (CLOUDFLARE, "a page of Cloudflare"),
        (CAPTCHA, "a captcha"),
        (LOGIN_WALL, "a login wall"),
        (LOGIN_PAGE, "a login wall"),
        (LOGIN_REDIRECT, "a way to its login page"),
    ],
)
@pytest.mark.parametrize("url", [PAGE, DATA])
def test_a_wall_is_named_wherever_it_stands(fault, kind, url):
    assert wall_in(of(fault, url=url)) == kind


@pytest.mark.parametrize(
    "text",
    [
        "귀하의 IP는 차단되었습니다",
        "해당 IP(203.0.113.7)는 비정상적인 접속으로 보안정책에 의하여 차단되었습니다.",
        "비정상적인 접근이 감지되었습니다",
        "과도한 요청으로 서비스 이용이 일시적으로 제한되었습니다",
        "You have been blocked",
        "<h1>Access Denied</h1> You don't have permission. Reference #18.2f",
        "The requested URL was rejected. Please consult with your administrator.",
        "<html><title>Attention Required! | Cloudflare</title></html>",
        "error code: 1015",
        "<p>보안문자를 입력하세요</p>",
        "<div class='g-recaptcha'></div>",
        "\n  LOGOUT\n",
        "<p>세션이 만료되었습니다</p>",
        "<html><script>alert('비정상적인 접근입니다'); location.href = '/';</script><body></body></html>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
@pytest.mark.parametrize("status", [200, 403, 503])
def test_a_wall_is_recognised_by_its_words_whatever_its_status_and_charset(text, encoding, status):
    assert wall_in(answer(Reply(text.encode(encoding), status, "text/html")))


def test_a_message_in_json_of_being_shut_out_is_a_block():
    told = {"status": 400, "message": "해당 IP는 비정상적인 접속으로 보안정책에의하여 차단되었습니다.", "data": None}
    assert wall_in(answer(Reply.json(told, status=400), url=DATA)) == "a block message"


@pytest.mark.parametrize(
    ("url", "accept", "kind"),
    [
        (DATA, "*/*", "json"),
        (PAGE, "application/json", "json"),
        (PAGE, "text/csv", "csv"),
        ("https://a/b/listing.csv", "*/*", "csv"),
        ("https://a/b/marcap-2026.parquet", "*/*", "binary"),
    ],
)
def test_a_page_where_data_were_asked_for_is_a_wall(url, accept, kind):
    page = Reply.html("\n\n   <html><body>정보데이터시스템</body></html>")
    assert wall_in(answer(page, url, accept)) == f"a page where {kind} was asked for"
    assert wall_in(answer(Reply(page.body, 404, page.content_type), url, accept)) is None  # there is none: no wall
    assert wall_in(answer(Reply(page.body, 502, page.content_type), url, accept)) is None  # in trouble: no wall


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_that_is_a_page_is_a_wall_and_one_in_json_is_none(status):
    assert wall_in(answer(Reply(b"Forbidden", status, "text/plain"))) == (
        f"a refusal ({status}) that no program of its wrote"
    )
    assert wall_in(answer(Reply(b"", status, "text/plain")))
    assert wall_in(of(UNAUTHORIZED)) is None
    assert wall_in(answer(Reply(b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", status))) is None


@pytest.mark.parametrize(
    "sound",
    [
        Reply.json({"OutBlock_1": []}),
        Reply.json(
            {"OutBlock_1": [{"ISU_NM": "access denied"}, {"ISU_NM": "로그인이 필요"}, {"ISU_NM": "g-recaptcha"}]}
        ),
        Reply.json({"status": "020", "message": "요청 제한을 초과하였습니다"}),
        Reply(b""),
        Reply("Symbol,Name\n005930,보안관리\n".encode("cp949"), content_type="text/csv"),
        Reply("일자,사유\n2026-11-25,거래가 제한되는 종목\n".encode(), content_type="text/csv"),
        Reply(b"PAR1\0you have been blocked", content_type="application/octet-stream"),
        Reply.html("<table><tr><td>회사명</td></tr><tr><td>로그인시스템</td></tr></table>", encoding="cp949", says=""),
        Reply.html(
            "<script>if (!ok) alert('비정상적인 접근입니다');</script><table><td>" + "코스피" * 9 + "</td></table>"
        ),
        Reply.html("<!-- 접속이 차단되었습니다 --><table><td>" + "코스피" * 9 + "</td></table>"),
        Reply.html("<html><body><p>약관을 위반하면 서비스 이용이 제한됩니다</p></body></html>"),
        Reply.html(
            "<html><body>" + "<p>거래 제한</p>" * 20_000 + "접속이 차단되었습니다</body></html>"
        ),  # a whole list
    ],
)
def test_a_sound_answer_is_no_wall(sound):
    assert wall_in(answer(sound)) is None


def test_a_server_in_trouble_is_no_wall():
    assert wall_in(of(SERVER_ERROR, url=DATA, accept="application/json")) is None


def test_a_login_page_that_was_asked_for_is_no_wall_but_a_block_in_its_place_is():
    assert wall_in(of(LOGIN_PAGE, url=LOGIN)) is None
    assert wall_in(of(LOGIN_REDIRECT, url=LOGIN)) is None
    assert wall_in(of(BLOCK_PAGE, url=LOGIN)) == "a block page"


def test_a_captcha_may_be_part_of_a_login_page_that_was_asked_for():
    assert wall_in(of(CAPTCHA, url=LOGIN)) is None


@pytest.mark.parametrize("text", ["시스템 점검 중입니다", "서비스 정기 점검 안내", "The site is under maintenance"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
def test_a_page_that_tells_of_maintenance_is_no_wall_and_is_known(text, encoding):
    page = Reply.html(f"<html><body><h1>{text}</h1></body></html>", encoding=encoding, says="")
    assert wall_in(answer(page, DATA)) is None
    assert is_under_repair(answer(page, DATA))
    assert not is_under_repair(answer(page, PAGE))  # a page was asked for: what it says is the reader's to judge
    assert not is_under_repair(answer(Reply.json({"ISU_NM": text}), DATA))


def test_a_redirect_elsewhere_is_no_wall():
    assert wall_in(answer(Reply(b"", 302, headers={"Location": "https://kind.krx.co.kr/other.do"}))) is None


def test_what_is_wanted_is_told_by_the_accept_header_before_the_address():
    assert wanted_kind("application/json", "/a.csv") == "json"
    assert wanted_kind("text/html,application/json", "/a.html") is None
    assert wanted_kind("*/*", "/corpList.do") is None


@pytest.mark.parametrize(
    ("body", "content_type", "charset"),
    [
        ("코스피".encode(), "text/html", "utf-8"),
        ("코스피".encode("cp949"), "text/html", "cp949"),
        ("코스피".encode("cp949"), "text/html; charset=EUC-KR", "EUC-KR"),
        ("똠방각하".encode("cp949"), "text/html; charset=EUC-KR", "cp949"),  # a syllable that EUC-KR has not
        ("코스피".encode("cp949"), "text/html; charset=utf-8", "cp949"),  # says so and is not
        ("코스피".encode("cp949"), "text/html; charset=no-such", "cp949"),
        ("<meta charset='euc-kr'>코스피".encode("cp949"), "text/html", "euc-kr"),
        (b"\xff\xff\xff", "text/html", "latin-1"),
    ],
)
def test_a_korean_body_is_read_in_the_charset_that_reads_it(body, content_type, charset):
    assert charset_of(body, content_type) == charset


@pytest.mark.parametrize("piece", ["<", "<script>", "<!--", "<style", "접속 ", " ", "로그인", "ip", "<title>", "-->"])
def test_a_page_made_to_be_slow_to_search_is_searched_in_one_pass(piece):
    page = Reply.html("<" + piece * (190_000 // len(piece.encode())))
    assert wall_in(answer(page, PAGE)) is None  # the square of its length would take minutes
    assert not is_under_repair(answer(page, DATA))


def test_what_is_opened_and_never_closed_hides_what_follows_unless_nothing_precedes():
    table = "<table><td>" + "코스피" * 9 + "</td></table>"
    assert wall_in(answer(Reply.html(f"{table}<script>접속이 차단되었습니다"))) is None
    assert wall_in(answer(Reply.html(f"<script>1</script>{table}접속이 차단되었습니다"))) == "a block page"
    assert wall_in(answer(Reply.html("<!-- <script> 접속이 차단되었습니다"))) == "a block page"
