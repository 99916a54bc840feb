"""The library pykrx without its side effects: imported quietly, logged in and heard through our own session.

Imported as it asks to be, pykrx logs in on its own, prints that it does, and loads matplotlib with a font. Asked as its
README says, it turns dashes into zeros and an answer it does not understand into an empty table. So only the part that
asks KRX is imported, and that part is asked for the texts as they came.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import polars as pl
import requests

from kstock_batch.errors import CredentialRefused, SourceChanged, SourceUnreachable
from kstock_batch.ingest.sources.live import Need
from kstock_batch.ingest.sources.text import UPDATE, as_text
from kstock_batch.ingest.web.polite import PoliteSession

ACCOUNT = ("KRX_ID", "KRX_PW")
INSTALL = "pip install 'kstock-batch[krx]', which brings the release that was tested"
LOGIN_LASTS_S = 50 * 60.0  # KRX ends a login after an hour
_ACCEPTED, _PASSWORD_EXPIRED, _LOGGED_IN_ELSEWHERE = "CD001", "CD010", "CD011"


@dataclass(frozen=True)
class _Parts:
    auth: ModuleType
    questions: ModuleType


class PykrxLibrary:
    """KRX's data site, asked by pykrx through one polite session."""

    def __init__(
        self,
        session: PoliteSession,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._environ = environ
        self._clock = clock
        self._logged_in_at: float | None = None
        self._refusal: CredentialRefused | None = None
        self._door: Any = None

    def needs(self) -> list[Need]:
        """Return what is missing before it can be asked."""
        package = [] if _is_installed() else [Need("the package pykrx is not installed", INSTALL)]
        return package + self._account_needs()

    def ask(self, question: str, **asked: object) -> pl.DataFrame:
        """Return what KRX answers to one of pykrx's questions (a class of its market/core.py), as texts."""
        parts = _parts()
        self._log_in(parts.auth)
        of = f"pykrx {question}"
        ask = getattr(parts.questions, question, None)
        if ask is None:
            raise SourceChanged(f"this release of pykrx does not know {question}", fix=INSTALL)
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for results
            parts.auth.set_auth_session(self._door)  # pykrx holds one for all: another of us may have set it
            try:
                frame = ask().fetch(**asked)
            except KeyError as error:
                raise SourceChanged(f"{of} answers without {error}", fix=UPDATE) from error
            except ValueError as error:  # requests' JSONDecodeError is one
                raise SourceChanged(f"{of} answers with what is no JSON: {error}", fix=UPDATE) from error
        known = frame.astype(object).where(frame.notna(), None)  # pandas makes a value that is not there a NaN
        return as_text(known.to_dict(orient="records"), of=of)

    def _account_needs(self) -> list[Need]:
        lacking = [name for name in ACCOUNT if not self._environ.get(name)]
        if not lacking:
            return []
        fix = "make an account at data.krx.co.kr, it costs nothing, and set both in the environment"
        return [Need(f"{' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set", fix)]

    def _log_in(self, auth: ModuleType) -> None:
        """Make the session one that KRX knows; a refused login is not tried again, since KRX locks accounts."""
        if self._refusal:
            raise self._refusal
        if self._logged_in_at is not None and self._clock() - self._logged_in_at < LOGIN_LASTS_S:
            return
        if needs := self._account_needs():
            raise CredentialRefused(f"pykrx: {needs[0].what}", fix=needs[0].fix)
        heard = _Heard(self._session)
        try:
            with _unheard():
                is_in = auth.login_krx(*(self._environ[name] for name in ACCOUNT), heard)
        except ValueError as error:
            raise SourceChanged(f"pykrx: KRX answers its login with what is no JSON: {error}", fix=UPDATE) from error
        if not is_in:
            self._refusal = _refusal(heard.code, heard.message)
            raise self._refusal
        self._logged_in_at = self._clock()
        self._door = _door(auth, self._session)


def _refusal(code: str, message: str) -> CredentialRefused:
    """Return the error for the code with which KRX refuses a login."""
    if code == _PASSWORD_EXPIRED:
        return CredentialRefused(
            f"pykrx: KRX wants a new password for KRX_ID ({code})",
            fix="log in at data.krx.co.kr with a browser, change the password, and set KRX_PW to it",
        )
    if code == _LOGGED_IN_ELSEWHERE:
        return CredentialRefused(
            f"pykrx: KRX_ID is logged in elsewhere and KRX does not let us take its place ({code})",
            fix="log out there, or make an account for this job alone",
        )
    return CredentialRefused(
        f"pykrx: KRX does not accept KRX_ID and KRX_PW ({code or 'no code'}: {message or 'no reason given'})",
        fix="log in with them at data.krx.co.kr with a browser, then set both anew; not tried again in this run",
    )


class _Heard:
    """The session pykrx logs in through; it remembers what KRX said, of which pykrx tells only yes or no."""

    def __init__(self, session: PoliteSession) -> None:
        self._session = session
        self.code = self.message = ""

    def get(self, url: str, **how: Any) -> requests.Response:
        return self._session.get(url, **how)

    def post(self, url: str, **how: Any) -> requests.Response:
        response = self._session.post(url, **how)
        said = response.json()
        self.code, self.message = (str(said.get(name, "")) for name in ("_error_code", "_error_message"))
        return response


def _door(auth: ModuleType, session: PoliteSession) -> Any:
    """Return pykrx's own holder of a login, which never thinks it has to log in again by itself."""
    door = auth.KRXSession(session=session, expiry_time=float("inf"), is_authenticated=True)
    door.cookies = {cookie.name: {"value": cookie.value} for cookie in session.cookies}
    return door


def _is_installed() -> bool:
    return importlib.util.find_spec("pykrx") is not None


@cache
def _parts() -> _Parts:
    """Return the two modules of pykrx that are used."""
    try:
        with _unheard(), _anonymous(), _bare_package("pykrx"):
            names = ("pykrx.website.comm.auth", "pykrx.website.krx.market.core")
            return _Parts(*(importlib.import_module(name) for name in names))
    except ImportError as error:
        raise SourceUnreachable(f"pykrx cannot be imported: {error}", fix=INSTALL) from error


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Swallow what is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _anonymous() -> Iterator[None]:
    """Hide the account, with which pykrx would log in the moment it is imported, past our session."""
    hidden = {name: os.environ.pop(name) for name in ACCOUNT if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


@contextlib.contextmanager
def _bare_package(name: str) -> Iterator[None]:
    """Let modules of a package be imported without the package's own first lines, which load matplotlib."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None or spec.submodule_search_locations is None:
        yield
        return
    bare = ModuleType(name)
    bare.__path__ = spec.submodule_search_locations
    sys.modules[name] = bare
    try:
        yield
    finally:
        del sys.modules[name]  # whoever imports it after us gets the real one
