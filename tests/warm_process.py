"""A process that has imported everything and forks a child for each command: a kill costs a fork, not three seconds.

It opens no database and starts no pool of threads, which a fork would not survive: the children do. A child writes
which phase of its command it is in, and is killed by the kernel a given time after one begins: Python has no say in it.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READY = "ready"
PRELOADED = (
    *("kstock_batch.cli.app", "kstock_batch.ingest.pipeline", "kstock_batch.features.build"),
    *("kstock_batch.serving.night.night", "kstock_batch.serving.publication.rollback", "kstock_batch.store.ledger"),
    *("kstock_batch.learners.lgbm", "kstock_batch.learners.xgb", "kstock_batch.bot.reader", "small_store"),
)
# What commands do besides their stages: (where it is looked up, its name, what it is called here).
STEPS = (
    ("kstock_batch.serving.night.score", "replace_rows", "rows"),
    ("kstock_batch.serving.night.score", "keep_yardsticks", "yardsticks"),
    ("kstock_batch.serving.night.score", "_mark_scored", "mark"),
    ("kstock_batch.serving.publication.publish", "Generations.keep_current", "keep current"),
    ("kstock_batch.serving.publication.publish", "_build", "fill"),
    ("kstock_batch.serving.publication.publish", "rename_into_place", "rename"),
    ("kstock_batch.serving.publication.publish", "Generations.keep", "keep"),
    ("kstock_batch.serving.publication.publish", "Generations.prune", "prune"),
    ("kstock_batch.serving.publication.verifier", "Verifier.verify", "verify"),
    ("kstock_batch.serving.publication.rollback", "link_or_copy", "link"),
    ("kstock_batch.serving.publication.rollback", "rename_into_place", "rename"),
    ("kstock_batch.serving.publication.rollback", "read_facts", "read back"),
)


@dataclass(frozen=True)
class Phase:
    """A phase of a command: the stages it is within, outermost first, and the how-manieth of that name it was."""

    path: tuple[str, ...]
    number: int
    seconds: float


@dataclass(frozen=True)
class Ended:
    """How a child ended: minus the signal that killed it or its exit code, what it said, and what it went through.

    ``inside`` are the phases it was in when it ended; ``phases`` those that came to their end.
    """

    code: int
    said: str
    phases: list[Phase]
    inside: tuple[str, ...]


class WarmProcess:
    """The process; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._n = folder, 0
        environ = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
        pipe = subprocess.PIPE
        # Warnings are not errors here: it is polars that warns of forks, rightly in general.
        command = [sys.executable, "-W", "ignore", str(HERE / "warm_process.py")]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environ)
        assert self._hears() == READY

    def __enter__(self) -> WarmProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, action: str, *args: object, kill_in: Phase | None = None, after: float = 0.0) -> Ended:
        """Run an action in a child and wait for its end; ``kill_in`` a phase it is killed ``after`` seconds."""
        order = self._order(action, *args)
        if kill_in:
            order |= {"path": kill_in.path, "number": kill_in.number, "after": after}
        return self._run([order])[0]

    def run_together(self, *commands: tuple[object, ...], apart: float = 0.0) -> list[Ended]:
        """Run actions, each in a child and each ``apart`` seconds after the one before; return how they ended."""
        return self._run([self._order(*command) | {"wait": n * apart} for n, command in enumerate(commands)])

    def _order(self, action: object, *args: object) -> dict[str, Any]:
        self._n += 1
        order = {"action": str(action), "args": [str(arg) for arg in args]}
        return order | {name: str(self._folder / f"{self._n}.{name}") for name in ("trace", "said")}

    def _run(self, orders: list[dict[str, Any]]) -> list[Ended]:
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._hears())
        return [_ended(code, order) for code, order in zip(codes, orders, strict=True)]

    def _hears(self) -> str:
        return self._process.stdout.readline().strip()


def _ended(code: int, order: dict[str, Any]) -> Ended:
    said = Path(order["said"]).read_text(encoding="utf-8", errors="replace")
    return Ended(code, said, *_read(Path(order["trace"])))


def _read(trace: Path) -> tuple[list[Phase], tuple[str, ...]]:
    """Return the phases that ended, and those that had begun and not ended."""
    stack: list[tuple[str, float]] = []
    ended: list[Phase] = []
    begun: dict[tuple[str, ...], int] = {}
    for line in trace.read_text(encoding="utf-8").splitlines():
        what, at, name = line.split(" ", 2)
        if what == "+":
            stack.append((name, float(at)))
            path = tuple(name for name, _ in stack)
            begun[path] = begun.get(path, 0) + 1
        else:
            path, since = tuple(name for name, _ in stack), stack.pop()[1]
            ended.append(Phase(path, begun[path], float(at) - since))
    return ended, tuple(name for name, _ in stack)


