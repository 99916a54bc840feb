"""What every process must know of a source before it asks: is it shut, how often was it asked today, when last.

A folder with, for each source: ``<source>.lock``, held while a request is under way, so that no two processes ask a
source at once and the one that is shut out is the only one that asked; ``<source>.calls.json``; and while a block
holds ``<source>.block.json``. The calls are written before the request is sent: whatever ends a process, what it sent
is counted.

In doubt a source is left alone: a block file that cannot be read is a block, a calls file that cannot be read means
that today's calls are used up, and a clock that was set back starts a block anew and no count.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kstock_batch.errors import BudgetSpent, SourceBlocked, SourceUnreachable
from kstock_batch.ingest.web.block import Block, read_block, write_block
from kstock_batch.ingest.web.calls import Calls, read_calls, write_calls
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.market.sessions import KST_OFFSET, seoul_date
from kstock_batch.store.faults import folder_faults_are_named

_POLL_S = 0.02


def utc_now() -> datetime:
    """Return the instant, UTC and naive, as the store keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class SourceState:
    """The state of every source in ``folder`` (``warehouse/sources/``), shared by the processes of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def block(self, source: str, now: datetime) -> Block | None:
        """Return the block that holds at ``now``, if any. Reads only, and waits for nobody."""
        path = self._path(source, "block.json")
        with folder_faults_are_named(path):
            block = read_block(path, now)
        return block if block and now < block.until else None

    def calls_today(self, source: str, now: datetime) -> int | None:
        """Return how many requests were sent today, in Seoul; None if the file that counts them cannot be read."""
        path = self._path(source, "calls.json")
        with folder_faults_are_named(path):
            calls = read_calls(path, now)
        return None if calls.is_lost else calls.on(seoul_date(now))

    def forgive(self, source: str) -> bool:
        """End the block of a source, for a person who has looked; return whether there was anything to end.

        What the source wished (Retry-After) and a calls file that cannot be read go too; what was counted stays.
        """
        block, path = self._path(source, "block.json"), self._path(source, "calls.json")
        with self._lock(source, patience_s=10.0), folder_faults_are_named(block):
            calls = read_calls(path, datetime.min)
            ended = block.exists() or calls.is_lost or calls.not_before is not None
            block.unlink(missing_ok=True)
            if calls.is_lost:
                path.unlink()
            elif calls.not_before:
                write_calls(path, Calls(calls.by_day, calls.sent_at))
            return ended

    @contextmanager
    def turn(
        self, source: str, limits: Limits, *, now: Callable[[], datetime], sleep: Callable[[float], None]
    ) -> Iterator["Turn"]:
        """Wait until ``source`` may be asked, count one request, and keep every other process from it meanwhile.

        Raises
        ------
        SourceBlocked : a block holds
        BudgetSpent : today's calls are used up
        SourceUnreachable : it asked to be left alone for longer than we wait, or another process is not done with it
        """
        with self._lock(source, patience_s=2 * (limits.answer_s + limits.wait_max_s)):
            turn = Turn(source, self._path(source, "block.json"), self._path(source, "calls.json"), now)
            with folder_faults_are_named(turn.calls_path):
                turn.require_open()
                turn.require_budget(limits.calls_a_day)
                turn.wait(limits, sleep)
                turn.count()
            yield turn

    def _path(self, source: str, kind: str) -> Path:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", source):
            raise ValueError(f"{source!r} is no name of a source")
        return self.folder / f"{source}.{kind}"

    @contextmanager
    def _lock(self, source: str, *, patience_s: float) -> Iterator[None]:
        """Hold a source's lock; it goes with its process, whatever ends it. A link in its place is not followed."""
        path = self._path(source, "lock")
        with folder_faults_are_named(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _wait_for(fd, source, patience_s)
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"pid": os.getpid()}).encode(), 0)
            for kind in ("block.json", "calls.json"):  # what a killed process left beside them; its lock is ours now
                for leftover in self.folder.glob(f".{source}.{kind}.*"):
                    leftover.unlink()
            yield
        finally:
            os.close(fd)


