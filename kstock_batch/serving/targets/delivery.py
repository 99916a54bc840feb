"""Delivery: every target of the settings gets the publication's content.

One that fails stops neither the others nor the night, which is published already; the record (record.py) tells of it
until it holds what is published. One process delivers at a time, so that a rollback and a night do not build in the
same places, and each delivers what it then finds in place: the last one delivers what stays.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.errors import KStockError, TargetFailed, WarehouseLocked
from kstock_batch.serving.targets.content import Content, published_content, unreadable
from kstock_batch.serving.targets.failures import failures_named
from kstock_batch.serving.targets.record import DeliveryRecord
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run, Stage
from kstock_batch.store.lock import lock_holder, release_lock, take_lock


@dataclass(frozen=True)
class Delivery:
    """A target that holds the content; ``n_written`` counts the predictions, 0 = it held them before."""

    target: str
    place: str
    n_written: int

    @property
    def told(self) -> str:
        """Return a line about it."""
        return f"{self.target}: {self.place}" + ("" if self.n_written else ", as it was")


@dataclass(frozen=True)
class Deliveries:
    """What became of the targets: those that hold what is published, and why the others do not."""

    done: list[Delivery] = field(default_factory=list)
    failed: dict[str, KStockError] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """Return JSON values."""
        done = [{**vars(delivery), "error": None} for delivery in self.done]
        failed = [
            {"target": name, "place": None, "n_written": 0, "error": error.what} for name, error in self.failed.items()
        ]
        return [*done, *failed]

    def told(self) -> str:
        """Return what a summary adds: which targets do not hold the night."""
        return f"; not delivered to {', '.join(self.failed)}" if self.failed else ""

    def require_all(self, what: str = "the night is published", *, fix: str | None = None) -> None:
        """Raise if a target does not hold ``what`` was done; ``fix`` = what to do, if not what each error says."""
        if self.failed:
            whats = "; ".join(f"{name}: {error.what}" for name, error in self.failed.items())
            fixes = dict.fromkeys(error.fix for error in self.failed.values())
            raise TargetFailed(f"{what}, but not to every target: {whats}", fix=fix or "; ".join(fixes))


def deliver(settings: Settings, run: Run | None, environ: Mapping[str, str] = os.environ) -> Deliveries:
    """Write the serving file's content to every target of the settings, each a stage of the run, where there is one."""
    deliveries, record = Deliveries(), DeliveryRecord(settings.published)
    if not settings.targets:
        return deliveries
    try:
        with _alone(settings.published), published_content(settings.published, threads=settings.threads) as content:
            for name in settings.targets:
                try:
                    delivery = _delivered(name, content, settings, run, environ=environ)
                    record.holds(name, content.run_id)
                    deliveries.done.append(delivery)
                except KStockError as error:
                    deliveries.failed[name] = error
                    with suppress(KStockError):  # then it still names what was held before, which tells as much
                        record.failed(name, error.what)
    except KStockError as error:
        deliveries.failed.update(dict.fromkeys(settings.targets, error))
    return deliveries


def lock_of_deliveries(published: Path) -> Path:
    """Return the lock that whoever delivers holds."""
    return published.with_name("targets.lock")


@contextmanager
def _alone(published: Path) -> Iterator[None]:
    """Keep every other process from delivering."""
    path = lock_of_deliveries(published)
    with failures_named(path):
        try:
            lock = take_lock(path)
        except WarehouseLocked as error:
            raise TargetFailed(
                f"{lock_holder(path) or 'another process'} is delivering to the targets",
                fix="wait for it to finish, then run the same command again",
            ) from error
    try:
        yield
    finally:
        release_lock(lock, is_writer=True)


def _stage(run: Run | None, name: str) -> AbstractContextManager[Stage]:
    return nullcontext(Stage()) if run is None else run.stage(f"target {name}")


def _delivered(
    name: str, content: Content, settings: Settings, run: Run | None, *, environ: Mapping[str, str]
) -> Delivery:
    with _stage(run, name) as stage:
        try:
            place, is_new = _write(name, content, settings, environ)
            stage.n_rows = content.n_rows("prediction") if is_new else 0
        except duckdb.Error as error:
            raise unreadable(settings.published, error) from error
    return Delivery(name, place, stage.n_rows)


def _write(name: str, content: Content, settings: Settings, environ: Mapping[str, str]) -> tuple[str, bool]:
    """Return where the target is, and whether it had to be written."""
    # Imported here: a night without targets waits for none of their libraries.
    if name == "parquet":
        from kstock_batch.serving.targets.parquet import CURRENT, write_parquet

        folder = settings.published.with_name("parquet")
        is_new = write_parquet(content, folder)
        return str(folder / CURRENT), is_new
    if name == "sqlite":
        from kstock_batch.serving.targets.sqlite import write_sqlite

        file = settings.published.with_suffix(".sqlite")
        return str(file), write_sqlite(content, file)
    from kstock_batch.serving.targets.postgres import SCHEMA, write_postgres
    from kstock_batch.serving.targets.server import Server

    server = Server.named_in(environ)
    is_new = write_postgres(content, server)
    return f"{server.place}, schema {SCHEMA}", is_new
