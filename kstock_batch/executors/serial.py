"""Jobs one after the other, in this process."""

from collections import deque
from collections.abc import Iterator
from typing import Self

from kstock_batch.executors.jobs import Done, Job, performed


class SerialExecutor:
    """Does jobs in the order they were taken."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *raised: object) -> None:
        """Close."""
        self.close()

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs.append(job)

    def finished(self) -> Iterator[Done]:
        """Yield every job taken as it is done."""
        while self._jobs:
            yield performed(self._jobs.popleft())

    def close(self) -> None:
        """Forget what was not begun."""
        self._jobs.clear()
