"""What processes share of a source: its block, its day's calls, its pace; what damage, kills and clocks do to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from fake_exchange.server import BLOCK_PAGE, HANG, FakeExchange, Reply
from kstock_batch.errors import BudgetSpent, SourceBlocked, SourceUnreachable, StoreIncompatible
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState

NIGHT = datetime(2026, 11, 25, 9, 31)  # UTC: 18:31 in Seoul
MIDNIGHT = datetime(2026, 11, 25, 15, 0)  # in Seoul
LIMITS = Limits(calls_a_day=3, min_interval_s=0, wait_max_s=60)


class Clock:
    """A clock that only ``sleep`` and a test move."""

    def __init__(self, at: datetime = NIGHT) -> None:
        self.at, self.slept = at, []

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(tmp_path: Path) -> SourceState:
    return SourceState(tmp_path / "sources")


def ask(state: SourceState, clock: Clock, source: str = "krx", **limits) -> None:
    with state.turn(source, replace(LIMITS, **limits), now=clock.now, sleep=clock.sleep):
        pass


def shut(state: SourceState, clock: Clock, source: str = "krx") -> None:
    with state.turn(source, replace(LIMITS, calls_a_day=0), now=clock.now, sleep=clock.sleep) as turn:
        turn.shut("a block page came from https://krx/")


def touched_at(path: Path, at: datetime) -> None:
    stamp = at.replace(tzinfo=UTC).timestamp()
    os.utime(path, (stamp, stamp))


# The block


def test_a_block_holds_for_24_hours_and_says_since_when_why_and_what_to_do(state, clock):
    shut(state, clock)
    clock.at += timedelta(hours=23, minutes=59)
    with pytest.raises(SourceBlocked) as caught:
        ask(state, clock)
    assert str(caught.value) == (
        "krx has shut us out: a block page came from https://krx/, at 2026-11-25 09:31 UTC."
        " It is not asked until 2026-11-26 09:31 UTC (18:31 in Seoul)\n"
        "  fix: see in a browser whether it answers a person; if it does, `kstock-batch ingest forgive krx` ends the"
        " block before that"
    )
    clock.at += timedelta(minutes=1)
    ask(state, clock)
    assert not (state.folder / "krx.block.json").exists()


def test_a_block_is_told_to_whoever_only_looks(state, clock):
    assert state.block("krx", NIGHT) is None
    shut(state, clock)
    block = state.block("krx", NIGHT + timedelta(hours=5))
    assert (block.since, block.until) == (NIGHT, NIGHT + timedelta(hours=24))
    assert state.block("krx", NIGHT + timedelta(hours=24)) is None


def test_a_block_of_one_source_is_none_of_another(state, clock):
    shut(state, clock)
    ask(state, clock, "fdr")
    assert state.block("fdr", clock.at) is None


def test_a_person_ends_a_block_by_hand(state, clock):
    assert state.forgive("krx") is False
    shut(state, clock)
    assert state.forgive("krx") is True
    ask(state, clock)
    assert state.calls_today("krx", clock.at) == 2  # what was sent stays counted


def test_a_clock_set_back_starts_a_block_anew_once_and_for_24_hours(state, clock):
    clock.at = NIGHT + timedelta(days=3650)
    shut(state, clock)
    clock.at = NIGHT
    assert state.block("krx", NIGHT).until == NIGHT + timedelta(hours=24)
    with pytest.raises(SourceBlocked, match="until 2026-11-26 09:31 UTC"):
        ask(state, clock)
    clock.at += timedelta(hours=20)
    with pytest.raises(SourceBlocked, match="until 2026-11-26 09:31 UTC"):
        ask(state, clock)
    clock.at += timedelta(hours=4)
    ask(state, clock)


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"\xff\x00", b"[]", b'{"since": 1}'),
        b'{"since": "2026-11-25T09:31:00", "until": null, "why": ""}',
        b'{"since": "2026-11-25T09:31:00+00:00", "until": "2026-11-26T09:31:00+00:00", "why": ""}',
    ],
)
def test_a_block_file_that_cannot_be_read_is_a_block_since_it_was_written_and_is_named(state, clock, damage):
    shut(state, clock)
    path = state.folder / "krx.block.json"
    path.write_bytes(damage)
    touched_at(path, NIGHT)
    clock.at += timedelta(hours=23)
    with pytest.raises(SourceBlocked) as caught:
        ask(state, clock)
    assert f"a block whose file {path} cannot be read" in str(caught.value)
    assert "until 2026-11-26 09:31 UTC" in str(caught.value)
    clock.at += timedelta(hours=1)
    ask(state, clock)


# The day's calls


def test_the_budget_is_a_day_of_seoul(state, clock):
    for _ in range(3):
        ask(state, clock)
    with pytest.raises(BudgetSpent) as caught:
        ask(state, clock)
    assert str(caught.value) == (
        "today's 3 calls of krx are used up\n"
        "  fix: go on after midnight in Seoul (2026-11-25 15:00 UTC): what was stored is not asked again"
    )
    clock.at = MIDNIGHT - timedelta(seconds=1)
    with pytest.raises(BudgetSpent):
        ask(state, clock)
    clock.at = MIDNIGHT
    ask(state, clock)
    assert state.calls_today("krx", clock.at) == 1


def test_each_source_has_its_own_budget_and_none_means_as_many_as_it_takes(state, clock):
    for _ in range(5):
        ask(state, clock, calls_a_day=0)
    ask(state, clock, "dart")
    assert (state.calls_today("krx", clock.at), state.calls_today("dart", clock.at)) == (5, 1)
    with pytest.raises(BudgetSpent):
        ask(state, clock)


def test_a_clock_set_back_gives_no_call_back(state, clock):
    clock.at = MIDNIGHT
    ask(state, clock)
    ask(state, clock)
    clock.at = NIGHT
    ask(state, clock)
    with pytest.raises(BudgetSpent):
        ask(state, clock)


def test_days_that_are_over_are_forgotten(state, clock):
    for _ in range(20):
        ask(state, clock)
        clock.at += timedelta(days=1)
    told = json.loads((state.folder / "krx.calls.json").read_text())
    assert len(told["by_day"]) == 7
    assert max(told["by_day"]) == date(2026, 12, 14).isoformat()


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"{", b"\xff", b"[]", b"{}", b'{"by_day": {"today": 1}}'),
        b'{"by_day": {"2026-11-25": -1}, "sent_at": null, "not_before": null}',
        b'{"by_day": {"2026-11-25": true}, "sent_at": null, "not_before": null}',
        b'{"by_day": {}, "sent_at": "2026-11-25T09:31:00+00:00", "not_before": null}',
    ],
)
def test_a_calls_file_that_cannot_be_read_is_named_and_its_day_counts_as_used_up(state, clock, damage):
    ask(state, clock)
    path = state.folder / "krx.calls.json"
    path.write_bytes(damage)
    touched_at(path, NIGHT)
    with pytest.raises(BudgetSpent) as caught:
        ask(state, clock)
    assert f"{path} cannot be read, so today's 3 calls of krx count as used up" in str(caught.value)
    assert "`kstock-batch ingest forgive krx`" in str(caught.value)
    assert state.calls_today("krx", clock.at) is None
    clock.at = MIDNIGHT
    ask(state, clock)
    assert state.calls_today("krx", clock.at) == 1


def test_a_person_who_knows_better_forgives_a_calls_file_that_cannot_be_read(state, clock):
    ask(state, clock)
    (state.folder / "krx.calls.json").write_bytes(b"{")
    assert state.forgive("krx") is True
    ask(state, clock)


def test_a_source_without_a_budget_loses_nothing_by_a_calls_file_that_cannot_be_read(state, clock):
    ask(state, clock, calls_a_day=0)
    (state.folder / "krx.calls.json").write_bytes(b"{")
    ask(state, clock, calls_a_day=0)
    assert state.calls_today("krx", clock.at) == 1


# The pace


def test_requests_keep_their_distance_whichever_process_sends_them(state, clock):
    ask(state, clock, min_interval_s=2)
    clock.at += timedelta(seconds=0.5)
    other = SourceState(state.folder)
    ask(other, clock, min_interval_s=2)
    assert clock.slept == [1.5]
    clock.at += timedelta(seconds=2)
    ask(state, clock, min_interval_s=2)
    assert clock.slept == [1.5]


def test_a_clock_set_back_costs_one_interval_not_the_years_between(state, clock):
    ask(state, clock, min_interval_s=2)
    clock.at -= timedelta(days=365)
    ask(state, clock, min_interval_s=2)
    assert clock.slept == [2.0]


def test_a_wish_to_be_left_alone_is_every_processs_and_one_that_is_too_long_is_told(state, clock):
    with state.turn("krx", LIMITS, now=clock.now, sleep=clock.sleep) as turn:
        turn.postpone(50)
    ask(SourceState(state.folder), clock)
    assert clock.slept == [50.0]
    with state.turn("krx", LIMITS, now=clock.now, sleep=clock.sleep) as turn:
        turn.postpone(61)
    with pytest.raises(SourceUnreachable, match="krx asked to be left alone until 2026-11-25 09:32:51 UTC"):
        ask(state, clock, calls_a_day=0)
    assert state.forgive("krx") is True
    ask(state, clock, calls_a_day=0)


# Faults of the folder


def test_a_folder_that_cannot_be_written_is_one_sentence_and_nothing_is_sent(tmp_path, clock):
    (tmp_path / "sources").write_text("a file")
    with pytest.raises(StoreIncompatible, match="cannot be written"):
        ask(SourceState(tmp_path / "sources"), clock)


@pytest.mark.parametrize("name", ["krx.block.json", "krx.calls.json"])
def test_a_folder_in_the_place_of_a_file_lets_nothing_be_sent(state, clock, name):
    (state.folder / name).mkdir(parents=True)
    touched_at(state.folder / name, NIGHT - timedelta(minutes=1))
    with pytest.raises((SourceBlocked, BudgetSpent), match=f"{name} cannot be read"):
        ask(state, clock)
    clock.at += timedelta(days=2)
    with pytest.raises(StoreIncompatible, match="cannot be written"):
        ask(state, clock)


def test_a_link_in_the_place_of_the_lock_is_not_followed(state, clock, tmp_path):
    state.folder.mkdir()
    (tmp_path / "precious").write_text("precious")
    (state.folder / "krx.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StoreIncompatible):
        ask(state, clock)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("name", ["../krx", "", "KRX", "a/b", ".krx"])
def test_a_name_that_is_none_of_a_source_is_a_mistake(state, clock, name):
    with pytest.raises(ValueError, match="is no name of a source"):
        ask(state, clock, name)


def test_a_full_disk_while_a_block_is_written_still_shuts_the_source(state, clock, monkeypatch):
    from kstock_batch.ingest.web import block

    def full(path, data):
        raise OSError(28, "No space left on device")

    with state.turn("krx", LIMITS, now=clock.now, sleep=clock.sleep) as turn, monkeypatch.context() as patched:
        patched.setattr(block, "write_atomically", full)
        with suppress(Exception):
            turn.shut("a block page")
    assert state.block("krx", NIGHT + timedelta(hours=5)).until == NIGHT + timedelta(hours=24)
    with pytest.raises(SourceBlocked, match="cannot be read"):
        ask(state, clock)


# Several processes

CHILD = """
import os, signal, sys, time
from pathlib import Path
from kstock_batch import files
from kstock_batch.errors import KStockError
from kstock_batch.ingest.web import block, calls
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState

