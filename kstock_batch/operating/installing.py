"""Installing the jobs: what a scheduler reads is put in place, taken away, and compared with what is there.

Nothing else of the scheduler is touched: of a crontab the lines between two marks, of a folder the files of our jobs.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from kstock_batch.errors import ConfigError, ScheduleRefused
from kstock_batch.files import write_atomically
from kstock_batch.operating.schedulers import (
    PREFIX,
    Command,
    Installation,
    Launchd,
    Scheduler,
    Systemd,
    UnitFile,
    cron_lines,
)
from kstock_batch.operating.timetable import Job

KINDS = ("systemd", "launchd", "cron")
CRONTAB_BEGIN, CRONTAB_END = f"# {PREFIX} begin: written by `kstock-batch schedule`", f"# {PREFIX} end"

Planned = list[UnitFile]


@dataclass(frozen=True)
class Part:
    """One file of an installation, or the crontab: what is there, against what should be."""

    place: str
    state: str  # installed, absent, other


def usual_kind() -> str:
    """Return the scheduler this machine is likely to have."""
    if sys.platform == "darwin":
        return "launchd"
    return "systemd" if Path("/run/systemd/system").is_dir() else "cron"


def scheduler_of(kind: str, home: Path, today: date) -> Scheduler:
    """Return the scheduler of that name for the user with that home; cron has no files and is none."""
    if kind == "systemd":
        return Systemd(Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user")
    if kind == "launchd":
        return Launchd(home / "Library" / "LaunchAgents", today)
    raise ValueError(f"{kind} is told by no files")


def plan(kind: str, jobs: Sequence[Job], what: Installation, *, home: Path, today: date) -> Planned:
    """Return the files that would be written; of cron the lines of the crontab, as one."""
    if kind == "cron":
        return [UnitFile(Path("crontab"), _block(jobs, what, today))]
    return scheduler_of(kind, home, today).files(jobs, what)


def state(kind: str, jobs: Sequence[Job], what: Installation, *, home: Path, today: date) -> list[Part]:
    """Return what is in place of the plan."""
    parts = []
    for unit in plan(kind, jobs, what, home=home, today=today):
        there = _own(_crontab()) if kind == "cron" else _text(unit)
        parts.append(Part(str(unit.path), "absent" if not there else "installed" if there == unit.text else "other"))
    return parts


def standing(parts: Sequence[Part]) -> str:
    """Return the state of an installation as a whole: installed, other if anything there is another's, or absent."""
    states = {part.state for part in parts}
    return "installed" if states == {"installed"} else "other" if "other" in states else "absent"


def install(kind: str, jobs: Sequence[Job], what: Installation, *, home: Path, today: date) -> None:
    """Make the scheduler run ``jobs``: twice is once."""
    if kind == "cron":
        _write_crontab(_others(_crontab()) + _block(jobs, what, today))
        return
    scheduler = scheduler_of(kind, home, today)
    files = scheduler.files(jobs, what)
    if kind == "launchd" and any(unit.path.exists() for unit in files):  # it would refuse to load what is loaded
        for command in scheduler.stop(jobs):
            _run(command, may_fail=True)
    for unit in files:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(unit.path, unit.text.encode())
    for command in scheduler.start(jobs):
        _run(command)


def remove(kind: str, jobs: Sequence[Job], what: Installation, *, home: Path, today: date) -> int:
    """Make the scheduler forget the jobs; return how many files or crontab blocks went."""
    if kind == "cron":
        crontab = _crontab()
        if _own(crontab):
            _write_crontab(_others(crontab))
            return 1
        return 0
    scheduler = scheduler_of(kind, home, today)
    there = [unit for unit in scheduler.files(jobs, what) if unit.path.exists()]
    if there:
        for command in scheduler.stop(jobs):
            _run(command, may_fail=True)  # it may not be loaded; the files go all the same
    for unit in there:
        unit.path.unlink()
    return len(there)


def _text(unit: UnitFile) -> str | None:
    return unit.path.read_text(encoding="utf-8", errors="replace") if unit.path.exists() else None


def _block(jobs: Sequence[Job], what: Installation, today: date) -> str:
    lines = cron_lines(jobs, what, zone=None, today=today)
    return "\n".join((CRONTAB_BEGIN, *lines, CRONTAB_END)) + "\n"


def _own(crontab: str) -> str:
    """Return our block of a crontab, "" if there is none."""
    begin, end = crontab.find(CRONTAB_BEGIN), crontab.find(CRONTAB_END)
    if (begin < 0) != (end < 0) or end < begin:
        raise ScheduleRefused(
            f"the crontab has one of the lines `{CRONTAB_BEGIN}` and `{CRONTAB_END}` without the other",
            fix="mend it with `crontab -e`: what stands between them is ours, the rest yours",
        )
    return crontab[begin : end + len(CRONTAB_END) + 1] if begin >= 0 else ""


def _others(crontab: str) -> str:
    rest = crontab.replace(_own(crontab), "") if _own(crontab) else crontab
    return rest if not rest or rest.endswith("\n") else rest + "\n"


def _crontab() -> str:
    listed = _run(("crontab", "-l"), may_fail=True)
    if listed.returncode and "no crontab" not in listed.stderr.lower():
        raise ScheduleRefused(
            f"`crontab -l` failed: {listed.stderr.strip() or f'exit code {listed.returncode}'}",
            fix="mend what it says, or choose another scheduler with --kind",
        )
    return listed.stdout if listed.returncode == 0 else ""


def _write_crontab(text: str) -> None:
    _run(("crontab", "-"), given=text)


def _run(command: Command, *, given: str | None = None, may_fail: bool = False) -> "subprocess.CompletedProcess[str]":
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise ConfigError(
            f"this machine has no {command[0]}", fix=f"choose another scheduler with --kind: {', '.join(KINDS)}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ScheduleRefused(
            f"`{shlex.join(command)}` gave no answer in 60 s", fix="run it by hand to see what it waits for"
        ) from error
    if done.returncode and not may_fail:
        raise ScheduleRefused(
            f"`{shlex.join(command)}` failed: {done.stderr.strip() or f'exit code {done.returncode}'}",
            fix="mend what it says, then run the same command again",
        )
    return done
