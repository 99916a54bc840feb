"""Readers that ask without a pause while 500 publications replace each other: threads of a bot, and another process.

Twenty-five are whole: built, verified in a fresh process, renamed, kept. That costs a third of a second, so each of
them is followed by nineteen more replacements by the same bytes in a new file, renamed as a publication is.
"""

import json
import shutil
import subprocess
import sys
import threading
from datetime import date, timedelta
from pathlib import Path

import pytest

from kstock_batch.bot.reader import PredictionReader
from kstock_batch.files import rename_into_place
from kstock_batch.serving.publication.publish import building, publishing
from kstock_batch.settings import Settings
from small_store import predict, publish_now, small_store

HERE = Path(__file__).parent
FIRST, N_WHOLE, N_EACH = date(2024, 1, 1), 25, 20
TICKERS = ("000660", "005930", "035420")
N_THREADS = 3


def signals(number):
    """Return what publication ``number`` says of its session: no two say the same of a stock."""
    return {ticker: round((number + 1) / 100 + n / 1000, 6) for n, ticker in enumerate(TICKERS)}


def day(number):
    return FIRST + timedelta(days=number)


EXPECTED = {(day(n), ticker): signal for n in range(N_WHOLE) for ticker, signal in signals(n).items()}


class Asker:
    """Asks a reader everything, and keeps what is wrong with the answers."""

    def __init__(self, reader):
        self.reader, self.faults, self.seen, self._newest = reader, [], set(), date.min

    def ask_until(self, is_over):
        while not is_over() and not self.faults:
            try:
                self.ask()
            except BaseException as error:
                self.faults.append(repr(error))

    def ask(self):
        self._check("top", self.reader.top(), [3])
        self._check("latest", [self.reader.latest("005930")], [1])
        self._check("session", self.reader.session(FIRST), [3], is_newest=False)
        history = self.reader.history("000660", 4)
        self._check("history", history, range(1, 5), is_newest=False)
        days = [row.as_of for row in history]
        if days != [days[0] - timedelta(days=n) for n in range(len(days))]:
            self.faults.append(f"history of {days}")
        status = self.reader.status()
        if status.problem:
            self.faults.append(status.problem)
        self._follows("status", status.publication.as_of)

    def _check(self, what, rows, n, *, is_newest=True):
        wrong = [row for row in rows if EXPECTED.get((row.as_of, row.ticker)) != round(row.signal, 6)]
        if len(rows) not in n or wrong or (is_newest and len({row.as_of for row in rows}) != 1):
            self.faults.append(f"{what} gave {rows}")
        else:
            self._follows(what, rows[0].as_of if what != "session" else self._newest)

    def _follows(self, what, as_of):
        if as_of < self._newest:
            self.faults.append(f"{what} as-of {as_of} after {self._newest}")
        self._newest = max(as_of, self._newest)
        self.seen.add(as_of)


PROCESS = """
import json, os, sys, threading
from test_hammered import Asker, PredictionReader
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
asker = Asker(PredictionReader(sys.argv[1], max_age_sessions=None))
print("ready", flush=True)
asker.ask_until(over.is_set)
print(json.dumps([asker.faults, len(asker.seen)]), flush=True)
os._exit(0)
"""


@pytest.fixture
def asking_process():
    """Start a process that asks of the publication at a path."""
    started = []

    def start(path):
        pipe, paths = subprocess.PIPE, [str(HERE), str(HERE.parent)]
        code = f"import sys; sys.path[:0] = {paths!r}\n{PROCESS}"
        started.append(subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe, text=True))
        assert started[0].stdout.readline() == "ready\n"
        return started[0]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def replaced_by_the_same(target):
    """Put the bytes in place into a new file in the same place, as a publication does its own."""
    with publishing(target):
        shutil.copyfile(target, building(target))
        rename_into_place(building(target), target)


def test_readers_see_whole_publications_in_their_order_while_five_hundred_replace_each_other(tmp_path, asking_process):
    target, over = Settings(root=tmp_path).published, threading.Event()
    reader = PredictionReader(target, max_age_sessions=None)
    askers = [Asker(reader) for _ in range(N_THREADS)]
    threads = [threading.Thread(target=asker.ask_until, args=(over.is_set,)) for asker in askers]
    n = 0
    with small_store(tmp_path) as warehouse:
        try:
            for number in range(N_WHOLE):
                predict(warehouse, day(number), signals(number), run_id=f"run-{number}")
                publish_now(warehouse, target, f"run-{number}")
                if number == 0:
                    process = asking_process(target)
                    for thread in threads:
                        thread.start()
                for _ in range(N_EACH - 1):
                    replaced_by_the_same(target)
                n += N_EACH
        finally:
            over.set()
            for thread in threads:
                thread.join()
    faults, n_seen = json.loads(process.communicate("")[0])
    assert [asker.faults for asker in askers] + [faults] == [[]] * (N_THREADS + 1)
    assert n == 500
    assert min(*(len(asker.seen) for asker in askers), n_seen) > N_WHOLE / 2, "the readers hardly read"
    assert reader.top()[0].as_of == day(N_WHOLE - 1)
