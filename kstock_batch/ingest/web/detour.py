"""Sends what libraries fetch by themselves through a polite session: by requests, and by urllib, as pandas does."""

import io
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any
from urllib.response import addinfourl

import requests

from kstock_batch.ingest.web.polite import PoliteSession

_OF_THE_WIRE = {"content-encoding", "content-length", "transfer-encoding"}  # the session has undone these


@contextmanager
def detour(session: PoliteSession) -> Iterator[None]:
    """Make every ``requests`` session and ``urllib.request.urlopen`` of this process ask through ``session``.

    That is how pykrx, FinanceDataReader and ``pandas.read_csv(url)`` keep to block, budget and pace, and find the
    addresses that are moved. Whatever other threads fetch meanwhile takes the same way.
    """
    request, opener = requests.Session.request, getattr(urllib.request, "_opener", None)

    def through(self: requests.Session, method: str, url: str, **more: Any) -> requests.Response:
        if isinstance(self, PoliteSession):
            return request(self, method, url, **more)
        more["headers"] = {**self.headers, **(more.get("headers") or {})}
        response = session.request(method, url, **more)
        self.cookies.update(session.cookies)  # pykrx reads the login's cookie from its own
        return response

    requests.Session.request = through  # type: ignore[assignment,method-assign]
    urllib.request.install_opener(_opener(session))
    try:
        yield
    finally:
        requests.Session.request = request  # type: ignore[method-assign]
        urllib.request.install_opener(opener)


class _Through(urllib.request.BaseHandler):
    """Opens http and https by a session."""

    def __init__(self, session: PoliteSession) -> None:
        self.session = session

    def http_open(self, asked: urllib.request.Request) -> addinfourl:
        """Return the session's answer in urllib's form."""
        headers = dict(asked.header_items())
        answer = self.session.request(asked.get_method(), asked.full_url, headers=headers, data=asked.data)
        told = Message()
        for name, value in answer.headers.items():
            if name.lower() not in _OF_THE_WIRE:
                told[name] = value
        opened = addinfourl(io.BytesIO(answer.content), told, str(answer.url), answer.status_code)
        opened.msg = answer.reason  # type: ignore[attr-defined]  # which urllib's own answers have
        return opened

    https_open = http_open


def _opener(session: PoliteSession) -> urllib.request.OpenerDirector:
    """Return an opener that knows nothing but ``session``: no other scheme, no file."""
    opener = urllib.request.OpenerDirector()
    handlers = (_Through(session), urllib.request.HTTPErrorProcessor(), urllib.request.HTTPDefaultErrorHandler())
    for handler in (*handlers, urllib.request.UnknownHandler()):
        opener.add_handler(handler)
    return opener
