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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import ConfigError, KStockError, ModelRefused, NotEnoughHistory
from kstock_batch.files import disk_full_is_named
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.lstm import LstmMember, OnEpoch

_PREFIX = "lstm-"
_TOLD = "told: "
_OFFSET = "offset.npy"
_REFUSALS: Mapping[str, type[KStockError]] = {
    kind.__name__: kind for kind in (ConfigError, ModelRefused, NotEnoughHistory)
}


def fit_apart(
    examples: Examples,
    *,
    scratch: Path,
    epochs: int,
    seed: int,
    threads: int,
    stop_early: bool = True,
    learning_rates: Sequence[float] | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    budget_s: float | None = None,
    device: str = "cpu",
    recipe: Mapping[str, Any] | None = None,
) -> LstmMember:
    """Return what ``LstmMember.fit`` returns for the same arguments; ``scratch`` is a folder for the arrays."""
    for left in scratch.glob(f"{_PREFIX}*"):  # by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    order = {
        "epochs": epochs,
        "seed": seed,
        "threads": threads,
        "stop_early": stop_early,
        "learning_rates": None if learning_rates is None else list(learning_rates),
        "budget_s": budget_s,
        "device": device,
        "recipe": None if recipe is None else dict(recipe),
    }
    with disk_full_is_named(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=scratch, prefix=_PREFIX) as name:
            folder = Path(name)
            _hand_over(examples, folder)
            (folder / "order.json").write_text(json.dumps(order), encoding="utf-8")
            _run(folder, on_epoch)
            return LstmMember.load(folder)


def train_in(folder: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Train from the arrays and the order in ``folder`` and leave the member there: what the other process does."""
    order = json.loads((folder / "order.json").read_text(encoding="utf-8"))
    offset = _array(folder, _OFFSET) if (folder / _OFFSET).exists() else None
    nothing = np.empty((0, 0), dtype=np.float32)
    inputs = Inputs(nothing, (), (), _array(folder, "sequence.npy"), _array(folder, "session.npy"))
    ends, label = _array(folder, "ends.npy"), _array(folder, "label.npy")
    examples = Examples(inputs, ends, label, ends, label, offset)

    def tell(epoch: int, train_loss: float, validation_loss: float | None) -> None:
        say({"epoch": epoch, "train_loss": train_loss, "validation_loss": validation_loss})

    LstmMember.fit(examples, on_epoch=tell, **order).save(folder)


def _array(folder: Path, name: str) -> NDArray[Any]:
    return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))


def _hand_over(examples: Examples, folder: Path) -> None:
    np.save(folder / "sequence.npy", examples.inputs.sequence, allow_pickle=False)
    np.save(folder / "session.npy", examples.inputs.session, allow_pickle=False)
    np.save(folder / "ends.npy", examples.sequence_ends, allow_pickle=False)
    np.save(folder / "label.npy", examples.sequence_label, allow_pickle=False)
    if examples.sequence_offset is not None:
        np.save(folder / _OFFSET, examples.sequence_offset, allow_pickle=False)


def _run(folder: Path, on_epoch: OnEpoch) -> None:
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


def _listen(child: "subprocess.Popen[str]", on_epoch: OnEpoch) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if not line.startswith(_TOLD):  # whatever a library may print
            continue
        told = json.loads(line.removeprefix(_TOLD))
        if "refused" in told:
            raise _REFUSALS.get(told["kind"], KStockError)(told["refused"], fix=told["fix"])
        on_epoch(told["epoch"], told["train_loss"], told["validation_loss"])


def _main(folder: Path) -> None:
    def say(told: dict[str, Any]) -> None:
        sys.stdout.write(_TOLD + json.dumps(told) + "\n")
        sys.stdout.flush()

    try:
        train_in(folder, say)
    except KStockError as error:
        say({"refused": error.what, "fix": error.fix, "kind": type(error).__name__})


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
