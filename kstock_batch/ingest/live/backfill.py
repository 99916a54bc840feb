"""The backfill: sessions of years, one after the other, each dataset of each from the first source that has it whole.

What is stored is not asked for again, so an interrupted backfill goes on where it stopped; whatever ends it, at most
the day under way is lost.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import Any

from kstock_batch.errors import BudgetSpent, ConfigError, DataNotReady, KStockError
from kstock_batch.ingest.live.asking import Asker, Reach, Reply
from kstock_batch.ingest.live.batches import Known
from kstock_batch.ingest.live.closed_days import NEAR, settle_day
from kstock_batch.ingest.live.datasets import DATASETS, LiveDataset
from kstock_batch.ingest.live.intake import Intake
from kstock_batch.ingest.live.night import in_order, prepare, ready
from kstock_batch.ingest.sources.live import Source, Span
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run

Advance = Callable[..., None]


@dataclass
class Backfill:
    """What a backfill stored, and what it could not get.

    Attributes
    ----------
    n_wanted, n_done_before : (dataset, session) pairs of the span, and those that were stored before
    missing : pairs that no source gave whole: dataset to its sessions and what became of the sources at the first
    learnt : what the answers showed of the calendar
    stopped_by : why the sources of a dataset were not asked to the end
    """

    start: date
    end: date
    n_wanted: int = 0
    n_done_before: int = 0
    n_done: int = 0
    missing: dict[str, tuple[list[date], str]] = field(default_factory=dict)
    learnt: list[str] = field(default_factory=list)
    stopped_by: dict[str, KStockError] = field(default_factory=dict)
    n_new: int = 0
    n_changed: int = 0
    n_calls: int = 0

    @property
    def summary(self) -> str:
        """Return what came of it, as a sentence."""
        before = f", {self.n_done_before:,} were done before" if self.n_done_before else ""
        lacking = sum(len(days) for days, _ in self.missing.values())
        return (
            f"{self.n_done:,} sessions of datasets done of {self.start} … {self.end}{before}, {lacking:,} missing:"
            f" {self.n_new:,} new rows, {self.n_changed:,} changed with {self.n_calls:,} calls"
        )

    def remarks(self) -> list[str]:
        """Return what a person should know, a sentence each."""
        told = [
            f"missing: {name} of {len(days):,} sessions, the first {days[0]} ({why})"
            for name, (days, why) in self.missing.items()
        ]
        return told + self.learnt + [f"stopped: {name}: {error.what}" for name, error in self.stopped_by.items()]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        missing = {name: {"sessions": days, "why": why} for name, (days, why) in self.missing.items()}
        return {**vars(self), "missing": missing, "stopped_by": {k: e.what for k, e in self.stopped_by.items()}}

    def require_complete(self) -> None:
        """Raise if sessions lack what no night is complete without, or if a day's calls ended it."""
        if spent := next((error for error in self.stopped_by.values() if isinstance(error, BudgetSpent)), None):
            raise BudgetSpent(
                f"{spent.what}: {self.n_done_before + self.n_done:,} of {self.n_wanted:,} are done",
                fix="run the same command again tomorrow: it goes on where it stopped",
            )
        needed = [
            f"{name} of {len(days):,} sessions from {days[0]} ({why})"
            for name, (days, why) in self.missing.items()
            if DATASETS[name].is_needed
        ]
        if needed:
            raise DataNotReady(
                f"{self.start} … {self.end} lacks {' and '.join(needed)}",
                fix="run the same command again later, what is done is not asked again; or name another --source",
            )


def run_backfill(
    run: Run,
    settings: Settings,
    sources: Sequence[Source],
    *,
    start: date,
    end: date,
    datasets: Sequence[str] = (),
    advance: Advance = lambda *_, **__: None,
) -> Backfill:
    """Ask for every session from ``start`` through ``end`` that is not stored; ``datasets``: of these only."""
    timetable = prepare(run, settings)
    if unknown := sorted(set(datasets) - DATASETS.keys()):
        raise ConfigError(f"no dataset is called {', '.join(unknown)}", fix=f"use any of {', '.join(DATASETS)}")
    asker = Asker(ready(sources), Reach(start, end))
    known = Known.between(run.warehouse.con, start - NEAR, end + NEAR)
    work = _Work(run, asker, Intake(settings, run, timetable, known), Backfill(start, end), advance)
    chosen = in_order(run, [DATASETS[name] for name in datasets or DATASETS if asker.offering(name)])
    wanted = {dataset.name: timetable.final_sessions(dataset, start, end, run.started_at) for dataset in chosen}
    work.plan(chosen, wanted)
    with run.stage("ask for spans"):
        work.ask_for_spans()
    with run.stage("ask for sessions"):
        work.ask_for_sessions()
    return work.told()


