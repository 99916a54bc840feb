"""Jobs that tests hand to executors; named by "executor_jobs:name", so they must be importable in any process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kstock_batch.errors import NotEnoughHistory


def echo(**given):
    print("a library prints this")
    kinds = {name: type(value).__name__ for name, value in given.items()}
    return {"given": given, "kinds": kinds, "pid": os.getpid()}, {"a.bin": bytes(given.get("size", 3))}


def threads():
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS")}, {}


def refuse():
    raise NotEnoughHistory("60 sessions are stored, 120 are needed", fix="ingest more")


def divide():
    return {"never": 1 / 0}, {}


def die(first_only=None):
    if first_only is None or not Path(first_only).exists():
        if first_only:
            Path(first_only).touch()
        print("the last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}, {}


def leave(status):
    os._exit(status)


def linger(flag, seconds=60):
    """Start a process of its own, write down both, and stay."""
    child = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({seconds})"])
    part = Path(f"{flag}.part")
    part.write_text(f"{os.getpid()} {child.pid}")
    part.rename(flag)
    time.sleep(seconds)
    return {}, {}


def outlive(flag):
    """Wait to be killed with the node the first time; be done at once the second time."""
    if Path(flag).exists():
        return {"pid": os.getpid()}, {}
    import ray

    Path(flag).write_text(ray.get_runtime_context().get_node_id())
    time.sleep(120)
    return {}, {}


def fit(member, rows, seed, threads, scratch):
    """Train a small member from a Parquet file; return what it says and its file."""
    import polars as pl  # a worker that fits nothing loads nothing

    from kstock_batch.learners.base import Examples, Inputs
    from kstock_batch.learners.boosting import BoostingRecipe
    from kstock_batch.learners.lstm_process import fit_apart
    from kstock_batch.learners.members import member_class

    frame = pl.read_parquet(rows)
    names = tuple(name for name in frame.columns if name.startswith("x"))
    values = np.ascontiguousarray(frame.select(names).to_numpy().astype(np.float32))
    session, label = frame["session"].to_numpy(), frame["label"].to_numpy()
    ends = np.arange(40, len(values))
    inputs = Inputs(values, names, (), values, session)
    examples = Examples(inputs, ends, label[ends], ends, label[ends])
    if member == "lstm":
        trained = fit_apart(examples, scratch=Path(scratch), epochs=1, seed=seed, threads=threads, stop_early=False)
    else:
        recipe = BoostingRecipe(rounds=8, seed=seed, threads=threads, learns_level=True)
        trained = member_class(member).fit(examples, recipe)
    with TemporaryDirectory() as name:
        trained.save(Path(name))
        files = {path.name: path.read_bytes() for path in Path(name).iterdir()}
    return {"margins": trained.margin(inputs, ends[:200]).tolist()}, files
