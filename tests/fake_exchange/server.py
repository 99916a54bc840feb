"""A fake exchange on a free port of loopback: it answers what a test told it to, and fails as a test told it to.

    with FakeExchange() as exchange:
        exchange.serve("/sto/stk_bydd_trd", lambda asked: Reply.json({"OutBlock_1": rows(asked.query["basDd"])}))
        exchange.fail("/sto/stk_bydd_trd", SERVER_ERROR, times=2)           # then it answers again
        exchange.fail("/sto/*", BLOCK_PAGE, when=lambda asked: asked.query["basDd"] == "20261125")
        ... Settings(krx_url=exchange.url) ...
        assert len(exchange.calls) == 3

A handler that raises is the test's mistake: leaving the ``with`` raises it again.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What was asked. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    form: dict[str, str]
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes
    ----------
    delay_s : seconds before the first byte
    stops_at : how many bytes of the body are sent, though the header promises all; None = all of them
    stop : what comes then: "hang" (nothing, until the client leaves), "close", or "reset"
    drip_s : seconds between one byte of the body and the next; 0 = all at once
    """

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0
    stops_at: int | None = None
    stop: str = "hang"
    drip_s: float = 0

    @classmethod
    def json(cls, value: object, **more: Any) -> Reply:
        return cls(json.dumps(value, ensure_ascii=False).encode(), **more)

    @classmethod
    def html(cls, text: str, *, encoding: str = "utf-8", says: str | None = None, **more: Any) -> Reply:
        """Return a page; ``says`` is the charset its header names: None = the true one, "" = none."""
        charset = encoding if says is None else says
        kind = f"text/html; charset={charset}" if charset else "text/html"
        return cls(text.encode(encoding), content_type=kind, **more)


Handler = Callable[[Request], Reply]
Fault = Callable[[Request, Reply], Reply | None]  # None = the connection is closed without an answer


@dataclass
class _Planned:
    path: str
    fault: Fault
    times: int | None
    when: Callable[[Request], bool]

    def strikes(self, asked: Request) -> bool:
        return self.times != 0 and fnmatchcase(asked.path, self.path) and self.when(asked)


