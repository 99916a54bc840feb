"""The record: which publication each target holds, and why it got no later one.

``targets.json`` beside the published file, written by whoever delivers: `check` need not ask a server, and what a
rollback delivers is known although it has no store to write to.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from kstock_batch.files import write_atomically
from kstock_batch.redaction import redacted
from kstock_batch.serving.targets.failures import failures_named


@dataclass(frozen=True)
class Held:
    """What a target holds: the publication of a run (None = none yet), and ``why`` the last delivery failed."""

    run_id: str | None
    why: str | None = None


class DeliveryRecord:
    """The record beside a published file; whoever writes it holds the lock of delivering."""

    def __init__(self, published: Path) -> None:
        self.path = published.with_name("targets.json")

    def held(self) -> dict[str, Held]:
        """Return what each target holds that was ever delivered to; nothing where there is no record to read."""
        try:
            told = json.loads(self.path.read_text(encoding="utf-8"))
            return {name: Held(facts["run_id"], facts["why"]) for name, facts in told.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def holds(self, target: str, run_id: str) -> None:
        """Note that ``target`` holds what ``run_id`` published."""
        self._note(target, Held(run_id))

    def failed(self, target: str, why: str) -> None:
        """Note why ``target`` still holds what it did."""
        before = self.held().get(target)
        self._note(target, Held(before.run_id if before else None, redacted(why)))

    def _note(self, target: str, held: Held) -> None:
        facts = {name: asdict(one) for name, one in (self.held() | {target: held}).items()}
        with failures_named(self.path):
            write_atomically(self.path, json.dumps(facts, ensure_ascii=False, indent=1).encode())
