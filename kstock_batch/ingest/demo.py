"""The sample market as a source: written once, then ingested like any other folder."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from kstock_batch.errors import ConfigError
from kstock_batch.files import disk_full_is_named, write_atomically
from kstock_batch.ingest.pipeline import Upserted, ingest_files
from kstock_batch.ingest.sources.files import load_mapping, locate
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.store.warehouse import Warehouse

RECIPE = "recipe.txt"  # what a sample folder was made from: the same recipe need not be made again


@dataclass(frozen=True)
class WrittenDemo:
    """A sample market on disk."""

    folder: Path
    n_datasets: int


def write_demo(folder: Path, end: date, *, n_sessions: int, n_tickers: int, seed: int, signal: float) -> WrittenDemo:
    """Make ``folder`` hold the sample market of that recipe, ending on the last session at or before ``end``."""
    recipe = f"{end} {n_sessions} sessions {n_tickers} tickers seed {seed} signal {signal}\n"
    note = folder / RECIPE
    if not (note.exists() and note.read_text(encoding="utf-8") == recipe):
        sessions = krx_sessions(end - timedelta(days=2 * n_sessions), end)[-n_sessions:]
        with disk_full_is_named(folder):
            generate(sessions, n_tickers=n_tickers, seed=seed, signal=signal).write(folder)
        write_atomically(note, recipe.encode())  # last: its presence says that the files are whole
    return WrittenDemo(folder, len(locate(folder, load_mapping())))


def ingest_demo(
    settings: Settings, folder: Path, *, at: datetime, advance: Callable[[str], None]
) -> tuple[list[Upserted], float]:
    """Ingest a sample folder into a store that holds nothing else; return what happened and the seconds."""
    with opened_run(settings, "demo", at=at) as run:
        require_no_real_data(run.warehouse)
        upserted = ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run, advance=advance)
        run.summary = f"{sum(u.n_new for u in upserted):,} new rows"
    return upserted, run.seconds


def require_no_real_data(warehouse: Warehouse) -> None:
    """Raise if another command than ``demo`` has ingested into the store: invented prices must not meet real ones."""
    other = warehouse.con.execute(
        "SELECT command, started_at FROM run WHERE command LIKE 'ingest%' AND status = 'done'"
        " ORDER BY started_at LIMIT 1"
    ).fetchall()
    if other:
        raise ConfigError(
            f"{warehouse.path} holds data of `{other[0][0]}` ({other[0][1]:%Y-%m-%d}): no place for invented prices",
            fix="give the demo a folder of its own: `kstock-batch --root DIR demo`",
        )