class _Work:
    """One backfill under way."""

    def __init__(self, run: Run, asker: Asker, intake: Intake, backfill: Backfill, advance: Advance) -> None:
        self.run, self.asker, self.intake, self.backfill, self.advance = run, asker, intake, backfill, advance
        self.due: dict[str, list[date]] = {}
        self.datasets: list[LiveDataset] = []

    def plan(self, datasets: list[LiveDataset], wanted: dict[str, list[date]]) -> None:
        """Note what is to be asked for."""
        self.datasets = datasets
        known = self.intake.known
        self.due = {name: [day for day in days if not known.done_by(name, day)] for name, days in wanted.items()}
        self.backfill.n_wanted = sum(map(len, wanted.values()))
        self.backfill.n_done_before = self.backfill.n_wanted - sum(map(len, self.due.values()))
        self.advance(None, steps=self.backfill.n_done_before, total=max(self.backfill.n_wanted, 1))

    def ask_for_spans(self) -> None:
        """Ask for what has no sessions of its own, from sources that tell of a whole span in one answer."""
        for dataset in self.datasets:
            offering = self.asker.offering(dataset.name)
            if not dataset.table.on_session:
                for days in _spans(dataset, self.due[dataset.name]):
                    self._ask_in_order(dataset, days, offering if dataset.is_open_ended else offering[:1], span="range")

    def ask_for_sessions(self) -> None:
        """Ask session by session, so that what is stored is whole nights."""
        daily: dict[date, list[LiveDataset]] = defaultdict(list)
        for dataset in self.datasets:
            for day in self.due[dataset.name]:
                if not dataset.is_open_ended and not self.intake.known.done_by(dataset.name, day):
                    daily[day].append(dataset)
        for day in sorted(daily):
            for dataset in in_order(self.run, daily[day]):  # a new store has a listing after its first session
                if day in self.intake.timetable.sessions:  # it may just have turned out to be none
                    self._ask_in_order(dataset, [day], self.asker.offering(dataset.name))

    def _ask_in_order(
        self, dataset: LiveDataset, days: list[date], sources: Sequence[Source], *, span: Span | None = None
    ) -> None:
        """Ask the sources (those whose answer covers ``span``) until one has the days whole."""
        chosen = [source for source in sources if span in (None, source.offers[dataset.name])]
        if all(self.asker.why_shut(source, dataset.name) for source in chosen):
            return
        self.advance(f"{dataset.name} of {days[-1]}", steps=0)
        replies: list[tuple[str, Reply]] = []
        for source in chosen:
            reply = self.asker.ask(source, dataset.name, days[0] - dataset.overlap, days[-1])
            if self.intake.receive(source.name, dataset, days, reply).is_done:
                self.backfill.n_done += len(days)
                return self.advance(None, steps=len(days))
            replies.append((source.name, reply))
        if dataset.name == "price" and (learnt := settle_day(self.intake, days[-1], replies)):
            self.backfill.learnt.append(learnt)

    def told(self) -> Backfill:
        """Return what came of it."""
        backfill, known = self.backfill, self.intake.known
        for dataset in self.datasets:
            open_days = [day for day in self.due[dataset.name] if day in self.intake.timetable.sessions]
            if missing := [day for day in open_days if not known.done_by(dataset.name, day)]:
                asked = [str(batch) for day in missing[:1] for batch, _ in known.of(dataset.name, day).values()]
                backfill.missing[dataset.name] = (missing, "; ".join(asked) or "nobody could be asked any more")
                shut = (self.asker.why_shut(source, dataset.name) for source in self.asker.offering(dataset.name))
                if errors := [error for error in shut if error]:
                    backfill.stopped_by[dataset.name] = errors[-1]
        backfill.n_new, backfill.n_changed = self.intake.n_new, self.intake.n_changed
        backfill.n_calls = self.asker.n_calls
        return backfill


def _spans(dataset: LiveDataset, days: list[date]) -> Iterator[list[date]]:
    """Yield the days of each question: a kill must not cost the filings of years, which are many answers."""
    for _, span in groupby(days, key=lambda day: (day.year, day.month) if dataset.name == "financial" else None):
        yield list(span)
