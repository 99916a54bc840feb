"""Killed 200 times: ingest, features, score, publish and rollback, at random moments of every phase they have.

After each kill the store opens and holds what it held before or what it shall hold; a reader that reads throughout gets
whole publications, never an older one after a newer; and the command, run again, completes as if nothing had happened.
"""

from __future__ import annotations

import random
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from factories import (
    RAW_TABLES,
    changed,
    copy_root,
    done,
    everything,
    opened,
    store_rows,
)
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.settings import Settings
from small_store import FRIDAY, MONDAY, THURSDAY, TUESDAY, predict, publish_now, small_store
from warm_process import Ended, Phase, WarmProcess

KILLS = {"ingest": 55, "features": 40, "score": 50, "publish": 35, "rollback": 20}
RERUN_EVERY = 10  # kills
SERVED = {"predictions.duckdb", "predictions.lock", "generations"}
SEED = 20240628

Answer = tuple[date, tuple[tuple[str, float], ...]]


def test_two_hundred_kills_are_planned():
    assert sum(KILLS.values()) == 200


def published(root: Path) -> Path:
    return Settings(root=root).published


# The reader


def asked(reader: PredictionReader) -> Answer:
    """Return the newest session as a reader tells it: one question, so one publication."""
    rows = reader.top(5000)
    assert len({row.as_of for row in rows}) == 1, "sessions are mixed"
    return rows[0].as_of, tuple((row.ticker, row.probability) for row in rows)


class Watch:
    """A bot's reader on a publication, from when it is told to follow it until it is told to follow another."""

    def __init__(self, allowed: set[Answer], *, goes_back: bool) -> None:
        self.faults: list[str] = []
        self.n_answers = 0
        self._allowed, self._goes_back = allowed, goes_back
        self._lock, self._reader, self._newest = threading.Lock(), None, date.min
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def follow(self, path: Path) -> None:
        with self._lock:
            if self._reader:
                self._reader.close()
            self._reader, self._newest = PredictionReader(path, max_age_sessions=None), date.min

    def ask(self) -> Answer | None:
        """Ask once; what is wrong is kept among the faults."""
        with self._lock:
            try:
                answer = asked(self._reader)
                assert answer in self._allowed, f"{answer[0]} with {len(answer[1])} rows is no publication"
                assert self._goes_back or answer[0] >= self._newest, f"{answer[0]} after {self._newest}"
                assert (problem := self._reader.status().problem) is None, problem
                self._newest, self.n_answers = answer[0], self.n_answers + 1
                return answer
            except Exception as error:  # whatever it is, the bot would have seen it
                self.faults.append(repr(error))
                return None

    def _read(self) -> None:
        while not self._stopped.wait(0.005):
            if self._reader:
                self.ask()


# The kills


