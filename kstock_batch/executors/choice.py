"""The executor that somebody asked for."""

from kstock_batch.errors import ConfigError
from kstock_batch.executors.jobs import Executor
from kstock_batch.executors.processes import ProcessExecutor
from kstock_batch.executors.serial import SerialExecutor

KINDS = ("serial", "process", "ray")


def chosen_kind(executor: str | None, workers: int, address: str | None) -> str:
    """Return which executor is meant where none was named, and refuse what contradicts itself."""
    kind = executor or ("ray" if address else "process" if workers > 1 else "serial")
    if kind not in KINDS:
        raise ConfigError(f"there is no executor {kind!r}", fix=f"use one of {list(KINDS)}")
    if address is not None and kind != "ray":
        raise ConfigError(f"--address {address} is of a Ray cluster", fix="add --executor ray, or leave it out")
    if kind == "serial" and workers > 1:
        raise ConfigError(
            f"--executor serial has one worker, not {workers}", fix="leave --workers out, or use --executor process"
        )
    return kind


def make_executor(
    kind: str | None, *, workers: int, address: str | None = None, threads: int = 1, object_store_mb: int = 256
) -> Executor:
    """Return an executor; the caller closes it.

    Parameters
    ----------
    kind : one of ``KINDS``; None = ray at an address, else processes if there are to be several workers
    workers : jobs at a time
    address : of a Ray cluster to join; None = one of its own on this machine
    threads : that a worker may use
    object_store_mb : most memory that a Ray node of our own keeps answers in
    """
    kind = chosen_kind(kind, workers, address)
    if kind == "serial":
        return SerialExecutor()
    if kind == "process":
        return ProcessExecutor(workers, threads=threads)
    from kstock_batch.executors.ray_cluster import RayExecutor

    return RayExecutor(workers, address=address, threads=threads, object_store_mb=object_store_mb)
