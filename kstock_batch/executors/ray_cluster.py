"""Jobs on the nodes of a Ray cluster: one that is there, or one of our own that ends with us.

Ray could try again by itself; it is told not to, because its own count does not tell whether memory, a node or the job
was at fault, and a job must be tried as often here as anywhere.
"""

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from kstock_batch.errors import ConfigError
from kstock_batch.executors.jobs import ATTEMPTS, Done, Job, answered, died, done_of
from kstock_batch.executors.threads import limited

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_PATIENCE_S = 10.0
_FOLDER = "kstock-"


class RayExecutor:
    """Does jobs on a Ray cluster, each on ``threads`` of a node's processors.

    Parameters
    ----------
    workers : jobs at a time; a cluster of our own has processors for no more
    address : of a cluster to join, like "10.0.0.1:6379"; None = one of our own
    object_store_mb : most memory that a node of our own keeps answers in; a cluster that is there has its own limit
    """

    def __init__(
        self, workers: int, *, address: str | None = None, threads: int = 1, object_store_mb: int = 256
    ) -> None:
        if find_spec("ray") is None:
            raise ConfigError("--executor ray needs ray, which is not installed", fix="pip install 'kstock-batch[ray]'")
        self._workers, self._threads = workers, threads
        self._waiting: deque[tuple[Job, int]] = deque()
        self._running: dict[Any, tuple[Job, int]] = {}
        self._folder = "" if address else _own_folder()
        self._is_open = True
        self._on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray puts its own there, and leaves it
        try:
            self._task = _connected(address, workers * threads, threads, object_store_mb, self._folder)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close."""
        self.close()

    def submit(self, job: Job) -> None:
        """Take a job, and begin it if a worker is free."""
        self._waiting.append((job, 1))
        self._hand_out()

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done; a worker or node that was lost costs its job one retry."""
        import ray

        while self._waiting or self._running:
            self._hand_out()
            (ready, *_), _ = ray.wait(list(self._running))
            job, attempt = self._running.pop(ready)
            done: Done | None
            try:
                done = done_of(*ray.get(ready)).at_attempt(attempt)
            except ray.exceptions.RayError as error:  # a job's own errors are answers: this is a worker or a node
                done = None
                if attempt < ATTEMPTS:
                    self._waiting.appendleft((job, attempt + 1))
                else:
                    done = died(job.key, f"with Ray's {type(error).__name__}: {str(error).splitlines()[0]}")
            self._hand_out()
            if done is not None:
                yield done

    def close(self) -> None:
        """Kill what runs, leave the cluster, and end it if it is our own."""
        if not self._is_open:
            return
        import ray

        self._is_open = False
        self._waiting.clear()
        for running in self._running:
            ray.cancel(running, force=True)
        self._running.clear()
        ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            job, attempt = self._waiting.popleft()
            self._running[self._task.remote(job.written())] = (job, attempt)


def _own_folder() -> str:
    """Return a new folder for a cluster of our own, named after this process; those of processes that died go.

    Short, because sockets lie in it, whose paths may not be long.
    """
    temporary = Path(tempfile.gettempdir())
    for left in temporary.glob(f"{_FOLDER}*-*"):
        pid = left.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}-", dir=temporary)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _connected(address: str | None, n_cpus: int, threads: int, object_store_mb: int, folder: str) -> Any:
    """Join a cluster, or start one in ``folder``, and return the remote form of a job."""
    os.environ.update(_QUIET)
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        own: dict[str, Any] = {"include_dashboard": False, "_temp_dir": folder}
        ray.init("local", num_cpus=n_cpus, object_store_memory=object_store_mb * 1024**2, **own, **quiet)
    else:
        _require_heard(address)
        try:
            ray.init(address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _not_joined(address, str(error).splitlines()[0]) from error
    environ = {"env_vars": limited({}, threads)}
    return ray.remote(num_cpus=threads, max_retries=0, runtime_env=environ)(answered)


def _require_heard(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself would ask for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--address {address} is no host:port", fix="use the one that `ray start --head` prints")
    try:
        socket.create_connection((host, int(port)), timeout=_PATIENCE_S).close()
    except OSError as error:
        raise _not_joined(address, str(error)) from error


def _not_joined(address: str, why: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster can be joined at {address}: {why}",
        fix="start it with `ray start --head`, use the address it prints, and the same Python and ray on all nodes",
    )
