"""A retrain's time: every part gets its share of what is left, and what a part does not need passes on to the next."""

import time
from collections.abc import Callable


class Budget:
    """Seconds to spend on parts of known relative cost; None = no limit."""

    def __init__(self, seconds: float | None, cost: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._cost_left, self._clock = seconds, cost, clock
        self._began = clock()
        self.overrun: list[str] = []

    def take(self, cost: float) -> float | None:
        """Return the seconds that a part of this ``cost`` may use, at least one."""
        share = min(1.0, cost / max(self._cost_left, 1e-9))
        self._cost_left -= cost
        if self._seconds is None:
            return None
        return max(1.0, (self._seconds - (self._clock() - self._began)) * share)

    def note(self, part: str, stopped_by: object) -> None:
        """Remember ``part`` if it was its time that ended it."""
        if stopped_by == "budget":
            self.overrun.append(part)
