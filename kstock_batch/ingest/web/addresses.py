"""Addresses: where a hard-wired one is found instead, and how one is shown without the keys in it."""

import re
from collections.abc import Mapping

from kstock_batch.redaction import MASK, redacted

_SECRET_NAME = r"[\w.-]*(?:key|token|secret|passw|pwd|auth|session)[\w.-]*|pw|di|sid"
_SECRET = re.compile(rf"(?P<name>[?&;](?:{_SECRET_NAME}))=[^&;#\s'\"]*", re.IGNORECASE)
_LOGIN = re.compile(r"://[^/?#@\s]*@")


def moved(url: str, places: Mapping[str, str]) -> str:
    """Return ``url`` with the longest of ``places`` it begins with replaced by where that is found.

    A place is the beginning of an address up to a "/", "?" or its end; http and https are the same one.
    """
    for place in sorted(places, key=len, reverse=True):
        rest = _rest(url, place)
        if rest is not None:
            return places[place].rstrip("/") + rest
    return url


def shown(url: str) -> str:
    """Return an address, or a text with addresses in it, without keys, passwords and logins."""
    return redacted(_SECRET.sub(rf"\g<name>={MASK}", _LOGIN.sub(f"://{MASK}@", url)))


def is_secret(name: str) -> bool:
    """Return whether a field of a query or form by that name holds what nobody may read."""
    return re.fullmatch(_SECRET_NAME, name, re.IGNORECASE) is not None


def _rest(url: str, place: str) -> str | None:
    """Return what follows ``place`` in ``url``; None if that is another place."""
    url, place = (re.sub(r"^https?:", "", text, flags=re.IGNORECASE) for text in (url, place.rstrip("/")))
    if not url.lower().startswith(place.lower()):
        return None
    rest = url[len(place) :]
    return rest if not rest or rest[0] in "/?#" else None
