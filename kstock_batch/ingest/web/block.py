"""The file of a block: a source has shut us out. That it exists is the block; what it says is until when, and why.

So the first thing done is to make it, empty, in one step: a process that is killed while it writes the rest, or finds
the disk full, has still shut the source for every other. A file that cannot be read is a block from the day it was
written.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kstock_batch.files import write_atomically

HOURS = 24


@dataclass(frozen=True)
class Block:
    """A source has shut us out (instants are UTC, naive)."""

    since: datetime
    until: datetime
    why: str


def read_block(path: Path, now: datetime) -> Block | None:
    """Return the block that ``path`` tells of, which may be over; None if there is none.

    One that begins after ``now`` was written before the clock was set back: nobody knows how much of it is over, so
    it begins now.
    """
    try:
        written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        block = Block(_instant(told["since"]), _instant(told["until"]), str(told["why"]))
    except (OSError, ValueError, TypeError, KeyError):
        block = _lasting(written_at, f"a block whose file {path} cannot be read")
    return _lasting(now, block.why) if now < block.since else block


def write_block(path: Path, why: str, now: datetime) -> Block:
    """Make ``path`` a block of 24 hours from ``now``."""
    path.touch()
    stamp = now.replace(tzinfo=UTC).timestamp()
    os.utime(path, (stamp, stamp))
    block = _lasting(now, why)
    told = {"since": block.since.isoformat(), "until": block.until.isoformat(), "why": why}
    write_atomically(path, json.dumps(told, ensure_ascii=False, indent=2).encode())
    return block


def _lasting(since: datetime, why: str) -> Block:
    return Block(since, since + timedelta(hours=HOURS), why)


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is not None:
        raise ValueError(f"{text} is not naive UTC")
    return instant