@dataclass
class Killing:
    """Kills of one action on copies of a root.

    Attributes
    ----------
    require_sound : raises if what a kill left, in a root, is neither old nor new
    state : what the action shall change; the rest of a root is not compared
    goes_back : whether the action may put an older publication in place
    """

    warm: WarmProcess
    root: Path
    folder: Path
    action: str
    args: tuple[object, ...]
    state: Callable[[Path], Any]
    require_sound: Callable[[Path, Any, Any], None]
    goes_back: bool = False
    hit: Counter[str] = field(default_factory=Counter)
    n_kills: int = 0
    n_copies: int = 0
    moment: str = ""

    def survive(self, n: int) -> None:
        """Kill the action at ``n`` moments, and at the beginning of every phase that none of them hit."""
        random_moments = random.Random(SEED)
        undisturbed = self._copy()
        before, old = self.state(undisturbed), asked(PredictionReader(published(undisturbed), None))
        phases = self._run(undisturbed).phases
        after, new = self.state(undisturbed), asked(PredictionReader(published(undisturbed), None))
        assert before != after
        with Watch({old, new}, goes_back=self.goes_back) as watch:
            victim = self._victim(watch)
            while self.n_kills < n or set(map(named, phases)) - self.hit.keys():
                phase, seconds = self._next(phases, random_moments, is_random=self.n_kills < n)
                ended = self._run(victim, kill_in=phase, after=seconds)
                assert watch.ask() and watch.faults == [], (self.moment, watch.faults)
                now = self.state(victim)
                self.require_sound(victim, before, after)
                # A rollback that took place is not run again: the next would go one publication further back.
                is_again = now == before or not self.goes_back
                is_due = self.n_kills % RERUN_EVERY == 0 and ended.code and is_again
                if is_due:
                    self._run(victim)
                    assert self.state(victim) == after, self.moment
                    require_tidy(victim)
                if now != before or is_due:
                    victim = self._victim(watch, victim)
        assert watch.faults == []
        assert watch.n_answers > self.n_kills

    def _next(self, phases: Sequence[Phase], moments: random.Random, *, is_random: bool) -> tuple[Phase, float]:
        """Return a phase and a moment in it; each phase is as likely as any, however short it is."""
        if is_random:
            phase = moments.choice(phases)
            return phase, moments.uniform(0, phase.seconds)
        return next(phase for phase in phases if named(phase) not in self.hit), 0.0

    def _run(self, root: Path, kill_in: Phase | None = None, after: float = 0.0) -> Ended:
        """Run the action in a child, which must end well or by the kill."""
        if kill_in:
            self.moment = f"kill {self.n_kills + 1} in {root}, {after:.4f} s into {' > '.join(kill_in.path)}"
        ended = self.warm.run(self.action, root, *self.args, kill_in=kill_in, after=after)
        assert ended.code == 0 or (kill_in and ended.code == -signal.SIGKILL), (self.moment, ended.said)
        if ended.code:
            self.n_kills += 1
            self.hit.update({named_path(ended.inside[:depth]) for depth in range(1, len(ended.inside) + 1)})
        return ended

    def _copy(self) -> Path:
        self.n_copies += 1
        return copy_root(self.root, self.folder / f"copy{self.n_copies}")

    def _victim(self, watch: Watch, last: Path | None = None) -> Path:
        victim = self._copy()
        watch.follow(published(victim))
        if last:
            shutil.rmtree(last)
        return victim


def named(phase: Phase) -> str:
    return named_path(phase.path)


def named_path(path: Sequence[str]) -> str:
    """Return a phase's name without dates and files, so that all blocks of a build are one."""
    return re.sub(r" from \S+| ?\d{4}-\d\d-\d\d( … )?", "", " > ".join(path))


def require_tidy(root: Path) -> None:
    """Raise if a rerun left what a kill had left."""
    assert SERVED >= {path.name for path in published(root).parent.iterdir()} >= {"predictions.duckdb"}
    assert store_rows(root, "SELECT count(*) FROM run WHERE status = 'running'") == [(0,)]
    assert not Settings(root=root).store.with_suffix(".duckdb.wal").exists()


def all_old_or_all_new(*tables: str) -> Callable[[Path, Any, Any], None]:
    def check(root: Path, before: Any, after: Any) -> None:
        now = everything(root)
        assert [now[t] for t in tables] in ([before[t] for t in tables], [after[t] for t in tables])

    return check


def test_an_ingest_killed_at_any_moment_has_happened_whole_or_not_at_all(warm, trained_root, tmp_path):
    folder = changed(trained_root / "source", tmp_path / "changed")
    args = ("files", folder, "--retroactive")
    whole = all_old_or_all_new(*RAW_TABLES, "feature_due")
    Killing(warm, trained_root, tmp_path, "ingest", args, everything, whole).survive(KILLS["ingest"])


def sessions_of(root: Path) -> dict[date, str]:
    """Return a digest of the features of each session."""
    return dict(store_rows(root, "SELECT as_of, sum(hash(f))::VARCHAR FROM feature_daily AS f GROUP BY as_of"))


