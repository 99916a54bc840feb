"""The cross-check: what one source stored of a day is compared with what another one says of it.

The other one is the first in the order that answers day by day; of the two the one that comes first in the order is
believed. A few values it tells otherwise are corrections, new versions that count from now. Many are two different
days or units, and then nothing is taken over: a person must look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from kstock_batch.ingest.live.agreement import compared_columns, is_beyond
from kstock_batch.ingest.live.asking import Asker, Reply
from kstock_batch.ingest.live.batches import Known
from kstock_batch.ingest.live.datasets import LiveDataset
from kstock_batch.ingest.live.intake import Intake
from kstock_batch.ingest.live.precedence import key_of, news, stored
from kstock_batch.ingest.sources.live import Source
from kstock_batch.market.sessions import seoul_date
from kstock_batch.market.tables import Table
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import insert_rows

COMPLETED = ("listing", "macro")  # one source knows industries, another one the index of Seoul
SESSIONS_BACK = 3  # KRX's own interface tells of a session on the morning after
# Sources that copy the exchange differ in single names. The audit of the official change calls 1 % of a market, at
# least three names, prices of another day; so does this one.
FEW = 2
SHARE_OF_FEW = 0.01


@dataclass(frozen=True)
class Checked:
    """One comparison: how many rows both have, and how many of those disagree."""

    dataset: str
    day: date
    source: str
    stored_by: str
    n_common: int
    n_disagreeing: int

    @property
    def is_disputed(self) -> bool:
        """Whether more disagree than single corrections explain."""
        return self.n_disagreeing > max(FEW, SHARE_OF_FEW * self.n_common)

    def __str__(self) -> str:
        """Return it as a sentence."""
        told = f"{self.n_disagreeing:,} of {self.n_common:,} rows differ between {self.stored_by} and {self.source}"
        return f"{self.dataset} of {self.day}: {told}{', nothing was taken over' if self.is_disputed else ''}"


def other_source(asker: Asker, known: Known, dataset: LiveDataset, day: date, now: datetime) -> Source | None:
    """Return who is asked for a second opinion of a day that is stored, if anybody is.

    Each once a day of Seoul at most, and of numbers that can be compared only the first in the order: its word is what
    counts. Listings and series are completed by the first that has not been heard today.
    """
    done, batches = known.done_by(dataset.name, day), known.of(dataset.name, day)
    if len(done) != 1:  # not stored yet, or heard already
        return None
    others = [
        source
        for source in asker.offering(dataset.name)
        if source.name != done[0] and source.offers[dataset.name] == "day"
    ]
    unheard = [
        source
        for source in (others[:1] if compared_columns(dataset.table) else others)
        if source.name not in batches or seoul_date(batches[source.name][1]) < seoul_date(now)
    ]
    return next((source for source in unheard if not asker.why_shut(source, dataset.name)), None)


def due_checks(
    asker: Asker, intake: Intake, datasets: Sequence[LiveDataset], days: Sequence[date]
) -> list[tuple[Source, LiveDataset, date]]:
    """Return whom to ask for a second opinion of what, the newest days first."""
    now = intake.run.started_at
    chosen = [dataset for dataset in datasets if compared_columns(dataset.table) or dataset.name in COMPLETED]
    wanted = [(dataset, day) for day in reversed(days) for dataset in chosen]
    asked = [(other_source(asker, intake.known, dataset, day, now), dataset, day) for dataset, day in wanted]
    return [(other, dataset, day) for other, dataset, day in asked if other]


def check(intake: Intake, source: Source, dataset: LiveDataset, day: date, reply: Reply) -> Checked | None:
    """Compare an answer with what is stored, keep what differs, and take over what the order says.

    None = there was no answer, or nothing to compare it with.
    """
    if not compared_columns(dataset.table):
        intake.receive(source.name, dataset, [day], reply)
        return None
    order = intake.settings.sources
    rank = {name: n for n, name in enumerate(order)}
    stored_by = intake.known.done_by(dataset.name, day)[0]
    found: list[Checked] = []

    def choose(good: pl.DataFrame) -> pl.DataFrame:
        con = intake.run.warehouse.con
        both = good.join(stored(con, dataset.table, good, rank), on=key_of(dataset.table), how="inner", validate="1:1")
        odd = disagreements(dataset.table, both)
        checked = Checked(dataset.name, day, source.name, stored_by, both.height, odd["ticker"].n_unique())
        is_believed = rank[source.name] < rank.get(stored_by, len(rank)) and not checked.is_disputed
        _keep(con, dataset.table, checked, odd, intake.run, is_believed=is_believed)
        found.append(checked)
        return news(con, dataset.table, good, order) if is_believed else good.clear()

    intake.receive(source.name, dataset, [day], reply, choose=choose)
    return found[0] if found else None


def disagreements(table: Table, both: pl.DataFrame) -> pl.DataFrame:
    """Return ticker, column_name, value (stored) and other_value of each number that is too far from its stored one."""
    parts = [
        both.filter(is_beyond(table, name, f"{name}_stored")).select(
            "ticker",
            column_name=pl.lit(name),
            value=pl.col(f"{name}_stored").cast(pl.Float64),
            other_value=pl.col(name).cast(pl.Float64),
        )
        for name in compared_columns(table)
    ]
    return pl.concat(parts)


def _keep(
    con: duckdb.DuckDBPyConnection,
    table: Table,
    checked: Checked,
    odd: pl.DataFrame,
    run: Run,
    *,
    is_believed: bool,
) -> None:
    """Make source_disagreement hold this comparison; ``is_believed``: the other's values are the stored ones now."""
    about = {"table": table.name, "day": checked.day, "one": checked.source, "other": checked.stored_by}
    con.execute(
        "DELETE FROM source_disagreement WHERE table_name = $table AND event_date = $day"
        " AND source IN ($one, $other) AND other_source IN ($one, $other)",
        about,
    )
    told = odd.with_columns(source=pl.lit(checked.stored_by), other_source=pl.lit(checked.source))
    if is_believed:
        told = told.rename(
            {"value": "other_value", "other_value": "value", "source": "other_source", "other_source": "source"}
        )
    stamped = told.with_columns(
        table_name=pl.lit(table.name),
        event_date=pl.lit(checked.day),
        run_id=pl.lit(run.run_id),
        found_at=pl.lit(run.started_at, pl.Datetime("us")),
    )
    insert_rows(con, "source_disagreement", stamped, order="ticker, column_name")
