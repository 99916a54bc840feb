"""Measure what executors cost: their start, a job that does nothing, and a job that returns so many megabytes.

usage: python tests/benchmarks/executors.py [--workers 2] [--jobs 200] [--megabytes 25]

Each row is an executor of its own. The first answer holds the start of a worker; ray is left out where it is absent.
"""

import argparse
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent


def idle(n_bytes: int) -> tuple[dict[str, int], dict[str, bytes]]:
    """Return that many bytes: the job."""
    return {"pid": os.getpid()}, {"a": bytes(n_bytes)}


def seconds_of(kind: str, workers: int, n_jobs: int, megabytes: int) -> tuple[float, float, float, float]:
    """Return seconds: until the first answer, a job after that, a large answer, the end."""
    from kstock_batch.executors import Job, make_executor

    began = time.perf_counter()
    with make_executor(kind, workers=1 if kind == "serial" else workers) as executor:

        def run(n: int, n_bytes: int) -> float:
            begun = time.perf_counter()
            for number in range(n):
                executor.submit(Job(f"{n_bytes} {number}", "executors:idle", {"n_bytes": n_bytes}))
            for done in executor.finished():
                done.required()
            return time.perf_counter() - begun

        run(1, 0)
        first = time.perf_counter() - began
        run(workers, 0)
        each, large = run(n_jobs, 0) / n_jobs, run(1, megabytes * 10**6)
        ending = time.perf_counter()
    return first, each, large, time.perf_counter() - ending


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=25)
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    sys.path.insert(0, str(HERE))
    print(f"| executor | first answer s | a job ms | {given.megabytes} MB back ms | end s |\n|---|--:|--:|--:|--:|")
    for kind in ("serial", "process", *(["ray"] if find_spec("ray") else [])):
        first, each, large, end = seconds_of(kind, given.workers, given.jobs, given.megabytes)
        print(f"| {kind} | {first:.2f} | {1000 * each:.2f} | {1000 * large:.0f} | {end:.2f} |", flush=True)


if __name__ == "__main__":
    main()
