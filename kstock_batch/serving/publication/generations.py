"""Generations: the last publications, kept beside the target so that one can be put back in place in a second.

``generations/000042-<run_id>-<digest>.duckdb`` is a second name (a hard link) of the file that was published: keeping
costs no copy and no time, and a generation takes room only once the target is another. The name says in which order
they were published, whatever the clock said, and what the bytes must digest to, so nothing needs a list of its own that
could be out of step. A file is kept only after it was renamed in place: what is kept was published. A job killed
between the two has not kept it; the next one does, before anything else.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from kstock_batch.bot.publication import SCHEMA_VERSION
from kstock_batch.errors import DiskFull
from kstock_batch.files import link_or_copy, sha256
from kstock_batch.quoting import quoted_text

log = logging.getLogger(__name__)

UNREADABLE = "unreadable"  # instead of a run, for a file that cannot say which one published it
_DIGITS = 16  # of the SHA-256: enough to find damage, and a name that fits a line
_NAME = re.compile(rf"(\d{{6,}})-(.+)-([0-9a-f]{{{_DIGITS}}})\.duckdb")
_FACTS = "SELECT run_id, as_of, published_at, model_version, n_predictions, schema_version FROM {}.publication"


@dataclass(frozen=True)
class Generation:
    """A publication that was kept: ``number`` counts them, ``digest`` is what its bytes must begin to digest to."""

    path: Path
    number: int
    run_id: str
    digest: str

    @property
    def is_intact(self) -> bool:
        """Whether the bytes are still those that were published."""
        return sha256(self.path).startswith(self.digest)

    def facts(self) -> "Facts | str":
        """Return what the file says of itself, or why it cannot be read."""
        return read_facts([self.path])[0]


@dataclass(frozen=True)
class Facts:
    """What a published file says of itself."""

    run_id: str
    as_of: date
    published_at: datetime
    model_version: str
    n_predictions: int
    schema_version: int

    @property
    def misfit(self) -> str | None:
        """Return why this program and its readers refuse the file, however sound it is; None = they do not."""
        if self.schema_version == SCHEMA_VERSION:
            return None
        return f"is of schema {self.schema_version}, this program reads {SCHEMA_VERSION}"


@dataclass(frozen=True)
class WentBack:
    """That the publication of run ``restored`` is in place although ``undone`` published after it."""

    restored: str
    undone: str


class Generations:
    """The publications kept of one target; whoever changes them holds the lock of publishing."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / "generations"

    def newest_first(self) -> list[Generation]:
        """Return all that are kept, damaged ones too."""
        paths = self.folder.iterdir() if self.folder.is_dir() else ()
        named = ((path, _NAME.fullmatch(path.name)) for path in paths)
        found = [Generation(path, int(match[1]), match[2], match[3]) for path, match in named if match]
        return sorted(found, key=lambda generation: generation.number, reverse=True)

    def current(self) -> Generation | None:
        """Return the one that is in place, or None if the target is absent or was never kept."""
        if not self.target.exists():
            return None
        found = self.newest_first()
        if linked := next((one for one in found if one.path.samefile(self.target)), None):
            return linked
        # Where there are no hard links a copy was kept: the same bytes, another file.
        if not any(one.path.stat().st_size == self.target.stat().st_size for one in found):
            return None
        digest = sha256(self.target)
        return next((one for one in found if digest.startswith(one.digest)), None)

    def went_back(self) -> WentBack | None:
        """Return which publication is in place instead of a newer one; None if it is the newest, or was never kept."""
        current, newest = self.current(), next(iter(self.newest_first()), None)
        if current is None or newest is None or current == newest:
            return None
        return WentBack(current.run_id, newest.run_id)

    def damage(self, run_id: str) -> str | None:
        """Return why the file in place, which says it is ``run_id``'s, is not what was published; None if unknown."""
        try:
            digest = sha256(self.target)
        except FileNotFoundError:
            return None
        kept = self.newest_first()
        if all(one.run_id != _safe(run_id) for one in kept) or any(digest.startswith(one.digest) for one in kept):
            return None
        facts = read_facts([self.target])[0]
        if isinstance(facts, Facts) and facts.run_id != run_id:  # another was published meanwhile
            return None
        return f"{self.target} is not what {run_id} published: its bytes have changed since"

    def keep_current(self) -> None:
        """Keep the file in place if it is not kept yet."""
        with _told_rather_than_raised("the publication in place is not kept for a rollback"):
            if self.target.exists() and self.current() is None:
                facts = read_facts([self.target])[0]
                self._keep(UNREADABLE if isinstance(facts, str) else facts.run_id, sha256(self.target))

    def keep(self, run_id: str, digest: str) -> None:
        """Keep the file in place, which ``run_id`` has just published."""
        with _told_rather_than_raised(f"{run_id} is not kept for a rollback"):
            self._keep(run_id, digest)

    def _keep(self, run_id: str, digest: str) -> None:
        self.folder.mkdir(exist_ok=True)
        number = max((one.number for one in self.newest_first()), default=0) + 1
        link_or_copy(self.target, self.folder / f"{number:06}-{_safe(run_id)}-{digest[:_DIGITS]}.duckdb")

    def prune(self, n: int) -> None:
        """Delete all but the newest ``n``, never the one in place, and what a killed job left half written."""
        with _told_rather_than_raised("old publications are not deleted"):
            current = self.current()
            old = [one.path for one in self.newest_first()[n:] if one != current]
            for path in (*old, *self.folder.glob(".*")):
                path.unlink(missing_ok=True)


def _safe(run_id: str) -> str:
    """Return a run's name as part of a file's."""
    return re.sub(r"[^\w.-]", "_", run_id)


def read_facts(paths: list[Path]) -> list[Facts | str]:
    """Return what each published file says of itself, or why it cannot be read."""
    found: list[Facts | str] = []
    with duckdb.connect(":memory:", config={"threads": 1}) as con:
        for number, path in enumerate(paths):
            name = f"file_{number}"
            try:
                con.execute(f"ATTACH {quoted_text(path)} AS {name} (READ_ONLY)")
                found.append(Facts(*con.execute(_FACTS.format(name)).fetchall()[0]))
                con.execute(f"DETACH {name}")
            except (duckdb.Error, IndexError) as error:
                found.append(str(error).splitlines()[0])
    return found


@contextmanager
def _told_rather_than_raised(what: str) -> Iterator[None]:
    """Log what could not be kept or deleted: that it is published matters more, and the next job tries again."""
    try:
        yield
    except (OSError, DiskFull) as error:
        log.warning("%s: %s", what, error)
