"""Quoting: a text or a name inside a statement, where DuckDB takes no parameter. Nothing else in the package quotes.

Standard library and Python 3.9 syntax only.
"""

from __future__ import annotations


def quoted_text(value: object) -> str:
    """Return ``value`` as a text of SQL: what is in it cannot end the text."""
    return "'" + str(value).replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """Return ``name`` as the name of a column, table or database, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'
