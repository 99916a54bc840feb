"""Jobs in processes beside this one, each an interpreter of its own.

The pools at hand do not survive their workers: concurrent.futures and loky give up every job when one process is
killed, multiprocessing's pool waits for ever. Here each worker has a pipe of its own, so that a death is one worker's.
A worker leads a process group: what a job has started is killed with it, and Ctrl-C reaches this process alone, which
then ends them.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from kstock_batch.executors.jobs import ATTEMPTS, Done, Job, died, done_of
from kstock_batch.executors.threads import limited

_TAIL = 3  # lines of a dead worker's log
_GRACE_S = 5.0


@dataclass
class _Attempt:
    job: Job
    number: int


class _Worker:
    """One process, and the thread that listens to it: ``news`` gets (worker, Done), or (worker, None) once it died."""

    def __init__(self, threads: int, news: "queue.SimpleQueue[tuple[_Worker, Done | None]]") -> None:
        command = [sys.executable, "-m", "kstock_batch.executors.worker"]
        # The child must find this very package, also where it is not installed but on the path.
        paths = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = limited({**os.environ, "PYTHONPATH": paths}, threads)
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b")  # noqa: SIM115  # closed with the worker
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
                                        env=environ, process_group=0)  # fmt: skip
        self.attempt: _Attempt | None = None
        self._news = news
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def begin(self, attempt: _Attempt) -> None:
        """Have it do a job."""
        self.attempt = attempt
        assert self.process.stdin is not None
        self._log.truncate(0)
        with contextlib.suppress(BrokenPipeError):  # it is dead: the listener tells
            self.process.stdin.write(attempt.job.written().encode() + b"\n")
            self.process.stdin.flush()

    def buried(self) -> str:
        """Return how it ended and the last lines it wrote, once it is dead."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # its pipe is shut, so it is about to end
            self.process.wait(_GRACE_S)
        self._kill()
        status = self.process.returncode
        how = f"by signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"with exit status {status}"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()[-_TAIL:]
        self._let_go()
        return f"{how}; " + (f"its log ends with: {' / '.join(lines)}" if lines else "its log is empty")

    def end(self) -> None:
        """Kill it and all it has started."""
        self._kill()
        self._let_go()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _let_go(self) -> None:
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self._log):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            files = {name: self.process.stdout.read(size) for name, size in told["sizes"].items()}
            if [len(data) for data in files.values()] != list(told["sizes"].values()):
                break  # killed while it answered
            self._news.put((self, done_of(told["answer"], files)))
        self._news.put((self, None))


class ProcessExecutor:
    """Does ``workers`` jobs at a time, each in a process that may use ``threads`` threads."""

    def __init__(self, workers: int, *, threads: int = 1) -> None:
        self._n_workers, self._threads = workers, threads
        self._waiting: deque[_Attempt] = deque()
        self._workers: list[_Worker] = []
        self._news: queue.SimpleQueue[tuple[_Worker, Done | None]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close."""
        self.close()

    def submit(self, job: Job) -> None:
        """Take a job, and begin it if a worker is free."""
        self._waiting.append(_Attempt(job, 1))
        self._hand_out()

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done; a worker that died costs its job one retry."""
        while self._waiting or any(worker.attempt for worker in self._workers):
            self._hand_out()
            worker, done = self._news.get()
            attempt, worker.attempt = worker.attempt, None
            if done is None:
                done = self._buried(worker, attempt)
            elif attempt is not None:
                done = done.at_attempt(attempt.number)
            self._hand_out()
            if done is not None:
                yield done

    def close(self) -> None:
        """Kill what runs."""
        self._waiting.clear()
        while self._workers:
            self._workers.pop().end()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((worker for worker in self._workers if worker.attempt is None), None)
            if free is None:
                if len(self._workers) == self._n_workers:
                    return
                self._workers.append(free := _Worker(self._threads, self._news))
            free.begin(self._waiting.popleft())

    def _buried(self, worker: _Worker, attempt: _Attempt | None) -> Done | None:
        """Take a dead worker away; return what its job came to, None if it is to be tried again."""
        self._workers.remove(worker)
        how = worker.buried()
        if attempt is None:
            return None
        if attempt.number < ATTEMPTS:
            self._waiting.appendleft(_Attempt(attempt.job, attempt.number + 1))
            return None
        return died(attempt.job.key, how)
