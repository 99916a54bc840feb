"""The sample market as a source: written once, then ingested like any other folder."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from kstock_batch import __version__
from kstock_batch.errors import ConfigError
from kstock_batch.files import disk_full_is_named, sha256, write_atomically
from kstock_batch.ingest.pipeline import INVENTING, Upserted, ingest_files
from kstock_batch.ingest.sources.files import load_mapping, locate
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run

RECIPE = "recipe.txt"  # what a sample folder was made from, and what it held: it need not be made again


@dataclass(frozen=True)
class WrittenDemo:
    """A sample market on disk."""

    folder: Path
    n_datasets: int


def write_demo(
    folder: Path, end: date, *, n_sessions: int, n_tickers: int, seed: int, signal: float, keep: bool = False
) -> WrittenDemo:
    """Make ``folder`` hold the sample market of that recipe, ending on the last session at or before ``end``.

    ``keep``: refuse to replace another recipe's market, because a store holds its rows and would mix the two.
    """
    recipe = f"{end} {n_sessions} sessions {n_tickers} tickers seed {seed} signal {signal}, program {__version__}\n"
    note = folder / RECIPE
    if keep and note.exists() and not note.read_text(encoding="utf-8", errors="replace").startswith(recipe):
        raise ConfigError(
            f"{folder} holds another sample market than the one asked for ({recipe.strip()}), and it is in the store",
            fix="give this one a folder of its own: `kstock-batch --root DIR demo`",
        )
    if not (note.exists() and note.read_text(encoding="utf-8", errors="replace") == recipe + _digests(folder)):
        sessions = krx_sessions(end - timedelta(days=2 * n_sessions), end)[-n_sessions:]
        with disk_full_is_named(folder):
            generate(sessions, n_tickers=n_tickers, seed=seed, signal=signal).write(folder)
        write_atomically(note, (recipe + _digests(folder)).encode())  # last: it says that the files are whole
    return WrittenDemo(folder, len(locate(folder, load_mapping())))


def _digests(folder: Path) -> str:
    """Return a line for each parquet file of the folder: one that was changed, cut or deleted is made again."""
    return "".join(f"{path.name} {sha256(path)}\n" for path in sorted(folder.glob("*.parquet")))


def ingest_demo(
    settings: Settings, folder: Path, *, at: datetime, advance: Callable[[str], None]
) -> tuple[list[Upserted], float]:
    """Ingest a sample folder into a store that holds no real data; return what happened and the seconds."""
    with opened_run(settings, INVENTING, at=at) as run:
        upserted = ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run, advance=advance)
        run.summary = f"{sum(u.n_new for u in upserted):,} new rows"
    return upserted, run.seconds
