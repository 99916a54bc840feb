"""Trains the LSTM in a process of its own.

torch and lightgbm each bring an OpenMP runtime; two of them in one process crash on macOS (pytorch issue 191933) and
fight over cores elsewhere. Arrays go over as .npy files, the member comes back as the
safetensors file it is stored as anyway.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from kstock_batch.errors import KStockError, NotEnoughHistory
from kstock_batch.files import disk_full_is_named
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.lstm import LstmMember

_PREFIX = "lstm-"
_TOLD = "told: "
_ARRAYS = ("sequence", "session", "ends", "label")


def fit_apart(
    examples: Examples,
    *,
    scratch: Path,
    epochs: int,
    seed: int,
    threads: int,
    stop_early: bool = True,
    learning_rates: Sequence[float] | None = None,
    on_epoch: Callable[[int], None] = lambda _: None,
) -> LstmMember:
    """Return what ``LstmMember.fit`` returns for the same arguments; ``scratch`` is a folder for the arrays."""
    for left in scratch.glob(f"{_PREFIX}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    options = {"epochs": epochs, "seed": seed, "threads": threads, "stop_early": stop_early}
    with disk_full_is_named(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=scratch, prefix=_PREFIX) as name:
            folder = Path(name)
            _hand_over(examples, folder)
            order = {**options, "learning_rates": None if learning_rates is None else list(learning_rates)}
            (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
            _run(folder, on_epoch)
            return LstmMember.load(folder)


def train_in(folder: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Train from the arrays and the order in ``folder`` and leave the member there: what the other process does."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    nothing = np.empty((0, 0), dtype=np.float32)
    inputs = Inputs(nothing, (), (), np.asarray(arrays["sequence"]), np.asarray(arrays["session"]))
    ends, label = np.asarray(arrays["ends"]), np.asarray(arrays["label"])
    examples = Examples(inputs, ends, label, ends, label)
    LstmMember.fit(examples, on_epoch=lambda epoch, *_: say({"epoch": epoch}), **order).save(folder)


def _hand_over(examples: Examples, folder: Path) -> None:
    np.save(folder / "sequence.npy", examples.inputs.sequence, allow_pickle=False)
    np.save(folder / "session.npy", examples.inputs.session, allow_pickle=False)
    np.save(folder / "ends.npy", examples.sequence_ends, allow_pickle=False)
    np.save(folder / "label.npy", examples.sequence_label, allow_pickle=False)


def _run(folder: Path, on_epoch: Callable[[int], None]) -> None:
    command = [sys.executable, "-m", __name__, str(folder)]
    log = folder / "stderr.txt"
    # The child must find this very package, also where it is not installed but on the path.
    paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environ = {**os.environ, "PYTHONPATH": paths}
    with (
        log.open("w", encoding="utf-8") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environ) as child,
    ):
        try:
            _listen(child, on_epoch)
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise KStockError(
            f"training the LSTM ended with exit status {child.returncode}: {''.join(tail)}",
            fix="if it was killed for memory, lower train_sessions or raise sequence_stride; then retrain",
        )


def _listen(child: "subprocess.Popen[str]", on_epoch: Callable[[int], None]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if not line.startswith(_TOLD):  # whatever a library may print
            continue
        told = json.loads(line.removeprefix(_TOLD))
        if "refused" in told:
            raise NotEnoughHistory(told["refused"], fix=told["fix"])
        on_epoch(told["epoch"])


def _main(folder: Path) -> None:
    def say(told: dict[str, Any]) -> None:
        sys.stdout.write(_TOLD + json.dumps(told) + "\n")
        sys.stdout.flush()

    try:
        train_in(folder, say)
    except KStockError as error:
        say({"refused": error.what, "fix": error.fix})


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
