"""A session that is a good guest: every request of every source goes through it, whichever library sends it.

One request at a time and source over all processes, not too soon after the last, counted before it is sent. What is
worth it is tried again, with jitter and a bound: no connection, no answer in time, a connection that breaks, 429, 500,
502, 503, 504. A wall (a block page, a captcha, a login page) shuts the source for 24 hours, for every process.

    session = PoliteSession("krx", SourceState(settings.warehouse / "sources"), Limits(calls_a_day=10_000))
    rows = session.get(url, params={"basDd": "20261125"}, headers={"Accept": "application/json"}).json()

Say what you want in the Accept header ("application/json", "text/csv"): then a page in its place is a wall. Without
it the address tells (``….json``, ``….csv``, ``….parquet``, ``getJsonData.cmd``), or anything may come.

It raises our errors: SourceUnreachable, SourceBlocked, CredentialRefused (401 or 403 with JSON), BudgetSpent. Any other
answer, 404 and 400 included, is returned as it came, read to its end, with ``encoding`` set to the one that reads it.
"""

import logging
import re
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,
    ContentDecodingError,
    InvalidSchema,
    InvalidURL,
    MissingSchema,
    SSLError,
    Timeout,
    TooManyRedirects,
)
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError, ReadTimeoutError

from kstock_batch.errors import ConfigError, CredentialRefused, SourceUnreachable
from kstock_batch.ingest.web.addresses import is_secret, moved, shown
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.state import SourceState, Turn, utc_now
from kstock_batch.ingest.web.walls import charset_of, is_under_repair, wall_in
from kstock_batch.redaction import MASK, SHORTEST

WORTH_RETRYING = frozenset({429, 500, 502, 503, 504})
_BREAKS = (ConnectionError, Timeout, ChunkedEncodingError, ContentDecodingError, HTTPError, OSError)
_LONGEST_WISH_S = 24 * 3600.0
_PIECE = 1 << 16  # bytes
_LARGEST = 1 << 29  # bytes, unpacked: twenty times the largest file there is
_SECRET_HEADER = re.compile(r"key|token|auth|secret|cookie", re.IGNORECASE)
_NO_REDIRECT: Mapping[str, str] = MappingProxyType({})


class PoliteSession(requests.Session):
    """A requests session of one source; ``n_calls`` counts the requests it sent, retries and redirects included.

    Parameters
    ----------
    source : its name, which block, budget and pace are kept under
    state : what is shared with other processes
    redirect : beginnings of addresses that libraries have hard-wired, and where these are found instead
    sleep, now : of tests that cannot wait
    """

    def __init__(
        self,
        source: str,
        state: SourceState,
        limits: Limits,
        *,
        redirect: Mapping[str, str] = _NO_REDIRECT,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__()
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)  # its debug lines hold addresses with keys
        self.source = source
        self.redirect = dict(redirect)
        self._adapter = _PoliteAdapter(source, state, limits, sleep=sleep, now=now)
        self.mount("https://", self._adapter)
        self.mount("http://", self._adapter)

    @property
    def n_calls(self) -> int:
        """Requests sent, retries and redirects included."""
        return self._adapter.n_calls

    def request(self, method: str, url: str, **more: Any) -> requests.Response:  # type: ignore[override]  # passed on
        """Send a request, or raise one of our errors; no secret is in its text."""
        try:
            response = super().request(method, moved(url, self.redirect), **more)
        except (InvalidURL, InvalidSchema, MissingSchema):
            fix = "write the source's …_url in kstock.toml like https://host/path"
            raise ConfigError(f"{shown(url)!r} of {self.source} is no address", fix=fix) from None
        except TooManyRedirects:
            raise _unreachable(self.source, url, "it sends from one address to another without end") from None
        response.url = shown(str(response.url))  # which raise_for_status would quote, keys and all
        return response

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer sends us, which is moved like any address."""
        target = super().get_redirect_target(resp)
        return None if target is None else moved(target, self.redirect)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Take keys out of a request that a redirect sends to another host: requests knows only its own header."""
        super().rebuild_auth(prepared_request, response)
        if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
            for name in [name for name in prepared_request.headers if _SECRET_HEADER.search(name)]:
                del prepared_request.headers[name]


class _TryAgain(Exception):
    """What may go better the next time; its text says what happened."""


class _TooMuch(Exception):
    """An answer without end."""