# In the process


class _Trace:
    """Writes what a child is in, and has it killed."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._fd = os.open(order["trace"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._stack: list[str] = []
        self._killed_in = (order.get("path"), order.get("number"))
        self._after = order.get("after", 0.0)
        self._begun: dict[str, int] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._stack.append(name)
        self._tell("+", name)
        key = json.dumps(self._stack)
        self._begun[key] = self._begun.get(key, 0) + 1
        if (self._stack, self._begun[key]) == self._killed_in:
            _kill_me(self._after)
        try:
            yield
        finally:
            self._tell("-", name)
            self._stack.pop()

    def _tell(self, what: str, name: str) -> None:
        os.write(self._fd, f"{what} {time.monotonic():.6f} {name}\n".encode())


class _Event(ctypes.Structure):
    """The kernel's ``struct sigevent``."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


def _kill_me(after: float) -> None:
    """Have the kernel send this process a SIGKILL in ``after`` seconds, whatever it is doing then."""
    if after <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    libc, timer, event = ctypes.CDLL(None), ctypes.c_void_p(), _Event(None, signal.SIGKILL, 0)
    assert libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) == 0
    seconds, rest = divmod(after, 1)
    spec = (ctypes.c_long * 4)(0, 0, int(seconds), max(int(rest * 1e9), 1))
    assert libc.timer_settime(timer, 0, spec, None) == 0


def _watch(trace: _Trace) -> None:
    """Have stages, commits and steps of this process told as phases."""
    from kstock_batch.store.ledger import Run
    from kstock_batch.store.warehouse import Warehouse

    stage, transaction, close = Run.stage, Warehouse.transaction, Warehouse.__exit__

    @contextmanager
    def told_stage(self: Any, name: str) -> Iterator[Any]:
        with trace.phase(name), stage(self, name) as it:
            yield it

    @contextmanager
    def told_transaction(self: Any) -> Iterator[Any]:
        whole = transaction(self)
        con = whole.__enter__()
        try:
            yield con
        except BaseException:
            if not whole.__exit__(*sys.exc_info()):
                raise
        else:
            with trace.phase("COMMIT"):
                whole.__exit__(None, None, None)

    def told_close(self: Any, *error: Any) -> None:
        with trace.phase("close"):
            close(self, *error)

    Run.stage, Warehouse.transaction, Warehouse.__exit__ = told_stage, told_transaction, told_close
    for module, name, called in STEPS:
        owner: Any = importlib.import_module(module)
        if "." in name:
            owner, name = getattr(owner, name.split(".")[0]), name.split(".")[1]
        setattr(owner, name, _told(trace, getattr(owner, name), called))


def _told(trace: _Trace, function: Any, called: str) -> Any:
    def told(*args: Any, **more: Any) -> Any:
        with trace.phase(called):
            return function(*args, **more)

    return told


def _act(order: dict[str, Any]) -> int:
    """Do what the child is for and return its exit code."""
    from kstock_batch.settings import Settings

    time.sleep(order.get("wait", 0.0))
    action, args, trace = order["action"], order["args"], _Trace(order)
    _watch(trace)
    with trace.phase(action):
        if action == "publish":
            from small_store import publish_now, reopened_store

            with reopened_store(Path(args[0])) as warehouse:
                publish_now(warehouse, Settings(root=Path(args[0])).published, args[1])
        elif action == "rollback":
            from kstock_batch.serving.publication.rollback import roll_back

            roll_back(Settings(root=Path(args[0])).published)
        else:
            from kstock_batch.cli.app import cli

            # An error of ours comes back as the exit code; anything else is a traceback.
            return int(cli(["--root", args[0], action, *args[1:]], standalone_mode=False) or 0)
    return 0


def _child(order: dict[str, Any]) -> None:
    code = 1
    try:
        said = os.open(order["said"], os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        code = _act(order)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _forked(order: dict[str, Any]) -> int:
    if not (pid := os.fork()):
        _child(order)
    return pid


def serve() -> None:
    """Fork a child for each order of a line, wait for all of them and tell how each ended."""
    for module in PRELOADED:
        importlib.import_module(module)
    from kstock_batch.market.sessions import krx_sessions

    krx_sessions(date(2010, 1, 1), date(2030, 1, 1))  # the exchange's calendar costs half a second
    print(READY, flush=True)
    while line := sys.stdin.readline():
        children = [_forked(order) for order in json.loads(line)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    serve()
