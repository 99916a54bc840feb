"""Where jobs run: in this process one after the other, or in processes of their own.

A job is a function by name and JSON arguments, paths of Parquet files among them; what comes back are facts, JSON
values, and files as bytes. No frame and no model object crosses over, so where a job ran cannot change what it found.
"""

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """Something to do: ``function`` is "module:name" and takes ``arguments``."""

    key: str
    function: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """What a job came to."""

    key: str
    facts: Mapping[str, Any]
    files: Mapping[str, bytes]


class Executor(Protocol):
    """Runs jobs."""

    def submit(self, job: Job) -> None:
        """Take a job."""

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done; the first that fails raises."""

    def close(self) -> None:
        """Stop what runs and let go of everything."""


class SerialExecutor:
    """Runs jobs in this process, in the order they were taken."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs.append(job)

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done."""
        while self._jobs:
            yield run_job(self._jobs.pop(0))

    def close(self) -> None:
        """Forget what was not begun."""
        self._jobs.clear()


class ProcessExecutor:
    """Runs jobs in ``n_workers`` processes that share nothing with this one."""

    def __init__(self, n_workers: int) -> None:
        self._pool = ProcessPoolExecutor(n_workers, mp_context=multiprocessing.get_context("spawn"))
        self._jobs: list[Future[Done]] = []

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs.append(self._pool.submit(run_job, job))

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done."""
        for future in as_completed(self._jobs):
            yield future.result()

    def close(self) -> None:
        """Stop the processes."""
        for process in list((self._pool._processes or {}).values()):
            process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def run_job(job: Job) -> Done:
    """Return what a job comes to, in this process."""
    module, _, name = job.function.partition(":")
    facts, files = getattr(import_module(module), name)(job.arguments)
    return Done(job.key, facts, files)
