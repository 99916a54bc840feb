"""Which PostgreSQL server is meant: an address whose password is in no text that a person or a log may see.

The URI is taken apart here and put together again, because libpq quotes pieces of one that it cannot read: of
``postgresql://u:pa/ss@host`` it says that "pa" is no port.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from kstock_batch.errors import TargetFailed

URI_VARIABLE = "KSTOCK_POSTGRES_URI"
OPTIONS = {"application_name", "connect_timeout", "host", "passfile", "sslcert", "sslkey", "sslmode", "sslrootcert"}
# A server that accepts and then says nothing, or a cable that was pulled, must not hold the night for hours.
PATIENCE = {"connect_timeout": "10", "keepalives_idle": "30", "tcp_user_timeout": "60000"}
_PART = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*")

_BEFORE_THE_SERVERS = re.compile(r"^.*?(?:ERROR|FATAL): +")  # the driver puts the whole statement before them


@dataclass(frozen=True)
class Server:
    """A server and a database on it; ``place`` says which, without the secret."""

    place: str
    uri: str = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def named_in(cls, environ: Mapping[str, str]) -> "Server":
        """Return the server that the environment names."""
        if not (given := environ.get(URI_VARIABLE)):
            raise _unusable("is not set")
        try:
            parts = urlsplit(given)
            port = parts.port
            options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        except ValueError:  # its text quotes the URI, and a chained one would be printed with a traceback
            raise _unusable("is no URI") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise _unusable("is not of the scheme postgresql")
        user, password, database = parts.username or "", parts.password, parts.path.removeprefix("/")
        if not _is_written_well(parts, options) or options.keys() - OPTIONS:
            raise _unusable("holds what a URI cannot, or an option other than " + ", ".join(sorted(OPTIONS)))
        host = parts.hostname or ""
        secret = "" if password is None else f":{password}"
        address = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        uri = f"postgresql://{user}{secret}{'@' if user or secret else ''}{address}/{database}"
        where = options.get("host") or address or "this machine"
        return cls(
            place=f"{where}/{unquote(database)}",
            uri=f"{uri}?{urlencode({**PATIENCE, **options}, quote_via=quote)}",
            password=password and unquote(password),
        )

    def told(self, error: Exception) -> str:
        """Return what the driver says in one line, or nothing of it should it repeat the password."""
        words = _BEFORE_THE_SERVERS.sub("", " ".join(str(error).split()))
        if self.password and self.password in words:
            return "the server refused; its words are withheld, because they hold the password"
        return words if len(words) <= 300 else f"{words[:300]}…"


def _is_written_well(parts: SplitResult, options: Mapping[str, str]) -> bool:
    """Return whether each part holds only what may stand there: a bare @ / ? # shifts the password into another."""
    userinfo, _, _ = parts.netloc.rpartition("@")
    written = (*userinfo.split(":", 1), parts.path.removeprefix("/"))
    is_whole = not parts.fragment and not any("@" in value for value in options.values())
    return is_whole and all(_PART.fullmatch(part) for part in written)


def _unusable(why: str) -> TargetFailed:
    return TargetFailed(
        f"{URI_VARIABLE} {why}",
        fix="set it to postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with every other sign than letters and digits of"
        " the password written %XX, in the environment alone",
    )
