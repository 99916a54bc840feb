"""Recognises by its body an answer that shuts us out: a block page, a firewall's page, a captcha, a login wall.

The status tells nothing: such pages come with 200 as well as with 403. Their words do, and their form: a page where
data were asked for. Only pages and short texts are searched: no word in a table of stocks is a block.
"""

import re
from urllib.parse import urlsplit

import requests

LONGEST = 200_000  # bytes: such pages are short, and a whole list of companies is a page too at some sources
_LONGEST_TEXT = 2_000  # a message in JSON or plain text

_CAPTCHA = "a captcha"
_BLOCKS = {
    "a block page": r"(접속|접근|ip.{0,20}|아이피.{0,10})[이가은는을를]?\s*(일시적으로\s*)?(차단|제한)"
    r"\s*(되었|됐|하였|했|됩)"
    r"|이용이?\s*(일시적으로\s*)?(차단|제한)\s*(되었|됐)"
    r"|비정상적인\s*(접근|접속|요청)|과도한\s*(접속|요청|트래픽)"
    r"|you have been blocked|your ip (address )?(has been|is) blocked",
    "a firewall's page": r"web firewall security polic|웹\s?방화벽|request rejected|the requested url was rejected"
    r"|access denied|incapsula incident|_incapsula_resource|errors\.edgesuite\.net",
    "a page of Cloudflare": r"<title>just a moment|attention required! \| cloudflare|cf-browser-verification"
    r"|_cf_chl_opt|checking your browser|error code: 10\d\d|you are being rate limited",
    _CAPTCHA: r"자동\s?입력\s?방지|보안\s?문자를?\s*입력|로봇이 아닙니다|g-recaptcha|h-captcha|cf-turnstile"
    r"|id=.captcha|unusual traffic|verify (that )?you are (a )?human",
}
_LOGIN = r"\A\s*logout\s*\Z|로그인이\s*필요|로그인\s*(후|하신 후|하셔야)|세션이\s*(만료|종료)"
_LOGIN_PATH = re.compile(r"login|MDCCOMS001", re.IGNORECASE)
_WALLS = [(name, re.compile(words, re.IGNORECASE | re.DOTALL)) for name, words in _BLOCKS.items()]
_LOGIN_WALL = re.compile(_LOGIN, re.IGNORECASE)
_REPAIR = re.compile(r"(시스템|서비스|서버|정기|사이트)\s*(정기\s*)?점검|under maintenance", re.IGNORECASE)
# Many a sound page has «비정상적인 접근입니다» in a script, for a case that did not happen.
_UNSEEN = re.compile(r"<(!--|/?script\b|/?style\b)|(-->)", re.IGNORECASE)
_ENDS = {"!--": "-->", "script": "/script", "style": "/style"}
_FEWEST_WORDS = 20  # characters: a page that shows fewer says what it says in its script
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_-]+)", re.IGNORECASE)
_DATA = {"json": ("json",), "csv": ("csv",), "binary": ("octet-stream", "parquet", "zip")}
_DATA_PATHS = {
    "json": re.compile(r"(\.json|getJsonData\.cmd)$"),
    "csv": re.compile(r"\.csv$"),
    "binary": re.compile(r"\.(parquet|gz|zip|xz)$"),
}


def wall_in(response: requests.Response) -> str | None:
    """Return what kind of wall an answer is, as words for a sentence; None if it is none.

    ``response.content`` must have been read.
    """
    asked = response.request
    path = urlsplit(asked.url or "").path
    asks_login = bool(_LOGIN_PATH.search(path))
    if response.is_redirect:
        to_login = _LOGIN_PATH.search(urlsplit(response.headers["location"]).path)
        return "a way to its login page" if to_login and not asks_login else None
    body = response.content
    if kind := _wall_by_words(body, asks_login=asks_login):
        return kind
    is_page = is_markup(body)
    if response.status_code in (401, 403) and not is_data(body):
        return f"a refusal ({response.status_code}) that no program of its wrote"
    wanted = wanted_kind(str(asked.headers.get("Accept", "")), path)
    if wanted and is_page and response.ok and not is_under_repair(response):
        return f"a page where {wanted} was asked for"  # an error's page is what a server in trouble shows: no wall
    return None


def is_under_repair(response: requests.Response) -> bool:
    """Return whether a page in place of data says that the source is closed for maintenance: an hour, not a day."""
    asked, body = response.request, response.content
    wanted = wanted_kind(str(asked.headers.get("Accept", "")), urlsplit(asked.url or "").path)
    return wanted is not None and is_markup(body) and _REPAIR.search(_words_of(body)) is not None


def wanted_kind(accept: str, path: str) -> str | None:
    """Return "json", "csv" or "binary", by the Accept header or else by the address; None = anything may come."""
    for kind, names in _DATA.items():
        if any(name in accept for name in names):
            return None if "html" in accept else kind
    return next((kind for kind, pattern in _DATA_PATHS.items() if pattern.search(path)), None)


def is_markup(body: bytes) -> bool:
    """Return whether a body is a page; an XML document is none."""
    start = body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith(b"<") and not start.startswith(b"<?xml")


def is_data(body: bytes) -> bool:
    """Return whether a body begins as JSON or XML does: an answer made for programs."""
    return body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[", b"<?xml"))


def charset_of(body: bytes, content_type: str = "") -> str:
    """Return the charset that reads a body: the one its header or itself names, else UTF-8, else Korean's own.

    KRX's and KIND's older pages are EUC-KR; not all say so, and some that say so are not.
    """
    named = _CHARSET.search(content_type.encode("latin-1", "replace")) or _CHARSET.search(body[:2048])
    for charset in (named[1].decode() if named else "utf-8", "utf-8", "cp949"):
        try:
            body.decode(charset)
        except (UnicodeDecodeError, LookupError):
            continue
        return charset
    return "latin-1"  # which reads anything


def _wall_by_words(body: bytes, *, asks_login: bool) -> str | None:
    """Return the kind of wall whose words a page or a short message holds."""
    is_page = is_markup(body)
    if len(body) > (LONGEST if is_page else _LONGEST_TEXT) or b"\0" in body:
        return None
    text = _words_of(body)
    if is_data(body):  # its words may be anyone's name; only a message of being shut out counts
        return "a block message" if _WALLS[0][1].search(text) else None
    kind = next((kind for kind, words in _WALLS if words.search(text)), None)
    if kind == _CAPTCHA and asks_login:  # a part of some login pages, shown or not
        return None
    if kind is None and not asks_login and _LOGIN_WALL.search(text):
        return "a login wall"
    return kind


def _words_of(body: bytes) -> str:
    """Return a page without its scripts and comments; all of it if hardly anything else is there."""
    text = body.decode(charset_of(body))
    seen = _seen(text)
    return seen if len(re.sub(r"<[^<>]*>|\s", "", seen)) >= _FEWEST_WORDS else text


def _seen(text: str) -> str:
    """Return what is in no script, style or comment; in one pass, whatever is opened and never closed."""
    kept, at, until = [], 0, None
    for mark in _UNSEEN.finditer(text):
        word = (mark[1] or mark[2]).lower()
        if until is None and word in _ENDS:
            kept.append(text[at : mark.start()])
            until = _ENDS[word]
        elif word == until:
            at, until = mark.end(), None
    return "".join(kept) + ("" if until else text[at:])