def session(**limits):
    return PoliteSession("krx", SourceState(Path(sys.argv[1])), Limits(**{"min_interval_s": 0, "attempts": 1} | limits))

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

url = sys.argv[2] + "/a.json"
"""


def child(state: SourceState, exchange: FakeExchange, body: str) -> subprocess.Popen[str]:
    script = CHILD + textwrap.dedent(body)
    command = [sys.executable, "-W", "error", "-c", script, str(state.folder), exchange.url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> int:
    process.communicate(timeout=60)
    return process.returncode


@pytest.fixture
def exchange():
    with FakeExchange() as exchange:
        exchange.serve("/a.json", Reply.json({"rows": [1]}))
        yield exchange


def polite(state: SourceState, **limits) -> PoliteSession:
    return PoliteSession("krx", state, Limits(**{"min_interval_s": 0.0, "attempts": 1} | limits))


def test_of_processes_that_ask_at_once_the_first_that_is_shut_out_is_the_only_one_that_asked(state, exchange):
    exchange.fail("/a.json", BLOCK_PAGE)
    body = """
        polite = session()
        for _ in range(20):
            try:
                polite.get(url)
            except KStockError as error:
                print(type(error).__name__)
        """
    children = [child(state, exchange, body) for _ in range(3)]
    told = [process.communicate(timeout=60)[0].split() for process in children]
    assert told == [["SourceBlocked"] * 20] * 3
    assert len(exchange.calls) == 1


@pytest.mark.parametrize("at", ["files.rename_into_place = die", "block.write_atomically = die"])
def test_a_kill_while_a_block_is_written_leaves_a_block(state, exchange, at):
    exchange.fail("/a.json", BLOCK_PAGE)
    body = f"""
        polite = session()
        judge = block.write_block
        def deadly(*given):
            global_patch()
            return judge(*given)
        def global_patch():
            {at}
        from kstock_batch.ingest.web import state
        state.write_block = deadly
        polite.get(url)
        """
    assert ended(child(state, exchange, body)) == -signal.SIGKILL
    assert len(exchange.calls) == 1
    for _ in range(3):
        with pytest.raises(SourceBlocked, match=r"whose file .*krx\.block\.json cannot be read"):
            polite(state).get(exchange.url + "/a.json")
    assert len(exchange.calls) == 1
    assert list(state.folder.glob(".krx*")) == []  # what it had begun to write is cleared away


def test_a_kill_before_the_call_is_counted_sends_nothing_and_one_after_it_counts(state, exchange):
    process = child(state, exchange, "files.rename_into_place = die\nsession().get(url)")
    assert ended(process) == -signal.SIGKILL
    assert exchange.calls == []
    exchange.fail("/a.json", HANG, times=1)
    process = child(state, exchange, "session().get(url)")
    while not exchange.calls:
        assert process.poll() is None
    process.kill()
    ended(process)
    polite(state).get(exchange.url + "/a.json")  # its lock went with it
    assert len(exchange.calls) == 2
    told = json.loads((state.folder / "krx.calls.json").read_text())
    assert sum(told["by_day"].values()) == 2


def test_the_budget_is_counted_over_processes(state, exchange):
    body = """
        polite, sent = session(calls_a_day=25), 0
        for _ in range(20):
            try:
                polite.get(url)
                sent += 1
            except KStockError as error:
                assert type(error).__name__ == "BudgetSpent"
        print(sent)
        """
    children = [child(state, exchange, body) for _ in range(3)]
    sent = [int(process.communicate(timeout=60)[0]) for process in children]
    assert sum(sent) == len(exchange.calls) == 25


def test_a_process_that_waits_too_long_for_another_says_who_has_the_turn(state, exchange):
    exchange.fail("/a.json", HANG, times=1)
    process = child(state, exchange, "session().get(url)")
    while not exchange.calls:
        assert process.poll() is None
    with pytest.raises(SourceUnreachable) as caught:
        polite(state, answer_s=0.05, wait_max_s=0.05).get(exchange.url + "/a.json")
    process.kill()
    ended(process)
    assert f'another process ({{"pid": {process.pid}}}) has been asking krx for over 0 s' in str(caught.value)
    assert len(exchange.calls) == 1
