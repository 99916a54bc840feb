"""What a computation may know besides what each night's cutoff allows: a replay's bounds, and the block of nights."""

from dataclasses import dataclass
from datetime import date, datetime

FOREVER = datetime(9999, 1, 1)


@dataclass(frozen=True)
class Knowledge:
    """Two clocks, UTC: what became known after ``known_at`` or was stored after ``stored_at`` does not count."""

    known_at: datetime = FOREVER
    stored_at: datetime = FOREVER

    @property
    def params(self) -> dict[str, datetime]:
        """Return them as every statement on raw tables takes them."""
        return {"known_at": self.known_at, "stored_at": self.stored_at}


@dataclass(frozen=True)
class Block:
    """Sessions computed in one go.

    Attributes
    ----------
    checkpoint : session whose state the block goes on from; before all sessions where it begins from nothing
    start, end : first and last session whose rows are wanted; those after the checkpoint and before start are walked
    starts_at, ends_at : cutoffs of start and end, UTC
    """

    checkpoint: date
    start: date
    end: date
    starts_at: datetime
    ends_at: datetime


EVERYTHING = Knowledge()
BEFORE_ALL = date(1, 1, 1)
