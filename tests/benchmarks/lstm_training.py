"""Measure LSTM training side by side: the plain loop of the original design, and ours on one core and on several.

usage: python tests/benchmarks/lstm_training.py [--windows 8192] [--rounds 5] [--threads 2] [--rows 400000]

Each is a process of its own. In every round each trains once, so that whatever else the machine does falls on all of
them; the best round counts. Memory is what the process needed on top of the rows, after a first tiny training has
loaded what torch loads once. Rows and labels are random: neither speed nor memory depends on them.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

STATUS = Path("/proc/self/status")
LOOPS = ("plain", "ours, 1 thread", "ours")


def memory_mb(name: str) -> float:
    """Return VmRSS or VmHWM of this process; nan where the system does not tell."""
    if not STATUS.exists():
        return float("nan")
    return int(STATUS.read_text().split(f"{name}:")[1].split()[0]) / 1000


def plain_loop(values: np.ndarray, ends: np.ndarray, label: np.ndarray) -> None:
    """Train one epoch as the original design did: batches of 32, torch's own threads and dropout, loss.backward()."""
    import torch

    from kstock_batch.features.windows import gather
    from kstock_batch.learners.lstm_network import StockLSTM

    network = StockLSTM().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    order = np.random.default_rng(0).permutation(len(ends))
    for start in range(0, len(ends), 32):
        batch = order[start : start + 32]
        optimiser.zero_grad()
        logits = network(torch.from_numpy(gather(values, ends[batch])))
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(label[batch])).backward()
        optimiser.step()


def our_loop(threads: int) -> Callable[[np.ndarray, np.ndarray, np.ndarray], None]:
    """Return one epoch of ``train``."""
    from kstock_batch.learners.lstm_sample import Sample
    from kstock_batch.learners.lstm_training import train

    def loop(values: np.ndarray, ends: np.ndarray, label: np.ndarray) -> None:
        train(Sample(values, ends, label, np.zeros_like(label)), None, epochs=1, seed=1, threads=threads)

    return loop


def serve(loop: str, n_rows: int, n_windows: int, threads: int) -> None:
    """Train once for every line on stdin, and answer with seconds and MB above the rows."""
    import torch

    torch.set_num_threads(threads)
    rng = np.random.default_rng(1)
    values = rng.normal(size=(n_rows, 30)).astype(np.float32)
    ends = rng.integers(20, n_rows, n_windows)
    label = rng.integers(0, 2, n_windows).astype(np.float32)
    run = plain_loop if loop == "plain" else our_loop(1 if loop == "ours, 1 thread" else threads)
    run(values, ends[:64], label[:64])
    before = memory_mb("VmRSS")
    for _ in sys.stdin:
        begun = time.perf_counter()
        run(values, ends, label)
        told = {"seconds": time.perf_counter() - begun, "mb": memory_mb("VmHWM") - before}
        print(json.dumps(told), flush=True)


def measure(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return what each loop's process answered, round by round."""
    sizes = [f"--{name}={getattr(given, name)}" for name in ("rows", "windows", "threads")]
    served = {
        loop: subprocess.Popen(
            [sys.executable, __file__, *sizes, "--serve", loop],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for loop in LOOPS
    }
    answers: dict[str, list[dict[str, float]]] = {loop: [] for loop in LOOPS}
    for _ in range(given.rounds):
        for loop, process in served.items():
            assert process.stdin and process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            answers[loop].append(json.loads(process.stdout.readline()))
    for process in served.values():
        process.communicate()
    return answers


def main() -> None:
    """Print windows per second and memory of each loop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--windows", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--serve", choices=LOOPS)
    given = parser.parse_args()
    if given.serve:
        return serve(given.serve, given.rows, given.windows, given.threads)
    answers = measure(given)
    best = {loop: given.windows / min(answer["seconds"] for answer in told) for loop, told in answers.items()}
    print("| loop | windows/s | times the plain loop | MB above the rows |\n|---|--:|--:|--:|")
    for loop, told in answers.items():
        ratio, mb = best[loop] / best["plain"], max(answer["mb"] for answer in told)
        print(f"| {loop} | {best[loop]:,.0f} | {ratio:.1f} | {mb:.0f} |")


if __name__ == "__main__":
    main()
