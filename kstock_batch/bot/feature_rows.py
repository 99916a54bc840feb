"""What may be a row of the feature store: each check returns the value as it is kept, or says why it cannot be.

Standard library and Python 3.9 syntax only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import lru_cache
from typing import Any, NamedTuple

from kstock_batch.errors import ConfigError, RowsRefused

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TICKER = re.compile(r"[0-9A-Z]{6}", re.ASCII)


class FeatureRow(NamedTuple):
    """One value of one feature; the first three are its key."""

    date: date
    ticker: str
    name: str
    value: float
    category: str
    source: str


def checked_rows(given: Iterable[Any]) -> list[FeatureRow]:
    """Return the rows to store, the last of several with the same key; one bad row refuses them all.

    Each is a mapping of the arguments of ``add_feature`` by name, or a sequence of them in order.
    """
    rows: dict[tuple[date, str, str], FeatureRow] = {}
    for number, fields in enumerate(given, start=1):
        try:
            row = checked_row(**fields) if isinstance(fields, Mapping) else checked_row(*fields)
        except ConfigError as error:
            raise RowsRefused(f"row {number}: {error.what}; no row was stored", fix=error.fix) from error
        except TypeError as error:
            raise RowsRefused(
                f"row {number} is not a feature: {fields!r:.80}; no row was stored",
                fix="give ticker, date, name, value and, if wanted, category and source",
            ) from error
        rows[row[:3]] = row
    return list(rows.values())


def checked_row(ticker: Any, date: Any, name: Any, value: Any, category: Any = "", source: Any = "") -> FeatureRow:
    """Return one row as it is kept."""
    return FeatureRow(
        checked_date(date),
        checked_ticker(ticker),
        checked_name(name),
        _finite(value, name, ticker),
        _text(category, "category"),
        _text(source, "source"),
    )


def checked_date(value: Any) -> date:
    """Return a date, given as one or in ISO form; a datetime is refused, for its day depends on the time zone."""
    if isinstance(value, str):
        return _parsed(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    raise _no_date(value)


@lru_cache(maxsize=4096)
def _parsed(text: str) -> date:
    # Python 3.11 parses more forms than 3.9: the form is checked, so that both take the same
    if not _ISO_DATE.fullmatch(text):
        raise _no_date(text)
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise _no_date(text) from error


def _no_date(value: Any) -> ConfigError:
    return ConfigError(f"{value!r:.80} is not a date", fix='give it as "2026-10-30" or as a datetime.date')


def checked_ticker(value: Any) -> str:
    """Return a ticker of six characters."""
    if isinstance(value, str) and _TICKER.fullmatch(value):
        return value
    raise ConfigError(f"{value!r:.80} is not a ticker", fix='give the six digits or capitals as a string: "005930"')


def checked_name(value: Any) -> str:
    """Return a feature's name."""
    if isinstance(value, str) and value.isprintable() and value.strip() == value != "":
        return value
    raise ConfigError(f"{value!r:.80} is not a feature's name", fix="give a string without spaces around it")


def checked_count(value: Any, noun: str) -> int:
    """Return a whole number, 0 or more."""
    if isinstance(value, int) and value >= 0:
        return value
    raise ConfigError(f"{value!r:.80} is not a number of {noun}", fix="give a whole number, 0 or more")


def _text(value: Any, noun: str) -> str:
    if isinstance(value, str) and value.isprintable():
        return value
    raise ConfigError(f"{value!r:.80} is not a {noun}", fix='give a line of text; "" if there is none')


def _finite(value: Any, name: Any, ticker: Any) -> float:
    """Return a finite float of any kind of number: the bot's own are numpy's."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if math.isfinite(number):
        return number
    raise ConfigError(
        f"{value!r:.80} is not a value of {name!r:.80} of {ticker!r:.80}",
        fix="give a finite number; a value that is not known is left out, never stored",
    )
