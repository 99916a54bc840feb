"""Secrets stay secret: what the environment holds in confidence is never part of a log line, an error or the ledger.

A secret is the value of a variable whose name ends like those below or is that of a service's key, and the password in
one that holds an address.
Nothing here keeps a secret: the environment is read whenever a text is about to leave.
"""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

MASK = "***"
SHORTEST = 6  # characters: masking every "yes" or "1" would spoil texts and hide nothing

_SECRET_NAME = re.compile(
    r"(^|_)(KEY|PW|PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIALS?)$|^KSTOCK_KRX_KEY_", re.IGNORECASE
)
_ADDRESS_NAME = re.compile(r"(^|_)(URI|URL|DSN)$", re.IGNORECASE)
# user:PASSWORD@host up to the last @ of all, before the query, before the path: a password that is not written as the
# standard wants may hold any of their signs. And password=PASSWORD, in a query or in libpq's own form. Widest first.
_IN_ADDRESS = (
    re.compile(r"://[^/?#:@]*:(?P<password>.*)@"),
    re.compile(r"://[^/?#:@]*:(?P<password>[^?#]*)@"),
    re.compile(r"://[^/?#:@]*:(?P<password>[^/?#]*)@"),
    re.compile(r"\b(?:password|passwd|pwd|token|secret|api_?key)\s*=\s*(?P<password>'[^']*'|[^&\s]+)", re.IGNORECASE),
)


def redacted(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return ``text`` with every secret of the environment masked."""
    for secret, shown in _secrets(environ):
        text = text.replace(secret, shown)
    return text


def redacted_values(value: Any, environ: Mapping[str, str] = os.environ) -> Any:
    """Return ``value`` with the texts in its lists and mappings redacted; what is no text stays what it is."""
    if isinstance(value, str):
        return redacted(value, environ)
    if isinstance(value, Mapping):
        return {key: redacted_values(item, environ) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redacted_values(item, environ) for item in value]
    return value


def _secrets(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each secret and what is shown for it, the longest first: one may be part of another."""
    found: dict[str, str] = {}
    for name, value in environ.items():
        if _SECRET_NAME.search(name):
            found[value] = MASK
        elif _ADDRESS_NAME.search(name):
            found[value] = value
            for pattern in _IN_ADDRESS:
                passwords = [match["password"].strip("'") for match in pattern.finditer(value)]
                found |= {written: MASK for password in passwords for written in (password, unquote(password))}
                found[value] = pattern.sub(_masked, found[value])
    whole = sorted(found.items(), key=lambda pair: -len(pair[0]))
    return [(secret, shown) for secret, shown in whole if len(secret) >= SHORTEST]


def _masked(found: re.Match[str]) -> str:
    password = found["password"].strip("'")
    return found[0].replace(password, MASK) if password else found[0]
