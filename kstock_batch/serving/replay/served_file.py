"""The published file as a replay finds it: what it says of a session, and what is wrong with it otherwise.

A session's rows are compared with what was rebuilt; that the rest of the file is as it was published is asked here,
because a bot reads ``latest`` and not ``prediction``, and damage in blocks of other sessions is damage too.
"""

from dataclasses import dataclass
from datetime import date

import duckdb
import polars as pl

from kstock_batch.files import log_of
from kstock_batch.serving.publication.generations import Generations, read_facts
from kstock_batch.serving.replay.bits import Comparison
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query

_LATEST = "SELECT * FROM latest ORDER BY ticker"


@dataclass(frozen=True)
class ServedFile:
    """The published file.

    Attributes
    ----------
    rows : its predictions of the session; None where it has none
    why_none : why it has none
    damage : what is wrong with the file itself, or None
    """

    rows: pl.DataFrame | None
    why_none: str | None = None
    damage: str | None = None

    @classmethod
    def read(cls, settings: Settings, as_of: date) -> "ServedFile":
        """Return what the published file says of ``as_of``."""
        path = settings.published
        if not path.is_file():
            return cls(None, f"{path} does not exist")
        facts = read_facts([path])[0]
        if isinstance(facts, str):
            return cls._unreadable(settings, facts)
        if facts.misfit:
            return cls(None, f"{path} {facts.misfit}")
        try:
            rows, damages = _asked(settings, as_of, is_newest=as_of == facts.as_of)
        except duckdb.Error as error:
            return cls._unreadable(settings, str(error).splitlines()[0])
        if (log := log_of(path)).exists():
            damages.append(f"{log} lies beside it, so another program has opened it for writing")
        if changed := Generations(path).damage(facts.run_id):
            damages.append(changed)
        damage = "; ".join(damages) or None
        return cls(None, f"{path} has none of {as_of}", damage) if rows.is_empty() else cls(rows, None, damage)

    @classmethod
    def _unreadable(cls, settings: Settings, why: str) -> "ServedFile":
        return cls(None, f"{settings.published} cannot be read", f"{settings.published} cannot be read: {why}")


def predictions_of(con: duckdb.DuckDBPyConnection, as_of: date) -> pl.DataFrame:
    """Return the rows of ``prediction`` of a session, in the store or in a published file."""
    return Query.load("export/prediction").frame(con, start=as_of, end=as_of)


def _asked(settings: Settings, as_of: date, *, is_newest: bool) -> tuple[pl.DataFrame, list[str]]:
    """Return the session's rows, and of the newest one what is wrong with what stands apart from them."""
    # A file that others can reach gets no hold of ours through it.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": settings.threads,
        "enable_external_access": False,
    }
    with duckdb.connect(str(settings.published), read_only=True, config=config) as con:
        rows = predictions_of(con, as_of)
        return rows, _faults(con, as_of, rows) if is_newest else []


def _faults(con: duckdb.DuckDBPyConnection, as_of: date, rows: pl.DataFrame) -> list[str]:
    latest: pl.DataFrame = con.sql(_LATEST).pl()
    columns = [name for name in rows.columns if name in latest.columns and name != "ticker"]
    against = Comparison.of(latest, rows.unique("ticker"), key=("ticker",), columns=columns)
    if not against.is_identical:
        return [f"its table latest does not say what its predictions do: {against.told}"]
    found = Query.load("serve/verify_newest").frame(con, as_of=as_of).iter_rows()
    return [f"{fact} should be {wanted} but is {value}" for fact, wanted, value in found]