class FakeExchange:
    """The server; use it as a context manager. ``calls`` is what it was asked, in order."""

    def __init__(self) -> None:
        self.calls: list[Request] = []
        self.mistakes: list[Exception] = []
        self._handlers: dict[str, Handler] = {}
        self._planned: list[_Planned] = []
        self._mutex = threading.Lock()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.exchange = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeExchange:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self.mistakes:
            raise self.mistakes[0]

    def serve(self, path: str, handler: Handler | Reply) -> None:
        """Answer ``path`` (or a pattern like ``/sto/*``) by ``handler``; the last one given for a path counts."""
        self._handlers[path] = handler if callable(handler) else lambda _: handler

    def fail(
        self,
        path: str,
        fault: Fault,
        *,
        times: int | None = None,
        when: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        """Spoil the next ``times`` answers of ``path`` (None = all) to requests of which ``when`` is true."""
        self._planned.append(_Planned(path, fault, times, when))

    def heal(self) -> None:
        """Forget every fault."""
        self._planned.clear()

    def n_calls(self, path: str = "*") -> int:
        """Return how often ``path`` was asked."""
        return sum(fnmatchcase(asked.path, path) for asked in list(self.calls))

    def _answer(self, asked: Request) -> Reply | None:
        with self._mutex:
            self.calls.append(asked)
            planned = next((plan for plan in self._planned if plan.strikes(asked)), None)
            if planned and planned.times is not None:
                planned.times -= 1
        reply = self._handler(asked.path)(asked)
        return planned.fault(asked, reply) if planned else reply

    def _handler(self, path: str) -> Handler:
        exact = self._handlers.get(path)
        patterns = (handler for pattern, handler in self._handlers.items() if fnmatchcase(path, pattern))
        return exact or next(patterns, lambda _: Reply.json({"error": f"no {path} here"}, status=404))


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one that hangs must not keep the tests
    exchange: FakeExchange

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that leaves early is what many tests are about."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        exchange = self.server.exchange
        try:
            reply = exchange._answer(self._asked())
        except Exception as error:
            exchange.mistakes.append(error)
            reply = Reply.json({"error": repr(error)}, status=500)
        if reply is None:
            self.close_connection = True
            return
        if reply.delay_s:
            exchange._over.wait(reply.delay_s)
        self._send(reply)

    do_POST = do_GET

    def _asked(self) -> Request:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode("latin-1")
        return Request(
            self.command,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            dict(parse_qsl(body, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
        )

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        over = self.server.exchange._over
        if reply.drip_s:
            for at in range(len(reply.body)):
                self.wfile.write(reply.body[at : at + 1])
                self.wfile.flush()
                if over.wait(reply.drip_s):
                    break
            return
        self.wfile.write(reply.body[: reply.stops_at])
        self.wfile.flush()
        if reply.stops_at is not None:
            self.close_connection = True
            if reply.stop == "hang":
                over.wait(3600)
            elif reply.stop == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()


# Ready-made faults. The texts are ours: what matters is the words by which such a page is known.


def replaced(reply: Reply) -> Fault:
    """Answer ``reply`` instead."""
    return lambda asked, sound: reply


def changed(**fields: Any) -> Fault:
    """Answer what was to be answered, with other ``fields`` (status, headers, delay_s, stops_at …)."""
    return lambda asked, sound: replace(sound, **fields)


_BLOCK = """<!DOCTYPE html>
<html lang="ko"><head><meta charset="{}"><title>접속 차단 안내</title></head><body>
<h1>접속이 차단되었습니다</h1><p>과도한 접속으로 서비스 이용이 제한되었습니다. 문의: 정보데이터시스템</p>
<p>접속 IP : 203.0.113.7</p></body></html>"""

BLOCK_PAGE = replaced(Reply.html(_BLOCK.format("utf-8")))
BLOCK_PAGE_403 = replaced(Reply.html(_BLOCK.format("utf-8"), status=403))
BLOCK_PAGE_EUC_KR = replaced(Reply.html(_BLOCK.format("euc-kr"), encoding="euc-kr", says=""))
FIREWALL = replaced(
    Reply.html(
        "<br>\n<center><h2>The request / response that are contrary to the Web firewall security policies have been"
        " blocked.</h2><table><tr><td>Detect time</td></tr><tr><td>Detect client IP</td></tr></table></center>"
    )
)
CLOUDFLARE = replaced(
    Reply.html(
        "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><p>Enable JavaScript and cookies to"
        " continue</p><script src='/cdn-cgi/challenge-platform/h/b'></script></body></html>",
        status=403,
        headers={"Server": "cloudflare"},
    )
)
CAPTCHA = replaced(
    Reply.html(
        "<html><head><title>보안 확인</title></head><body><div id='captcha'><p>자동입력 방지문자를 입력해 주세요."
        " 로봇이 아닙니다.</p></div></body></html>"
    )
)
LOGIN_WALL = replaced(Reply(b"LOGOUT", status=400, content_type="text/html; charset=utf-8"))
LOGIN_PAGE = replaced(
    Reply.html(
        "<html><head><title>로그인</title></head><body><p>로그인이 필요한 서비스입니다.</p><form action='/login'>"
        "<input name='mbrId'><input type='password' name='pw'></form></body></html>"
    )
)
LOGIN_REDIRECT = replaced(Reply(b"", 302, "text/html", {"Location": "/contents/MDC/COMS/client/view/login.jsp"}))
UNAUTHORIZED = replaced(Reply.json({"respMsg": "Unauthorized API Call", "respCode": "401"}, status=401))
SERVER_ERROR = replaced(
    Reply.html("<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>", status=503)
)
TOO_MANY = replaced(Reply.json({"message": "too many requests"}, status=429))


def too_many(retry_after: str) -> Fault:
    """Answer 429 with a Retry-After header."""
    return replaced(Reply.json({"message": "too many requests"}, status=429, headers={"Retry-After": retry_after}))


def HANG(asked: Request, sound: Reply) -> Reply:
    return replace(sound, delay_s=3600)


def HANG_IN_THE_MIDDLE(asked: Request, sound: Reply) -> Reply:
    return replace(sound, stops_at=len(sound.body) // 2, stop="hang")


def CUT_SHORT(asked: Request, sound: Reply) -> Reply:
    return replace(sound, stops_at=len(sound.body) // 2, stop="close")


def RESET(asked: Request, sound: Reply) -> Reply:
    return replace(sound, stops_at=len(sound.body) // 2, stop="reset")


def CLOSED(asked: Request, sound: Reply) -> None:
    """Close the connection without an answer."""


def rewritten(change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> Fault:
    """Change each row of every table in a JSON answer; None drops it."""

    def fault(asked: Request, sound: Reply) -> Reply:
        tables = json.loads(sound.body)
        for name, rows in tables.items():
            if isinstance(rows, list):
                tables[name] = [new for row in rows if (new := change(row)) is not None]
        return replace(sound, body=json.dumps(tables, ensure_ascii=False).encode())

    return fault


def changed_column(old: str, new: str) -> Fault:
    """Name a column of a JSON or CSV answer otherwise."""
    renamed = rewritten(lambda row: {new if key == old else key: value for key, value in row.items()})

    def fault(asked: Request, sound: Reply) -> Reply:
        if sound.body[:1] in (b"{", b"["):
            return renamed(asked, sound)
        head, line_end, rest = sound.body.partition(b"\n")
        return replace(sound, body=head.replace(old.encode(), new.encode()) + line_end + rest)

    return fault


def HALF_A_MARKET(asked: Request, sound: Reply) -> Reply:
    """Leave out the second half of every table in a JSON answer, or of the lines of a CSV."""
    if sound.body[:1] not in (b"{", b"["):
        head, *lines = sound.body.splitlines(keepends=True)
        return replace(sound, body=head + b"".join(lines[: len(lines) // 2]))
    tables = json.loads(sound.body)
    halves = {name: rows[: len(rows) // 2] if isinstance(rows, list) else rows for name, rows in tables.items()}
    return replace(sound, body=json.dumps(halves, ensure_ascii=False).encode())


def _before_the_auction(row: dict[str, Any]) -> dict[str, Any]:
    """Return net purchases as they stood before the closing auction: nine tenths of the day's."""
    counted = {key: int(str(row[key]).replace(",", "") or 0) for key in row if key.startswith("NETBID_")}
    return row | {key: f"{value * 9 // 10:,}" for key, value in counted.items()}


PROVISIONAL_FLOWS = rewritten(_before_the_auction)
