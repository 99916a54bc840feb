"""A job, what it comes to, and what every executor offers.

A job is a function by name and JSON arguments, paths of Parquet files among them; what comes back are facts, which are
JSON too, and files as bytes. No frame and no model object crosses over, nothing is pickled by us, and every executor
sends arguments and facts through JSON, so where a job ran cannot change what it found.
"""

import json
import socket
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

from kstock_batch import errors
from kstock_batch.errors import ConfigError, JobFailed, KStockError

# A worker may die of what has nothing to do with its job: one death costs one retry, a second is the job's own.
ATTEMPTS = 2


@dataclass(frozen=True)
class Job:
    """Something to do.

    Attributes
    ----------
    key : unique within a run, like "2021-03-31"
    function : "module:name", importable wherever it runs; takes ``arguments`` as keywords, returns (facts, files)
    arguments : JSON values
    reads : paths that must be there where it runs
    """

    key: str
    function: str
    arguments: Mapping[str, Any]
    reads: tuple[str, ...] = ()

    def written(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(
            {"key": self.key, "function": self.function, "arguments": dict(self.arguments), "reads": self.reads}
        )

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the job that was written."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Done:
    """What a job came to: facts and files, or the error that ended it.

    Attributes
    ----------
    facts : JSON values
    files : name -> bytes
    attempts : how often it was begun; more than once if a worker died of it
    error : of the last attempt
    """

    key: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    attempts: int = 1
    error: KStockError | None = None

    def required(self) -> Self:
        """Return self, or raise the error that ended the job."""
        if self.error is not None:
            raise self.error
        return self

    def at_attempt(self, number: int) -> Self:
        """Return the same, found by the attempt of that number."""
        return replace(self, attempts=number)


class Executor(Protocol):
    """Runs jobs; a context that is left closes it."""

    def __enter__(self) -> Self:
        """Return self."""

    def __exit__(self, *raised: object) -> None:
        """Close."""

    def submit(self, job: Job) -> None:
        """Take a job."""

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done, also those taken meanwhile; end when none is left."""

    def close(self) -> None:
        """Kill what runs and let go of everything; once more changes nothing."""


def performed(job: Job) -> Done:
    """Return what a job comes to in this process; whatever it raises is its own failure and nobody else's."""
    try:
        _require_reachable(job)
        module, _, name = job.function.partition(":")
        facts, files = getattr(import_module(module), name)(**json.loads(job.written())["arguments"])
        return Done(job.key, json.loads(json.dumps(facts)), {str(name): bytes(data) for name, data in files.items()})
    except KStockError as error:
        return Done(job.key, error=error)
    except Exception as error:
        return Done(job.key, error=_failure(job.key, error))


def answered(text: str) -> tuple[str, dict[str, bytes]]:
    """Return what the job written in ``text`` comes to, as JSON and files: what crosses from a worker."""
    done = performed(Job.read(text))
    error = done.error
    told = None if error is None else {"kind": type(error).__name__, "what": error.what, "fix": error.fix}
    return json.dumps({"key": done.key, "facts": dict(done.facts), "error": told}), dict(done.files)


def done_of(answer: str, files: Mapping[str, bytes]) -> Done:
    """Return what was answered; an error is of the class that was raised, with its sentence."""
    told = json.loads(answer)
    error = None
    if told["error"] is not None:
        kind = getattr(errors, told["error"]["kind"], KStockError)
        error = kind(told["error"]["what"], fix=told["error"]["fix"])
    return Done(told["key"], told["facts"], files, error=error)


def died(key: str, how: str) -> Done:
    """Return what a job came to whose workers died of it as often as is tried."""
    error = JobFailed(
        f"job {key} was begun {ATTEMPTS} times and its worker ended each time, at last {how}",
        fix="if memory ran out, use fewer --workers or lower train_sessions; what is finished is kept",
    )
    return Done(key, attempts=ATTEMPTS, error=error)


def _require_reachable(job: Job) -> None:
    if missing := [path for path in job.reads if not Path(path).exists()]:
        raise ConfigError(
            f"{socket.gethostname()}, which was to do {job.key}, does not see {missing[0]}",
            fix="keep --root on a disk that every node mounts at the same path, or use --executor process",
        )


def _failure(key: str, error: Exception) -> JobFailed:
    lines = "".join(traceback.format_exception(error)).rstrip()
    return JobFailed(
        f"job {key} ended with {type(error).__name__}: {error}\n{lines}",
        fix="this is a fault of the program: report it with the traceback",
    )
