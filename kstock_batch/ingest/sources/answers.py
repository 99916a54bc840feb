"""Answers of live sources: what came over HTTP as a tree or a table of texts, or what it is instead of that.

Block pages, refused keys and what is worth another try are the session's to tell; here is told what only a reader can.
"""

import io
from collections.abc import Iterable
from typing import Any

import polars as pl
import requests

from kstock_batch.errors import SourceChanged
from kstock_batch.ingest.sources.text import UPDATE, as_text

_SHOWN = 80  # characters of an answer that is something else
_PAGE_STARTS = (b"<!doctype", b"<html")


def body(response: requests.Response, *, of: str) -> bytes:
    """Return the bytes of an answer that can hold data; an error or a web page is named."""
    if response.status_code != 200:
        raise SourceChanged(f"{of} answers {response.status_code} {response.reason}", fix=UPDATE)
    if response.content.lstrip()[:9].lower().startswith(_PAGE_STARTS):
        raise SourceChanged(f"{of} answers a web page instead of data: {shown(response.content)}", fix=UPDATE)
    return response.content


def tree(response: requests.Response, *, of: str) -> Any:
    """Return the JSON of an answer, whatever its status."""
    try:
        return response.json()
    except requests.JSONDecodeError as error:
        what = f"{response.status_code}, and no JSON: {shown(response.content)}"
        raise SourceChanged(f"{of} answers {what}", fix=UPDATE) from error


def branch(of: str, root: Any, *path: str | int) -> Any:
    """Return what stands at ``path`` in a tree, or name how far one gets."""
    found = root
    for n, step in enumerate(path):
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError) as error:
            where = ".".join(str(name) for name in path[: n + 1])
            has = sorted(found) if isinstance(found, dict) else type(found).__name__
            raise SourceChanged(f"{of} answers without {where}; there is {has}", fix=UPDATE) from error
    return found


def table(content: bytes, *, of: str, encoding: str = "utf-8") -> pl.DataFrame:
    """Return a CSV with a header as a frame of texts."""
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
        return pl.read_csv(io.StringIO(text), infer_schema=False)
    except (UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        why = str(error).splitlines()[0]
        raise SourceChanged(f"{of} answers no {encoding} CSV ({why}): {shown(content)}", fix=UPDATE) from error


def records(rows: Any, columns: Iterable[str], *, of: str) -> pl.DataFrame:
    """Return a list of JSON objects as a frame of texts; without any, one with these columns."""
    if not isinstance(rows, list):
        raise SourceChanged(f"{of} answers {type(rows).__name__} where a list of rows was agreed", fix=UPDATE)
    return as_text(rows, of=of) if rows else pl.DataFrame(schema=dict.fromkeys(columns, pl.String))


def shown(content: bytes) -> str:
    """Return the beginning of an answer, on one line, for an error."""
    text = " ".join(content[: 4 * _SHOWN].decode("utf-8", errors="replace").split())
    return f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text or "nothing"
