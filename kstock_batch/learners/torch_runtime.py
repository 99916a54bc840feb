"""How torch is run here: which device, which seed, how many threads, and an allocator that keeps its pages.

Python 3.9 syntax and torch only, because the bot trains and asks its LSTM with it.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager

import torch

from kstock_batch.errors import ConfigError

DEVICES = ("cpu", "auto", "cuda", "mps")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_GLIBC_DEFAULT = 128 * 1024


def find_device(name: str) -> torch.device:
    """Return the device called ``name``; "auto" is cuda where there is one, else cpu."""
    if name not in DEVICES:
        raise ConfigError(f"device {name!r} is not one torch is run on here", fix=f"use one of {list(DEVICES)}")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":  # never mps: its results were never compared with a processor's
        name = "cuda" if present["cuda"] else "cpu"
    if not present[name]:
        raise ConfigError(
            f"device {name!r} was asked for, but torch {torch.__version__} finds none on this machine",
            fix="use device 'auto' or 'cpu', or install a torch built for that device and its driver",
        )
    return torch.device(name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fix torch's seed, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the processor, whatever device trains them
        torch.manual_seed(seed)
        yield


@contextmanager
def workers(n_threads: int) -> Iterator[Executor]:
    """Yield ``n_threads`` threads whose torch operations use one core each, and leave torch's setting as it was.

    How an operation divides its work among cores decides the last bit of its sums: with one core each, results do
    not depend on ``n_threads``.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@contextmanager
def freed_pages_kept() -> Iterator[None]:
    """Stop glibc from giving each batch's buffers back to the kernel: faulting them in again halves the speed."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set_thresholds(libc, 1 << 30)
    try:
        yield
    finally:
        _set_thresholds(libc, _GLIBC_DEFAULT)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, n_bytes: int) -> None:
    """Set from which size on glibc maps a buffer on its own, and how much free memory it returns."""
    libc.mallopt(_M_MMAP_THRESHOLD, n_bytes)
    libc.mallopt(_M_TRIM_THRESHOLD, n_bytes)
