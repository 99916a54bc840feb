"""What a question may cost: seconds and memory, both kept whatever the statement does.

DuckDB looks for an interrupt between two vectors of 2,048 rows, and its memory limit counts tables and blocks, not
the texts and lists of a vector. So a statement that does not listen is ended with the process, and the system bounds
memory.
"""

import re
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from kstock_batch.errors import KStockError, TimeLimitReached

GRACE_S = 2.0  # from the first interrupt to the end of the process
HEADROOM = 2**30  # bytes beside DuckDB's own limit: the rows on their way into a table or a file
_INTERRUPT_EVERY_S = 0.05  # one that comes between two statements is lost
_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SIZE = re.compile(r"([0-9.]+)\s?([KMGT]i?)B")
_STATM = Path("/proc/self/statm")

Ended = Callable[[KStockError], None]


class Clock:
    """Says whether the time is over; ``seconds`` None = it never is."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._ends_at = float("inf") if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the time is over."""
        return self._ends_at - time.monotonic()

    def require_time(self) -> None:
        """Raise if the time is over."""
        if self.left <= 0:
            raise self.error()

    def error(self) -> TimeLimitReached:
        """Return the error of a question that took too long."""
        return TimeLimitReached(
            f"the question was stopped after {self.seconds:g} s", fix="ask for less, or give it --timeout SECONDS"
        )


@contextmanager
def time_limited(con: duckdb.DuckDBPyConnection, seconds: float | None, end_process: Ended) -> Iterator[Clock]:
    """Interrupt ``con`` once the time is over; if the body has not ended ``GRACE_S`` later, call ``end_process``."""
    clock, ended = Clock(seconds), threading.Event()
    watch = threading.Thread(target=_watch, args=(con, clock, ended, end_process), daemon=True)
    if seconds is not None:
        watch.start()
    try:
        yield clock
    finally:
        ended.set()
        if seconds is not None:
            watch.join()


def _watch(con: duckdb.DuckDBPyConnection, clock: Clock, ended: threading.Event, end_process: Ended) -> None:
    if ended.wait(max(clock.left, 0)):
        return
    while clock.left > -GRACE_S:
        with suppress(duckdb.Error):  # closed in between
            con.interrupt()
        if ended.wait(_INTERRUPT_EVERY_S):
            return
    end_process(clock.error())


@contextmanager
def memory_limited(limit: str) -> Iterator[None]:
    """Let the body allocate ``limit`` (as "4GB"; "" = all it likes) and some headroom, or say that it is too little."""
    held = _bytes_held()
    if not limit or held is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = held + _bytes_of(limit) + HEADROOM
    allowed = [bound for bound in (soft, hard, wanted) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(allowed), hard))
    try:
        yield
    except MemoryError as error:  # of Python or pyarrow; DuckDB has an error of its own
        fix = "ask for less, or raise memory_limit in kstock.toml"
        raise KStockError(f"the answer needs more memory than memory_limit = {limit}", fix=fix) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _bytes_held() -> int | None:
    """Return how many bytes of data this process has, None where the system does not say (it is Linux that does)."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    except OSError:
        return None


def _bytes_of(limit: str) -> int:
    found = _SIZE.fullmatch(limit)
    assert found is not None  # the settings are checked
    return int(float(found[1]) * _UNITS[found[2]])
