"""One command and all it starts: wall and processor seconds, and the most memory they held together."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY_S = 0.1


@dataclass(frozen=True)
class Took:
    """What a command took.

    Attributes
    ----------
    wall, cpu : seconds; cpu is user and system time of the command and of the children it waited for
    peak_mb : the most memory the command and its children held at one moment (PSS, so that what they share counts
        once), or the largest resident set of one of them where that is more: a short peak falls between two looks
    code : exit code
    out, err : what it said
    """

    wall: float
    cpu: float
    peak_mb: float
    code: int
    out: str
    err: str


def took(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Took:
    """Run ``command`` to its end; the caller should hold little memory, for a child begins with its parent's peak."""
    begun = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=None if environ is None else {**environ}
    )
    assert child.stdout is not None and child.stderr is not None
    said: dict[str, str] = {}
    err = threading.Thread(target=lambda: said.update(err=child.stderr.read()), daemon=True)  # type: ignore[union-attr]
    err.start()
    ended = threading.Event()
    peak = [0.0]
    watch = threading.Thread(target=_watch, args=(child.pid, ended, peak), daemon=True)
    watch.start()
    out = child.stdout.read()
    err.join()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begun
    ended.set()
    watch.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    largest = max(peak[0], usage.ru_maxrss / 1000)
    return Took(wall, usage.ru_utime + usage.ru_stime, largest, child.returncode, out, said["err"])


def _watch(pid: int, ended: threading.Event, peak: list[float]) -> None:
    """Note the largest sum over the tree of processes that begins at ``pid``."""
    while not ended.wait(EVERY_S):
        peak[0] = max(peak[0], sum(map(_pss_mb, _tree(pid))))


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it; without /proc, none."""
    found, due = [], [pid]
    while due:
        one = due.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                due.extend(map(int, (task / "children").read_text().split()))
        except OSError:  # it has ended since
            continue
    return found


def _pss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)
