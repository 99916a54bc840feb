"""The schedulers of machines: what each must be told so that it runs the jobs, and how it is told.

systemd knows Seoul's time itself and catches up what a sleeping machine missed. launchd and cron know only the
machine's own clock: they are given its hours, both where clocks change. The night itself makes good what was missed.
"""

import os
import plistlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, tzinfo
from pathlib import Path
from typing import Any, Protocol

from kstock_batch.operating.timetable import Job, LocalTime, local_times

PREFIX = "kstock-batch"
SECRETS_FILE = "kstock.env"  # beside kstock.toml: NAME=value lines that only the jobs read

_SYSTEMD_DAYS = ("", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class Installation:
    """Where the program and its data are, as absolute paths."""

    program: tuple[str, ...]
    root: Path

    def argv(self, job: Job) -> tuple[str, ...]:
        """Return the command line of a job."""
        return (*self.program, "--root", str(self.root), *job.command)

    def shell(self, job: Job) -> str:
        """Return a line for /bin/sh that reads the secrets and becomes the job."""
        secrets = shlex.quote(str(self.root / SECRETS_FILE))
        return f"if [ -f {secrets} ]; then set -a; . {secrets}; set +a; fi; exec {shlex.join(self.argv(job))}"


@dataclass(frozen=True)
class UnitFile:
    """A file that a scheduler reads."""

    path: Path
    text: str


Command = tuple[str, ...]


class Scheduler(Protocol):
    """A scheduler that is told by files."""

    name: str

    def files(self, jobs: Sequence[Job], what: Installation) -> list[UnitFile]:
        """Return the files that make it run ``jobs``."""

    def start(self, jobs: Sequence[Job]) -> list[Command]:
        """Return the commands after which it runs them."""

    def stop(self, jobs: Sequence[Job]) -> list[Command]:
        """Return the commands after which it no longer does; asked before the files are removed."""


@dataclass(frozen=True)
class Systemd:
    """Timers and services of the user's own systemd."""

    folder: Path
    name = "systemd"

    def files(self, jobs: Sequence[Job], what: Installation) -> list[UnitFile]:
        """Return a service and a timer for each job."""
        units = []
        for job in jobs:
            stem = f"{PREFIX}-{job.name}"
            units.append(UnitFile(self.folder / f"{stem}.service", self._service(job, what)))
            units.append(UnitFile(self.folder / f"{stem}.timer", self._timer(job)))
        return units

    def start(self, jobs: Sequence[Job]) -> list[Command]:
        """Return what makes the timers run now and after each login."""
        return [
            ("systemctl", "--user", "daemon-reload"),
            ("systemctl", "--user", "enable", "--now", *(f"{PREFIX}-{job.name}.timer" for job in jobs)),
        ]

    def stop(self, jobs: Sequence[Job]) -> list[Command]:
        """Return what stops the timers."""
        return [("systemctl", "--user", "disable", "--now", *(f"{PREFIX}-{job.name}.timer" for job in jobs))]

    def _service(self, job: Job, what: Installation) -> str:
        program, *words = what.argv(job)
        # Variables are put into arguments, not into the program's own path: there a dollar sign stands for itself.
        command = " ".join((_quoted(program), *(_quoted(word.replace("$", "$$")) for word in words)))
        return (
            f"[Unit]\nDescription=kstock-batch: {job.about}\n"
            "Wants=network-online.target\nAfter=network-online.target\n\n"
            f"[Service]\nType=oneshot\nWorkingDirectory={_systemd_path(what.root)}\n"
            f"EnvironmentFile=-{_systemd_path(what.root / SECRETS_FILE)}\n"
            f"ExecStart={command}\nTimeoutStartSec=3h\nNice=5\n"
        )

    def _timer(self, job: Job) -> str:
        return (
            f"[Unit]\nDescription=kstock-batch: the hour of {job.about}\n\n"
            f"[Timer]\nOnCalendar={self.calendar(job)}\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
        )

    @staticmethod
    def calendar(job: Job) -> str:
        """Return the OnCalendar expression of a job: it names Seoul, so the machine may stand in any zone."""
        days = ",".join(_SYSTEMD_DAYS[day] for day in job.weekdays)
        return f"{days} *-*-* {job.at:%H:%M:%S} Asia/Seoul"


@dataclass(frozen=True)
class Launchd:
    """Agents of the user on a Mac; ``zone`` None is the machine's own, ``today`` the day the year to come begins on."""

    folder: Path
    today: date
    zone: tzinfo | None = None
    name = "launchd"

    def files(self, jobs: Sequence[Job], what: Installation) -> list[UnitFile]:
        """Return a property list for each job."""
        return [UnitFile(self._path(job), plistlib.dumps(self._plist(job, what)).decode()) for job in jobs]

    def start(self, jobs: Sequence[Job]) -> list[Command]:
        """Return what loads the agents."""
        return [("launchctl", "bootstrap", f"gui/{os.getuid()}", str(self._path(job))) for job in jobs]

    def stop(self, jobs: Sequence[Job]) -> list[Command]:
        """Return what unloads them."""
        return [("launchctl", "bootout", f"gui/{os.getuid()}/{self._label(job)}") for job in jobs]

    def _label(self, job: Job) -> str:
        return f"{PREFIX}.{job.name}"

    def _path(self, job: Job) -> Path:
        return self.folder / f"{self._label(job)}.plist"

    def _plist(self, job: Job, what: Installation) -> dict[str, Any]:
        log = str(what.root / "warehouse" / f"{job.name}.log")
        due = [
            {"Weekday": day_from_sunday(at), "Hour": at.hour, "Minute": at.minute}
            for at in local_times(job, self.zone, self.today)
        ]
        return {
            "Label": self._label(job),
            "ProgramArguments": ["/bin/sh", "-c", what.shell(job)],
            "WorkingDirectory": str(what.root),
            "StartCalendarInterval": due,
            "StandardOutPath": log,
            "StandardErrorPath": log,
        }


def cron_lines(jobs: Sequence[Job], what: Installation, *, zone: tzinfo | None, today: date) -> list[str]:
    """Return the crontab's lines: one for each of the machine's own hours at which a job is due."""
    lines = []
    for job in jobs:
        log = shlex.quote(str(what.root / "warehouse" / f"{job.name}.log"))
        # cron takes a percent sign for the end of the line.
        command = f"/bin/sh -c {shlex.quote(what.shell(job))} >> {log} 2>&1".replace("%", "\\%")
        days: dict[tuple[int, int], list[int]] = {}
        for at in local_times(job, zone, today):
            days.setdefault((at.hour, at.minute), []).append(day_from_sunday(at))
        for (hour, minute), weekdays in sorted(days.items()):
            lines.append(f"{minute} {hour} * * {','.join(map(str, sorted(weekdays)))} {command}")
    return lines


def day_from_sunday(at: LocalTime) -> int:
    """Return the weekday as cron and launchd count it: Sunday 0 … Saturday 6."""
    return at.weekday % 7


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd reads it back."""
    for sign, written in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%")):
        word = word.replace(sign, written)
    return f'"{word}"'


def _systemd_path(path: Path) -> str:
    return str(path).replace("%", "%%")
