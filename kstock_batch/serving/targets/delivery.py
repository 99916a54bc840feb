"""Delivery: every target of the settings gets the publication's content.

One that fails stops neither the others nor the night, which is published already.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb

from kstock_batch.errors import KStockError, TargetFailed
from kstock_batch.serving.targets.content import Content, published_content, unreadable
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run


@dataclass(frozen=True)
class Delivery:
    """A target that holds the content; ``n_written`` counts the predictions, 0 = it held them before."""

    target: str
    place: str
    n_written: int


@dataclass(frozen=True)
class Deliveries:
    """What became of the targets of a night: those that hold it, and why the others do not."""

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

    def require_all(self) -> None:
        """Raise if a target does not hold the night."""
        if self.failed:
            whats = "; ".join(f"{name}: {error.what}" for name, error in self.failed.items())
            fixes = dict.fromkeys(error.fix for error in self.failed.values())
            raise TargetFailed(f"the night is published, but not to every target: {whats}", fix="; ".join(fixes))


def deliver(settings: Settings, run: Run, environ: Mapping[str, str] = os.environ) -> Deliveries:
    """Write the serving file's content to every target of the settings, each a stage of the run."""
    deliveries = Deliveries()
    if not settings.targets:
        return deliveries
    try:
        with published_content(settings.published, threads=settings.threads) as content:
            for name in settings.targets:
                try:
                    deliveries.done.append(_delivered(name, content, settings, run, environ=environ))
                except KStockError as error:
                    deliveries.failed[name] = error
    except TargetFailed as error:
        deliveries.failed.update(dict.fromkeys(settings.targets, error))
    return deliveries


def _delivered(name: str, content: Content, settings: Settings, run: Run, *, environ: Mapping[str, str]) -> Delivery:
    with run.stage(f"target {name}") as stage:
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
