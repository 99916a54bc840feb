"""What is published of one past session, who said so, and whether the store still says the same."""

from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.serving.replay.bits import Comparison
from kstock_batch.serving.replay.scoring_run import ScoringRun
from kstock_batch.serving.replay.served_file import ServedFile, predictions_of
from kstock_batch.settings import Settings
from kstock_batch.store.provenance import Provenance

ORIGIN = ("model_version", "fingerprint", "run_id", "scored_at")
OF_THE_LISTING = ("name", "market", "sector")  # told anew in each publication: no part of what was predicted
FILE, STORE = "the published file", "the store"


@dataclass(frozen=True)
class Origin:
    """The model and the run that most rows of a session name; a row that names another was changed since."""

    model_version: str
    fingerprint: str
    run_id: str
    scored_at: datetime

    @classmethod
    def of(cls, rows: pl.DataFrame) -> "Origin":
        """Return the origin of a session's rows."""
        return cls(*rows.group_by(ORIGIN).len().sort("len", *ORIGIN, descending=True).select(ORIGIN).row(0))


@dataclass(frozen=True)
class PublishedNight:
    """A session's predictions.

    Attributes
    ----------
    place : where ``rows`` are from: the published file, or the store where the file does not have them
    stored : the store's rows of it; none where it was restored from an older copy
    run : what the ledger says of the run which the rows name; None = it knows no such run
    damage : what is wrong with the published file besides these rows, or None
    notes : what a person should know who reads the verdict
    """

    as_of: date
    place: str
    rows: pl.DataFrame
    origin: Origin
    stored: pl.DataFrame
    run: ScoringRun | None
    damage: str | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def find(cls, con: duckdb.DuckDBPyConnection, settings: Settings, as_of: date) -> "PublishedNight":
        """Return what is published of ``as_of``, else what the store has of it, else raise."""
        stored, served = predictions_of(con, as_of), ServedFile.read(settings, as_of)
        rows = stored if served.rows is None else served.rows.drop(OF_THE_LISTING, strict=False)
        if rows.is_empty():
            raise DataNotReady(
                f"{as_of} was never scored: neither {settings.published} nor the store has predictions of it",
                fix=f"name a session that was, or score it with `kstock-batch score --as-of {as_of}`",
            )
        origin = Origin.of(rows)
        notes = [f"compared with the store's predictions, for {served.why_none}"] if served.why_none else []
        if not stored.is_empty() and (newer := Origin.of(stored)).run_id != origin.run_id:
            told = f"run {newer.run_id} with model {newer.model_version} at {newer.scored_at:%Y-%m-%d %H:%M} UTC"
            notes.append(f"what the store holds of {as_of} is of {told}, and not what is published")
        place, run = STORE if served.rows is None else FILE, ScoringRun.find(con, origin.run_id, as_of)
        return cls(as_of, place, rows, origin, stored, run, damage=served.damage, notes=tuple(notes))

    @property
    def scored_at(self) -> datetime:
        """Return the instant whose store the night was scored from: the ledger's, which no edited row can move."""
        return self.run.began_at if self.run else self.origin.scored_at

    @property
    def made_by(self) -> Provenance | None:
        """Return what computed it, or None where that is not recorded."""
        return self.run.made_by if self.run else None

    def against_store(self) -> Comparison | None:
        """Return the store's rows beside the published ones; None where they are the same, or of another run."""
        if self.place == STORE or (not self.stored.is_empty() and Origin.of(self.stored).run_id != self.origin.run_id):
            return None
        columns = [name for name in self.stored.columns if name in self.rows.columns and name != "ticker"]
        return Comparison.of(self.stored, self.rows.unique("ticker", keep="first"), key=("ticker",), columns=columns)
