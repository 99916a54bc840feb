"""The command line: options in, one call per command, errors translated once."""

import os
import sys

# Read once, when numpy and the learning libraries are loaded: OpenMP threads that spin while they wait crawl where
# another job has a core (LightGBM on a busy machine: 3 x slower), and OpenBLAS's pool gains the small products of
# scoring nothing. Here, because the bot must not inherit them from `import kstock_batch`.
_LIBRARY_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    """Run ``kstock-batch``; on an older Python, where only the bot's reader is installed, say so."""
    if sys.version_info < (3, 11):  # noqa: UP036  # the wheel installs on 3.9 for the sake of kstock_batch.bot
        sys.exit("kstock-batch needs Python 3.11 or newer; on this one only `kstock_batch.bot` works")
    for name, value in _LIBRARY_THREADS.items():
        os.environ.setdefault(name, value)
    from kstock_batch.cli.app import cli
    from kstock_batch.logs import show_traceback

    sys.excepthook = show_traceback
    cli()
