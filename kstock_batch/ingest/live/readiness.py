"""Which sources are ready, what the others lack and would add, and what today has left of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.live.sources import ADAPTERS
from kstock_batch.ingest.sources.live import Need, Source
from kstock_batch.ingest.web.block import Block
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.market.sessions import KST_OFFSET


@dataclass(frozen=True)
class Readiness:
    """One source as it stands; ``calls_today`` None = the file that counts them cannot be read."""

    source: str
    adds: str
    datasets: tuple[str, ...]
    needs: Sequence[Need]
    block: Block | None
    calls_today: int | None
    calls_a_day: int

    @property
    def state(self) -> str:
        """Return ready, blocked, used up or missing: the first that keeps it from being asked."""
        if self.needs:
            return "missing"
        if self.block:
            return "blocked"
        is_used_up = self.calls_today is None or self.calls_today >= self.calls_a_day
        return "used up" if self.calls_a_day and is_used_up else "ready"

    def row(self) -> dict[str, Any]:
        """Return it as a row to print."""
        limit = f" of {self.calls_a_day:,}" if self.calls_a_day else ""
        calls = "unknown" if self.calls_today is None else f"{self.calls_today:,}"
        return {
            "source": self.source,
            "state": self.state,
            "calls today": f"{calls}{limit}",
            "datasets": " ".join(self.datasets),
            "adds": self.adds,
        }

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        block = self.block and {"until": self.block.until, "why": self.block.why}
        needs = [vars(need) for need in self.needs]
        return {**vars(self), "state": self.state, "needs": needs, "block": block}

    def advice(self) -> list[str]:
        """Return a sentence for each thing that keeps it from being asked, with what to do."""
        told = [f"{self.source}: {need.what}\n  fix: {need.fix}" for need in self.needs]
        if self.block:
            until = f"{self.block.until + KST_OFFSET:%Y-%m-%d %H:%M} in Seoul"
            told.append(
                f"{self.source}: shut until {until}: {self.block.why}"
                f"\n  fix: wait; if you know that it is over, `kstock-batch ingest forgive {self.source}`"
            )
        return told


def readiness(sources: Sequence[Source], state: SourceState, now: datetime) -> list[Readiness]:
    """Return how each source stands. Asks none of them."""
    return [
        Readiness(
            *(source.name, source.adds, tuple(source.offers), source.needs()),
            block=state.block(source.name, now),
            calls_today=state.calls_today(source.name, now),
            calls_a_day=ADAPTERS[source.name].limits.calls_a_day,
        )
        for source in sources
    ]


def unoffered(found: Sequence[Readiness]) -> dict[str, str]:
    """Return each dataset that no source which can be asked has, with who would have it."""
    told = {}
    for dataset in DATASETS:
        offering = [one for one in found if dataset in one.datasets]
        if not any(one.state == "ready" for one in offering):
            names = " or ".join(one.source for one in offering)
            told[dataset] = f"{names} would" if names else "no source in `sources` would"
    return told
