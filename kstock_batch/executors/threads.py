"""How many threads a worker's libraries start: told by the environment, for they ask it as they are loaded."""

import os
from collections.abc import Mapping

_COUNTS = ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
# How a product is divided among cores decides its last bit. The command line has one for all of them too.
_ONE = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def limited(environ: Mapping[str, str], n_threads: int) -> dict[str, str]:
    """Return the environment of a worker that may use ``n_threads``.

    DuckDB, LightGBM, XGBoost and the LSTM are told by the setting ``threads`` among a job's arguments. A thread that
    waits lets go of its core: the workers beside it need it.
    """
    counts = {**dict.fromkeys(_COUNTS, str(n_threads)), **dict.fromkeys(_ONE, "1")}
    return {"OMP_WAIT_POLICY": "PASSIVE", **environ, **counts}


def threads_a_worker(workers: int, cores: int | None = None) -> int:
    """Return how many threads each of ``workers`` may use of the cores: at least one."""
    return max(1, (cores or os.cpu_count() or 1) // workers)
