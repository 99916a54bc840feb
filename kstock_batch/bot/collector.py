"""Python's garbage collector, kept waiting while thousands of rows are made that all stay.

A session is 2,400 rows. Making them has the collector look seven times for garbage that cannot be there, and every few
publications look through all that the process holds: 6 ms in a process that holds nothing else, far more in a bot.
Rows are freed when nothing refers to them any more; that needs no collector.

Standard library and Python 3.9 syntax only.
"""

from __future__ import annotations

import gc
import os
import threading


class CollectorPause:
    """A context in which the collector rests, for all threads; it is left as it was found, whatever happens inside.

    Several threads may be inside at once: the first to enter notes whether the collector was on, the last to leave
    turns it on again. A program that keeps it off finds it off.
    """

    def __init__(self) -> None:
        self._begin_anew()
        if hasattr(os, "register_at_fork"):  # a child has none of the threads that would leave
            os.register_at_fork(after_in_child=self._leave_all)

    def __enter__(self) -> None:
        """Have the collector rest."""
        with self._lock:
            if not self._n_inside:
                self._was_on = gc.isenabled()
            self._n_inside += 1
            gc.disable()

    def __exit__(self, *_: object) -> None:
        """Leave; the last one restores what the first one found."""
        with self._lock:
            self._n_inside -= 1
            if self._was_on and not self._n_inside:
                gc.enable()

    def _leave_all(self) -> None:
        if self._n_inside and self._was_on:
            gc.enable()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self._n_inside, self._was_on = 0, False


collector_pause = CollectorPause()
