"""The night: every dataset of the session from the first source that has it whole, and what earlier nights missed.

1. What earlier nights left undone (late data, blocks, a night that did not run), oldest first, as long as half of the
   night's calls are left for the session itself.
2. The session: each dataset from the sources in their order until one gives it whole.
3. Second opinions of the last sessions (cross_check.py), while calls are left.

What is provisional is not asked for. What is done is not asked for again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from kstock_batch.errors import ConfigError, DataNotReady
from kstock_batch.ingest.calendar import extend_calendar
from kstock_batch.ingest.live.asking import Asker, Reply
from kstock_batch.ingest.live.batches import Batch, Known
from kstock_batch.ingest.live.closed_days import NEAR, settle_day
from kstock_batch.ingest.live.cross_check import SESSIONS_BACK, Checked, check, due_checks
from kstock_batch.ingest.live.datasets import DATASETS, LiveDataset
from kstock_batch.ingest.live.intake import Intake
from kstock_batch.ingest.live.timing import Timetable
from kstock_batch.ingest.pipeline import require_one_kind
from kstock_batch.ingest.sources.live import Source
from kstock_batch.market.sessions import KST_OFFSET, Sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run

EMPTY_SESSIONS_BACK = 5  # what nobody has after a week nobody will have

Advance = Callable[[str], None]


@dataclass
class Night:
    """What a night asked and got.

    Attributes
    ----------
    provisional : datasets that are not final yet, with the time in Seoul from which they are
    missing : datasets that no source gave for their newest session, with what became of the sources
    n_undone : (dataset, session) pairs of earlier nights that are left for the next ones
    learnt : what the answers showed of the calendar
    gap : sessions before those that a night goes back to, of which there are no prices
    """

    as_of: date
    is_closed: bool = False
    batches: Sequence[Batch] = ()
    checks: list[Checked] = field(default_factory=list)
    provisional: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    n_undone: int = 0
    learnt: list[str] = field(default_factory=list)
    gap: tuple[date, date] | None = None
    n_new: int = 0
    n_changed: int = 0
    n_calls: int = 0

    @property
    def summary(self) -> str:
        """Return what came of the night, as a sentence."""
        if self.is_closed:
            return f"{self.as_of} was no session of the exchange: {self.n_new:,} new rows of other days"
        stored = f"{self.n_new:,} new rows, {self.n_changed:,} changed as-of {self.as_of} with {self.n_calls:,} calls"
        disagreeing = sum(check.n_disagreeing for check in self.checks)
        compared = f", {len(self.checks)} cross-checks: {disagreeing:,} rows disagree" if self.checks else ""
        lacking = f", missing: {', '.join(self.missing)}" if self.missing else ""
        rejected = sum(batch.n_rejected for batch in self.batches)
        set_aside = f", {rejected:,} rejected (see table quarantine)" if rejected else ""
        return f"{stored}{set_aside}{compared}{lacking}"

    def remarks(self) -> list[str]:
        """Return what a person should know beside the table, a sentence each."""
        told = [f"{name} is provisional until {at} in Seoul: not asked for" for name, at in self.provisional.items()]
        told += [f"missing: {name} ({why})" for name, why in self.missing.items()]
        told += self.learnt
        told += [str(check) for check in self.checks if check.n_disagreeing]
        if self.n_undone:
            told.append(f"{self.n_undone:,} sessions of datasets of earlier nights are left for the next ones")
        if self.gap:
            first, last = self.gap
            told.append(
                f"the store has no prices from {first} to {last}:"
                f" run `kstock-batch ingest backfill --from {first} --to {last}`"
            )
        return told

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        batches = [batch.row() for batch in self.batches]
        checks = [{**vars(check), "is_disputed": check.is_disputed} for check in self.checks]
        return {**vars(self), "batches": batches, "checks": checks}

    def require_complete(self) -> None:
        """Raise if the session lacks what no night is complete without."""
        needed = [f"{name} ({why})" for name, why in self.missing.items() if DATASETS[name].is_needed]
        if needed:
            raise DataNotReady(
                f"{self.as_of} lacks {' and '.join(needed)}",
                fix="run `kstock-batch ingest` again later, what is done is not asked again;"
                " `kstock-batch doctor` tells what each source needs",
            )


def prepare(run: Run, settings: Settings) -> Timetable:
    """Make the calendar reach past now and return it; refuse a store of invented prices."""
    with run.warehouse.transaction() as con:
        require_one_kind(con, run)
        return Timetable(extend_calendar(con, settings, run))


def ready(sources: Sequence[Source]) -> list[Source]:
    """Return the sources that can be asked; none is an error."""
    lacking = {source.name: source.needs() for source in sources}
    if usable := [source for source in sources if not lacking[source.name]]:
        return usable
    told = "; ".join(f"{name}: {needs[0].what}" for name, needs in lacking.items())
    raise ConfigError(f"no live source can be asked ({told})", fix="`kstock-batch doctor` says how to come by each")


def run_night(
    run: Run, settings: Settings, sources: Sequence[Source], *, as_of: date | None, advance: Advance = lambda _: None
) -> Night:
    """Ask for ``as_of`` (default: the newest session whose prices are final) and for what earlier nights missed."""
    timetable = prepare(run, settings)
    day = as_of or timetable.newest_final_session(run.started_at)
    run.as_of = day
    timetable.require_reached(day)
    if day not in timetable.sessions:
        return Night(day, is_closed=True)
    timetable.require_final(day, run.started_at)
    evening = _Evening(run, settings, timetable, Asker(ready(sources)), day, advance)
    evening.catch_up()
    evening.ask_for_the_session()
    evening.hear_others()
    return evening.told({name for source in sources for name in source.offers})


class _Evening:
    """One night under way."""

    def __init__(
        self, run: Run, settings: Settings, timetable: Timetable, asker: Asker, day: date, advance: Advance
    ) -> None:
        self.run, self.settings, self.asker, self.advance = run, settings, asker, advance
        self.night = Night(day)
        self.first = self._first_session(timetable.sessions)
        near = Known.between(run.warehouse.con, self.first - NEAR, day)
        self.intake = Intake(settings, run, timetable, near)
        self.datasets = in_order(run, [dataset for dataset in DATASETS.values() if asker.offering(dataset.name)])

    @property
    def sessions(self) -> Sessions:
        """The sessions as they are known by now."""
        return self.intake.timetable.sessions

    @property
    def finals(self) -> dict[str, list[date]]:
        """The sessions whose rows are final, of each dataset that has some."""
        table, span = self.intake.timetable, (self.first, self.night.as_of)
        found = {one.name: table.final_sessions(one, *span, self.run.started_at) for one in self.datasets}
        return {name: days for name, days in found.items() if days}

    def catch_up(self) -> None:
        """Ask for what earlier nights left undone, oldest session first, so that facts arrive in their order."""
        daily = [dataset for dataset in self.datasets if dataset.name in self.finals and not dataset.is_open_ended]
        missed = sorted((day, n) for n, dataset in enumerate(daily) for day in self._undone(dataset)[0])
        with self.run.stage("ask for earlier sessions"):
            for day, n in missed:
                if 2 * self.asker.n_calls < self.settings.calls_a_night and day in self.sessions:
                    self._ask(daily[n], [day])
        self.night.n_undone = sum(len(self._undone(dataset)[0]) for dataset in daily)

    def ask_for_the_session(self) -> None:
        """Ask for each dataset's newest session that is final; what has no session of its own, for all that is due."""
        for dataset in self.datasets:
            if dataset.name not in self.finals:
                continue
            earlier, newest = self._undone(dataset)
            if newest:
                with self.run.stage(f"ask for {dataset.name}"):
                    self._ask(dataset, [*(earlier if dataset.is_open_ended else []), *newest])

    def hear_others(self) -> None:
        """Ask for second opinions of the last sessions."""
        days = self.sessions.between(self.sessions.back(self.night.as_of, SESSIONS_BACK - 1), self.night.as_of)
        with self.run.stage("hear second opinions"):
            for source, dataset, day in due_checks(self.asker, self.intake, self.datasets, days):
                if self.asker.n_calls >= self.settings.calls_a_night:
                    return
                self.advance(f"{source.name}: second opinion of {dataset.name} of {day}")
                reply = self.asker.ask(source, dataset.name, day, day)
                if checked := check(self.intake, source, dataset, day, reply):
                    self.night.checks.append(checked)

    def told(self, offered: set[str]) -> Night:
        """Return what came of it; ``offered``: what the chosen sources have, whether or not they can be asked."""
        night, now = self.night, self.run.started_at
        night.is_closed = night.as_of not in self.sessions
        finals = {} if night.is_closed else self.finals
        for name, dataset in DATASETS.items():
            newest = finals.get(name, [None])[-1]
            if newest is None and not night.is_closed and dataset.is_needed and name in offered:
                night.missing[name] = "no source that can be asked has it"
            elif newest and not self.intake.known.done_by(name, newest):
                asked = [str(batch) for batch, _ in self.intake.known.of(name, newest).values()]
                night.missing[name] = "; ".join(asked)
            if name in {d.name for d in self.datasets} and not dataset.plus_sessions:
                at = self.intake.timetable.final_at(dataset, self.sessions.at_or_before(night.as_of))
                night.provisional |= {name: f"{at + KST_OFFSET:%H:%M}"} if at > now else {}
        intake = self.intake
        night.batches, night.gap = intake.batches, self._gap()
        night.n_new, night.n_changed, night.n_calls = intake.n_new, intake.n_changed, self.asker.n_calls
        return night

    def _ask(self, dataset: LiveDataset, days: list[date]) -> None:
        """Ask the sources in their order until one has the days whole; learn from prices that nobody has."""
        replies: list[tuple[str, Reply]] = []
        for source in self.asker.offering(dataset.name):
            if dataset.is_open_ended and source.offers[dataset.name] != "range":
                continue  # it adds single days of its own to the others' series: see hear_others
            self.advance(f"{source.name}: {dataset.name} of {days[-1]}")
            reply = self.asker.ask(source, dataset.name, days[0] - dataset.overlap, days[-1])
            if self.intake.receive(source.name, dataset, days, reply).is_done:
                return
            replies.append((source.name, reply))
        if dataset.name == "price" and (learnt := settle_day(self.intake, days[-1], replies)):
            self.night.learnt.append(learnt)

    def _undone(self, dataset: LiveDataset) -> tuple[list[date], list[date]]:
        """Return the sessions still to be asked for: the earlier ones, and the newest final one."""
        *earlier, newest = self.finals[dataset.name]
        known, long_ago = self.intake.known, self.sessions.back(self.night.as_of, EMPTY_SESSIONS_BACK)
        undone = [day for day in earlier if not known.done_by(dataset.name, day)]
        if not dataset.is_whole_market:
            undone = [day for day in undone if day > long_ago or not _all_empty(known, dataset, day)]
        return undone, [] if known.done_by(dataset.name, newest) else [newest]

    def _first_session(self, sessions: Sessions) -> date:
        """Return how far a night goes back: to the first that this store knows of."""
        window = sessions.back(self.night.as_of, self.settings.catch_up_sessions)
        (known,) = self.run.warehouse.con.execute(
            "SELECT least((SELECT min(session) FROM raw_price), (SELECT min(event_date) FROM ingest_batch))"
        ).fetchall()[0]
        return min(max(window, known or self.night.as_of), self.night.as_of)

    def _gap(self) -> tuple[date, date] | None:
        (before,) = self.run.warehouse.con.execute(
            "SELECT max(session) FROM raw_price WHERE session < $first", {"first": self.first}
        ).fetchall()[0]
        between = self.sessions.between(before, self.first)[1:-1] if before else []
        return (between[0], between[-1]) if between else None


def in_order(run: Run, datasets: Sequence[LiveDataset]) -> list[LiveDataset]:
    """Return the datasets as a night asks for them: prices first, which confirm to the listing who has left.

    The gate tells the markets apart by the listing, so a store without one begins with it.
    """
    ((n_listed,),) = run.warehouse.con.execute("SELECT count(*) FROM raw_listing").fetchall()
    usual = list(DATASETS)
    return sorted(datasets, key=lambda one: (bool(n_listed) or one.name != "listing", usual.index(one.name)))


def _all_empty(known: Known, dataset: LiveDataset, day: date) -> bool:
    asked = known.of(dataset.name, day).values()
    return bool(asked) and all(batch.status == "empty" for batch, _ in asked)