@dataclass(frozen=True)
class Turn:
    """The right to ask a source once, while its lock is held."""

    source: str
    block_path: Path
    calls_path: Path
    now: Callable[[], datetime]

    def require_open(self) -> None:
        """Raise SourceBlocked while a block holds; remove one that is over."""
        now = self.now()
        block = read_block(self.block_path, now)
        if block is None:
            return
        if block.until <= now:
            return self.block_path.unlink()
        if block.since == now:  # begun anew, because the clock was set back: written, or it would begin anew each time
            write_block(self.block_path, block.why, now)
        raise blocked(self.source, block)

    def require_budget(self, calls_a_day: int) -> None:
        """Raise BudgetSpent once today's calls are used up."""
        now = self.now()
        calls = read_calls(self.calls_path, now)
        if not calls_a_day or (not calls.is_lost and calls.on(seoul_date(now)) < calls_a_day):
            return
        fix = f"go on after midnight in Seoul ({_midnight(now):%Y-%m-%d %H:%M} UTC): what was stored is not asked again"
        if calls.is_lost:
            raise BudgetSpent(
                f"{self.calls_path} cannot be read, so today's {calls_a_day:,} calls of {self.source} count as used up",
                fix=f"{fix}; or, if you know how many are left, {_forgive(self.source)}",
            )
        raise BudgetSpent(f"today's {calls_a_day:,} calls of {self.source} are used up", fix=fix)

    def wait(self, limits: Limits, sleep: Callable[[float], None]) -> None:
        """Wait until the source may be asked again, or say that this would take too long."""
        now = self.now()
        next_at = read_calls(self.calls_path, now).next_at(now, limits.min_interval_s)
        wait_s = (next_at - now).total_seconds()
        if wait_s > max(limits.wait_max_s, limits.min_interval_s):
            raise SourceUnreachable(
                f"{self.source} asked to be left alone until {next_at:%Y-%m-%d %H:%M:%S} UTC",
                fix="run the same command again after that; what was stored is not asked again",
            )
        if wait_s > 0:
            sleep(wait_s)

    def count(self) -> None:
        """Write down that one request is sent."""
        now = self.now()
        write_calls(self.calls_path, read_calls(self.calls_path, now).with_one_more(now))

    def postpone(self, seconds: float) -> None:
        """Write down that the source asked not to be asked for so long."""
        now = self.now()
        with folder_faults_are_named(self.calls_path):
            calls = read_calls(self.calls_path, now)
            write_calls(self.calls_path, calls.postponed(now + timedelta(seconds=seconds)))

    def shut(self, why: str) -> SourceBlocked:
        """Write down that the source has shut us out; return the error that says so."""
        with folder_faults_are_named(self.block_path):
            return blocked(self.source, write_block(self.block_path, why, self.now()))


def blocked(source: str, block: Block) -> SourceBlocked:
    """Return the error for a block that holds."""
    until = f"{block.until:%Y-%m-%d %H:%M} UTC ({block.until + KST_OFFSET:%H:%M} in Seoul)"
    return SourceBlocked(
        f"{source} has shut us out: {block.why}, at {block.since:%Y-%m-%d %H:%M} UTC. It is not asked until {until}",
        fix=f"see in a browser whether it answers a person; if it does, {_forgive(source)} ends the block before that",
    )


def _forgive(source: str) -> str:
    return f"`kstock-batch ingest forgive {source}`"


def _midnight(now: datetime) -> datetime:
    return datetime.combine(seoul_date(now) + timedelta(days=1), datetime.min.time()) - KST_OFFSET


def _wait_for(fd: int, source: str, patience_s: float) -> None:
    end = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > end:
                holder = os.pread(fd, 200, 0).decode("utf-8", "replace")
                raise SourceUnreachable(
                    f"another process ({holder}) has been asking {source} for over {patience_s:.0f} s",
                    fix="wait for it to finish, or end it",
                ) from error
            time.sleep(_POLL_S)
