"""Schedules: the right hour in Seoul on a machine in any zone, in words each scheduler takes; no more is touched."""

import json
import plistlib
import re
import shlex
import shutil
import subprocess
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from factories import run, sentence
from kstock_batch.operating.schedulers import Installation, Launchd, Systemd, cron_lines
from kstock_batch.operating.timetable import JOBS, NIGHTLY, SEOUL, WEEKLY, Job, LocalTime, local_times, next_due

TODAY = date(2026, 11, 25)
ZONES = ["UTC", "Asia/Seoul", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Kiritimati"]
HERE = Installation(("/opt/k s/bin/python", "-m", "kstock_batch"), Path("/srv/100 % $tock"))
FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$0 $*" in
  *"crontab -l") [ -f "{crontab}" ] && exec cat "{crontab}"; echo "no crontab for you" >&2; exit 1;;
  *"crontab -") exec cat > "{crontab}";;
esac
exit {code}
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return (root, home, how to read what was asked of its schedulers); each answers ``code``."""
    programs, home, log = tmp_path / "bin", tmp_path / "home", tmp_path / "log"
    programs.mkdir(), home.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)

    def answering(code=0):
        for name in ("systemctl", "launchctl", "crontab"):
            text = FAKE.format(log=log, crontab=home / "crontab", code=code)
            (programs / name).write_text(text, encoding="utf-8")
            (programs / name).chmod(0o755)

    answering()
    asked = lambda: log.read_text(encoding="utf-8").splitlines() if log.exists() else []  # noqa: E731
    return tmp_path / "root", home, asked, answering


def cron_weekday(at: datetime) -> int:
    """Return a weekday as crontab(5) counts them: 0 = Sunday."""
    return (at.weekday() + 1) % 7


# Hours


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_each_of_seouls_hours_is_one_of_the_machines_all_year_and_an_idempotent_job_never_misses_one(job, zone):
    times = local_times(job, ZoneInfo(zone), TODAY)
    for n in range(365):
        due = datetime.combine(TODAY + timedelta(days=n), job.at, SEOUL)
        if due.isoweekday() not in job.weekdays:
            continue
        runs = [due + timedelta(minutes=late) for late in (range(1) if job.is_idempotent else range(0, 61, 30))]
        local = [at.astimezone(ZoneInfo(zone)) for at in runs]
        assert any(LocalTime(at.isoweekday(), at.hour, at.minute) in times for at in local), due


@pytest.mark.parametrize("zone", ZONES)
def test_a_job_that_is_not_idempotent_runs_once_a_week(zone):
    assert len(local_times(WEEKLY, ZoneInfo(zone), TODAY)) == 1


def test_sunday_in_seoul_is_sunday_in_each_schedulers_own_numbers():
    """The bot fired on Saturday: its scheduler counts from Monday and was told a number counted from Sunday."""
    assert WEEKLY.weekdays == (7,)
    assert datetime(2026, 11, 29, tzinfo=UTC).isoweekday() == 7  # a Sunday
    (line,) = cron_lines([WEEKLY], HERE, zone=SEOUL, today=TODAY)
    assert line.split(" ", 5)[:5] == ["0", "3", "*", "*", "0"]
    (unit,) = Launchd(Path("/agents"), TODAY, SEOUL).files([WEEKLY], HERE)
    assert plistlib.loads(unit.text.encode())["StartCalendarInterval"] == [{"Weekday": 0, "Hour": 3, "Minute": 0}]
    assert Systemd.calendar(WEEKLY) == "Sun *-*-* 03:00:00 Asia/Seoul"
    assert cron_weekday(datetime(2026, 11, 29)) == 0


@pytest.mark.parametrize(
    ("zone", "weekly"),
    [("UTC", "0 18 * * 6"), ("America/New_York", "0 14 * * 6"), ("Pacific/Kiritimati", "0 8 * * 0")],
)
def test_a_machine_elsewhere_retrains_on_its_own_saturday_or_sunday(zone, weekly):
    (line,) = cron_lines([WEEKLY], HERE, zone=ZoneInfo(zone), today=TODAY)
    assert " ".join(line.split(" ", 5)[:5]) == weekly


def test_where_clocks_change_the_night_is_told_both_hours():
    lines = cron_lines([NIGHTLY], HERE, zone=ZoneInfo("America/New_York"), today=TODAY)
    assert [" ".join(line.split(" ", 5)[:5]) for line in lines] == ["35 4 * * 1,2,3,4,5", "35 5 * * 1,2,3,4,5"]


def test_the_next_hours_are_told_in_seoul_on_any_day_of_the_week():
    due = next_due(JOBS, datetime(2026, 11, 27, 9, 36))  # Friday 18:36 in Seoul
    assert {name: at.isoformat() for name, at in due.items()} == {
        "nightly": "2026-11-30T18:35:00+09:00",
        "weekly": "2026-11-29T03:00:00+09:00",
    }
    assert next_due([NIGHTLY], datetime(2026, 11, 27, 9, 34))["nightly"].isoformat() == "2026-11-27T18:35:00+09:00"


# Words


def test_systemd_takes_the_units_and_means_the_same_hours(tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "100 % $tock" / "python"
    program.parent.mkdir()
    program.symlink_to("/bin/true")
    units = Systemd(tmp_path).files(JOBS, Installation((str(program), "-m", "kstock_batch"), program.parent))
    for unit in units:
        unit.path.write_text(unit.text, encoding="utf-8")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", *(str(unit.path) for unit in units)],
        capture_output=True,
        text=True,
        check=False,
        env={"XDG_RUNTIME_DIR": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    ours = [line for line in said.stderr.splitlines() if "kstock-batch" in line]
    assert not ours, said.stderr
    for job, wanted in ((NIGHTLY, "Thu 2026-11-26 09:35:00 UTC"), (WEEKLY, "Sat 2026-11-28 18:00:00 UTC")):
        told = subprocess.run(
            ["systemd-analyze", "calendar", "--base-time=2026-11-25 12:00:00 UTC", Systemd.calendar(job)],
            capture_output=True,
            text=True,
            check=True,
            env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
        ).stdout
        assert f"Next elapse: {wanted}" in re.sub(r" +", " ", told)


def test_signs_that_systemd_reads_as_its_own_are_doubled_where_it_does():
    """systemd.service(5): % everywhere, $ in arguments alone."""
    here = Installation(("/a $b/python", "-m", "k"), Path('/1 % $t "q"'))
    service = Systemd(Path("/units")).files([NIGHTLY], here)[0]
    assert r'ExecStart="/a $b/python" "-m" "k" "--root" "/1 %% $$t \"q\"" "nightly"' in service.text.splitlines()
    assert 'WorkingDirectory=/1 %% $t "q"' in service.text.splitlines()


def test_a_shell_reads_the_command_of_a_crontab_line_back_as_it_was_meant(tmp_path):
    root = tmp_path / 'it\'s 100 % "mine"'
    (root / "warehouse").mkdir(parents=True)
    (root / "kstock.env").write_text("KSTOCK_KRX_KEY='of a kind'\n", encoding="utf-8")
    telling = ("/bin/sh", "-c", 'printf "%s|" "$KSTOCK_KRX_KEY" "$@"', "sh")
    job = Job("nightly", ("nightly",), (1,), time(18, 35), "x")
    (line,) = cron_lines([job], Installation(telling, root), zone=SEOUL, today=TODAY)
    command = line.split(" ", 5)[5]
    assert not re.search(r"(?<!\\)%", command), "cron would end the line there"
    subprocess.run(["/bin/sh", "-c", command.replace("\\%", "%")], check=True)
    assert (root / "warehouse" / "nightly.log").read_text() == f"of a kind|--root|{root}|nightly|"


def test_a_mac_runs_the_same_command_and_logs_beside_the_data():
    for job, unit in zip(JOBS, Launchd(Path("/agents"), TODAY, SEOUL).files(JOBS, HERE), strict=True):
        agent = plistlib.loads(unit.text.encode())
        assert agent["Label"] == f"kstock-batch.{job.name}" == unit.path.stem
        assert agent["ProgramArguments"][:2] == ["/bin/sh", "-c"]
        last = shlex.split(agent["ProgramArguments"][2].rpartition("exec ")[2])
        assert last == [*HERE.program, "--root", str(HERE.root), *job.command]
        assert agent["StandardErrorPath"] == f"/srv/100 % $tock/warehouse/{job.name}.log"


def test_no_secret_is_written_into_a_timer(machine, monkeypatch):
    root, *_ = machine
    monkeypatch.setenv("KRX_PW", "a-key-of-mine")
    for kind in ("systemd", "launchd", "cron"):
        shown = run(root, "schedule", "install", "--kind", kind, "--dry-run").stdout
        assert "kstock.env" in shown
        assert "a-key-of-mine" not in shown


# Installing


@pytest.mark.parametrize("kind", ["systemd", "launchd", "cron"])
def test_install_twice_is_once_show_tells_and_remove_leaves_nothing(kind, machine):
    root, home, *_ = machine
    before = sorted(home.rglob("*"))
    assert run(root, "schedule", "remove", "--kind", kind).stdout.strip().endswith("nothing to remove")
    for _ in range(2):
        assert run(root, "schedule", "install", "--kind", kind).exit_code == 0
        shown = json.loads(run(root, "schedule", "show", "--kind", kind, "--json").stdout)
        assert {part["state"] for part in shown["parts"]} == {"installed"}
    written = [path.read_text() for path in home.rglob("*") if path.is_file()]
    assert len(written) == {"systemd": 4, "launchd": 2, "cron": 1}[kind]
    assert (
        run(root.with_name("other"), "schedule", "show", "--kind", kind).stdout.strip().endswith("puts them in place")
    )
    assert "no longer" in run(root, "schedule", "remove", "--kind", kind).stdout
    left = [path for path in home.rglob("*") if path.is_file() and path.read_text()]
    assert left == [path for path in before if path.is_file()]


def test_each_scheduler_is_told_to_look(machine):
    root, home, asked, _ = machine
    run(root, "schedule", "install", "--kind", "systemd")
    timers = "kstock-batch-nightly.timer kstock-batch-weekly.timer"
    assert asked() == ["systemctl --user daemon-reload", f"systemctl --user enable --now {timers}"]
    run(root, "schedule", "install", "--kind", "launchd")
    agents = home / "Library" / "LaunchAgents"
    assert [line.partition(str(agents))[2] for line in asked()[2:]] == [
        "/kstock-batch.nightly.plist",
        "/kstock-batch.weekly.plist",
    ]


def test_a_sample_market_is_not_scheduled_for_its_nights_would_fail(machine, walked):
    *_, asked, _ = machine
    refused = run(walked, "schedule", "install", "--kind", "cron")
    assert (refused.exit_code, asked()) == (2, [])
    assert f"{walked} holds the sample market: a night finds no real prices to add to it" in sentence(refused)
    assert run(walked, "schedule", "install", "--kind", "cron", "--dry-run").exit_code == 0


def test_a_dry_run_changes_nothing_and_asks_nobody(machine):
    root, home, asked, _ = machine
    for kind in ("systemd", "launchd", "cron"):
        assert run(root, "schedule", "install", "--kind", kind, "--dry-run").exit_code == 0
    assert (list(home.iterdir()), asked()) == ([], [])


def test_the_rest_of_a_crontab_stays_as_it_is(machine):
    root, home, *_ = machine
    mine = "# of mine\n5 4 * * * true\n"
    (home / "crontab").write_text(mine, encoding="utf-8")
    run(root, "schedule", "install", "--kind", "cron")
    assert (home / "crontab").read_text().startswith(mine)
    run(root, "schedule", "remove", "--kind", "cron")
    assert (home / "crontab").read_text() == mine


def test_a_crontab_block_cut_in_half_is_not_guessed_at(machine):
    root, home, *_ = machine
    run(root, "schedule", "install", "--kind", "cron")
    cut = (home / "crontab").read_text().replace("# kstock-batch end\n", "0 0 * * * mine\n")
    (home / "crontab").write_text(cut, encoding="utf-8")
    refused = run(root, "schedule", "install", "--kind", "cron")
    assert (refused.exit_code, "without the other" in sentence(refused)) == (27, True)
    assert (home / "crontab").read_text() == cut


def test_a_scheduler_that_refuses_is_quoted(machine):
    root, _, _, answering = machine
    answering(code=1)
    refused = run(root, "schedule", "install", "--kind", "systemd")
    assert refused.exit_code == 27
    assert "`systemctl --user daemon-reload` failed: exit code 1" in sentence(refused)


def test_a_scheduler_that_is_not_there_is_named(machine, monkeypatch):
    root, home, *_ = machine
    monkeypatch.setenv("PATH", str(home))
    refused = run(root, "schedule", "install", "--kind", "launchd")
    assert (refused.exit_code, "this machine has no launchctl" in sentence(refused)) == (2, True)