def test_features_killed_at_any_moment_are_all_old_or_all_new_session_by_session(warm, trained_root, tmp_path):
    done(trained_root, "ingest", "files", changed(trained_root / "source", tmp_path / "changed"), "--retroactive")
    old = sessions_of(trained_root)
    done(copy_root(trained_root, tmp_path / "elsewhere"), "features")
    new = sessions_of(tmp_path / "elsewhere")
    assert old.keys() == new.keys()
    assert all(old[day] != new[day] for day in old)

    def session_by_session(root: Path, *_: Any) -> None:
        now = sessions_of(root)
        assert now.keys() == old.keys()
        assert all(now[day] in (old[day], new[day]) for day in now)
        ledger = "SELECT as_of, n_rows FROM feature_session WHERE n_rows > 0"
        counts = "SELECT as_of, count(*) FROM feature_daily GROUP BY as_of"
        assert dict(store_rows(root, ledger)) == dict(store_rows(root, counts))

    killing = Killing(warm, trained_root, tmp_path, "features", (), everything, session_by_session)
    killing.survive(KILLS["features"])


def test_a_score_killed_at_any_moment_leaves_a_publication_that_can_be_read(warm, trained_root, tmp_path):
    done(trained_root, "features")
    whole = all_old_or_all_new("prediction")
    ((scored,),) = store_rows(trained_root, "SELECT max(as_of) FROM prediction")

    def sound(root: Path, before: Any, after: Any) -> None:
        whole(root, before[0], after[0])
        for table in ("scored_session", "floor_prediction"):  # written with the rows, or not at all
            assert sessions_in(root, table) == sessions_in(root, "prediction"), table
        require_sound_files(root)

    def state(root: Path) -> Any:
        return everything(root), in_place(root)[0]

    # The session that is published is scored again, the newest for the first time.
    args = ("--force", "--from", scored)
    Killing(warm, trained_root, tmp_path, "score", args, state, sound).survive(KILLS["score"])


def sessions_in(root: Path, table: str) -> list[Any]:
    return store_rows(root, f"SELECT DISTINCT as_of FROM {table} ORDER BY as_of")


def in_place(root: Path) -> tuple[date, str]:
    """Return as-of and digest of what is in place, which must be what its rows digest to."""
    with opened(published(root)) as con:
        (as_of, stated), (found,) = (
            con.execute(f"SELECT {what}").fetchall()[0]
            for what in ("as_of, digest FROM publication", "digest FROM content_digest")
        )
    assert stated == found
    return as_of, stated


def require_sound_files(root: Path) -> None:
    """Raise unless what is in place, and every publication kept, is what was published."""
    in_place(root)
    assert all(one.is_intact for one in Generations(published(root)).newest_first())


@pytest.fixture(scope="module")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of three publications, Thursday's in place, and predictions of Friday that are not published yet."""
    root = tmp_path_factory.mktemp("small")
    with small_store(root) as warehouse:
        for n, day in enumerate((MONDAY, TUESDAY, THURSDAY)):
            predict(warehouse, day, {"005930": 0.8 - n / 10, "000660": 0.3})
            publish_now(warehouse, published(root), f"run-{n}")
        predict(warehouse, FRIDAY, {"005930": 0.1, "000660": 0.9})
    return root


def kept(root: Path) -> tuple[Any, set[str]]:
    """Return what is in place and whose publications are kept; a rerun after its rename publishes a second time."""
    return in_place(root), {one.run_id for one in Generations(published(root)).newest_first()}


@pytest.mark.parametrize("action", ["publish", "rollback"])
def test_a_publication_killed_at_any_moment_is_the_old_or_the_new(action, warm, small_root, tmp_path):
    predicted = store_rows(small_root, "FROM prediction ORDER BY ALL")

    def sound(root: Path, before: Any, after: Any) -> None:
        require_sound_files(root)
        assert in_place(root) in (before[0], after[0])
        assert kept(root)[1] >= {"run-0", "run-1", "run-2"}
        assert store_rows(root, "FROM prediction ORDER BY ALL") == predicted

    args = ("again",) if action == "publish" else ()
    killing = Killing(*(warm, small_root, tmp_path, action, args, kept, sound), goes_back=action == "rollback")
    killing.survive(KILLS[action])