class _PoliteAdapter(HTTPAdapter):
    """What sends: so that nothing, a redirect or a prepared request, goes around it."""

    def __init__(
        self,
        source: str,
        state: SourceState,
        limits: Limits,
        *,
        sleep: Callable[[float], None],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self.n_calls = 0
        self._source, self._state, self._limits = source, state, limits
        self._sleep, self._now = sleep, now

    def send(self, request: requests.PreparedRequest, *_: Any, **more: Any) -> requests.Response:
        """Send a request as often as it is worth it; ``timeout`` and ``stream`` are ours to say."""
        limits = self._limits
        retrying = Retrying(
            retry=retry_if_exception_type(_TryAgain),
            stop=stop_after_attempt(limits.attempts),
            wait=wait_exponential_jitter(limits.wait_s, limits.wait_max_s, jitter=limits.wait_s),
            sleep=self._sleep,
            reraise=True,
        )
        ways = {name: more[name] for name in ("verify", "cert", "proxies") if name in more}
        try:
            return retrying(self._send_once, request, ways)
        except _TryAgain as failed:
            times = f", {limits.attempts} times" if limits.attempts > 1 else ""
            raise _unreachable(self._source, str(request.url), f"{failed}{times}") from None

    def _send_once(self, request: requests.PreparedRequest, ways: Mapping[str, Any]) -> requests.Response:
        limits, before = self._limits, sys.exception()
        with self._state.turn(self._source, limits, now=self._now, sleep=self._sleep) as turn:
            self.n_calls += 1
            try:
                response = super().send(request, stream=True, timeout=limits.timeout_s, **ways)
                _read_whole(response, limits.answer_s)
            except _TooMuch as error:
                raise _unreachable(self._source, str(request.url), str(error)) from None
            except SSLError as error:  # no second attempt makes a certificate valid
                raise _unreachable(self._source, str(request.url), f"its certificate: {_told(error, before)}") from None
            except (Timeout, ReadTimeoutError):
                raise _TryAgain(f"nothing came within {limits.timeout_s:g} s") from None
            except _BREAKS as error:
                raise _TryAgain(_told(error, before)) from None
            self._judge(response, turn)
            return response

    def _judge(self, response: requests.Response, turn: Turn) -> None:
        """Raise what an answer means, if it is none to hand on."""
        url, status = shown(str(response.request.url)), response.status_code
        if wall := wall_in(response):
            raise turn.shut(f"{wall} came from {url}")
        if is_under_repair(response):
            raise _unreachable(self._source, url, "it says that it is closed for maintenance")
        if status in (401, 403):
            raise CredentialRefused(
                f"{self._source} refuses its key or login ({status}) at {url}: {_start_of(response)}",
                fix="see that the key or login is right, and that it was granted for this very service",
            )
        if status in WORTH_RETRYING:
            wish_s = _wish(response.headers.get("Retry-After", ""), self._now())
            if wish_s > 0:
                turn.postpone(wish_s)
            if wish_s > self._limits.wait_max_s:
                raise _unreachable(self._source, url, f"it answers {status} and asks to come back in {wish_s:,.0f} s")
            raise _TryAgain(f"it answers {status}")


def _read_whole(response: requests.Response, answer_s: float) -> None:
    """Read the body of an answer, within ``answer_s``; one that is cut short raises."""
    end = time.monotonic() + answer_s
    pieces: list[bytes] = []
    room = _LARGEST
    try:
        # read1 returns what is there, so that a body that drips meets the deadline; read would wait for a full piece.
        while piece := response.raw.read1(_PIECE, decode_content=True):
            pieces.append(piece)
            if (room := room - len(piece)) < 0:
                raise _TooMuch(f"an answer of over {_LARGEST:,} bytes")
            if time.monotonic() > end:
                raise OSError(f"the answer was not complete within {answer_s:g} s")
    except BaseException:
        response.close()
        raise
    response.raw.release_conn()
    response._content, response._content_consumed = b"".join(pieces), True
    if not response.content[:4096].count(0):
        response.encoding = charset_of(response.content, response.headers.get("Content-Type", ""))


def _wish(retry_after: str, now: datetime) -> float:
    """Return the seconds that a Retry-After header asks for: a number or a date; 0 = none that can be read."""
    try:
        wish = float(retry_after) if re.fullmatch(r"\d+", retry_after.strip()) else _until(retry_after, now)
    except ValueError:
        return 0.0
    return min(wish, _LONGEST_WISH_S)


def _until(http_date: str, now: datetime) -> float:
    return (parsedate_to_datetime(http_date) - now.replace(tzinfo=UTC)).total_seconds()


def _start_of(response: requests.Response) -> str:
    """Return how an answer begins, in one line, without the keys that were sent: some answers repeat them."""
    told = " ".join(response.text[:500].split())[:200]
    for secret in _secrets_of(response.request):
        told = told.replace(secret, MASK)
    return shown(told)


def _secrets_of(request: requests.PreparedRequest) -> list[str]:
    """Return what a request's headers, address and form hold that may be a key, the longest first."""
    headers = [str(value) for name, value in request.headers.items() if _SECRET_HEADER.search(name)]
    form = request.body.decode("utf-8", "replace") if isinstance(request.body, bytes) else str(request.body or "")
    given = parse_qsl(urlsplit(str(request.url)).query) + parse_qsl(form)
    found = headers + [value for name, value in given if is_secret(name)]
    return sorted((value for value in found if len(value) >= SHORTEST), key=len, reverse=True)


def _told(error: BaseException, before: BaseException | None) -> str:
    """Return the innermost cause in the system's own words: the outer ones repeat the address, keys and all.

    ``before`` is what the caller was already handling: no cause of this one.
    """
    while error.__context__ is not None and error.__context__ is not before:
        error = error.__context__
    return shown(getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _unreachable(source: str, url: str, why: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{source} gave no usable answer to {shown(url)}: {why}",
        fix="run the same command again when it answers: what was stored is not asked again",
    )
