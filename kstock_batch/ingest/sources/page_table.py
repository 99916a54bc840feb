"""A table on a web page, as the rows it is made of: some lists of the exchange are to be had as pages only."""

from collections.abc import Sequence
from html.parser import HTMLParser

import requests

from kstock_batch.errors import SourceChanged
from kstock_batch.ingest.sources.answers import shown
from kstock_batch.ingest.sources.text import UPDATE


def page_rows(response: requests.Response, columns: Sequence[str], *, of: str, encoding: str) -> list[dict[str, str]]:
    """Return the rows below the first header on a page that names all ``columns``.

    A row of fewer cells says that there are none, in words: it is no row. ``encoding`` reads a page that is no UTF-8.
    """
    if response.status_code != 200:
        raise SourceChanged(f"{of} answers {response.status_code} {response.reason}", fix=UPDATE)
    found = _Rows.of(_text(response.content, encoding))
    for n, head in enumerate(found):
        if set(columns) <= set(head):
            return [dict(zip(head, cells, strict=True)) for cells in found[n + 1 :] if len(cells) == len(head)]
    what = f"{of} answers a page without a table of {list(columns)}"
    raise SourceChanged(f"{what}; it has {found[:1] or shown(response.content)}", fix=UPDATE)


def _text(content: bytes, encoding: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(encoding, errors="replace")


class _Rows(HTMLParser):
    """Collects the texts of the cells of every row of every table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._in_cell = False

    @classmethod
    def of(cls, page: str) -> list[list[str]]:
        """Return the rows of a page, each cell without the space around and within it."""
        parser = cls()
        parser.feed(page)
        parser.close()
        return [[" ".join(cell.split()) for cell in row] for row in parser.rows if row]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a row or a cell."""
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        """End a cell."""
        if tag in ("td", "th", "tr"):
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        """Add to the cell that is open."""
        if self._in_cell:
            self.rows[-1][-1] += data
