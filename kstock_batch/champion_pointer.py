"""The pointer to the champion: which version serves, and whom it replaced."""

import json
from dataclasses import asdict, dataclass
from datetime import datetime

_MAX_HISTORY = 20


@dataclass(frozen=True)
class ChampionPointer:
    """What champion.json says.

    Attributes
    ----------
    version : the one that serves
    promoted_at : when that was decided
    history : the versions it replaced, newest first; without those that were rolled back from
    rolled_back_from : the version that served before, if this one came by a rollback
    """

    version: str
    promoted_at: str
    history: tuple[str, ...] = ()
    rolled_back_from: str | None = None

    @classmethod
    def from_json(cls, text: str) -> "ChampionPointer":
        """Return what ``as_json`` wrote; a file of before there was a history knows one predecessor."""
        facts = json.loads(text)
        previous = facts.get("previous")
        history = facts.get("history", [previous] if previous else [])
        back_from = facts.get("rolled_back_from")
        return cls(str(facts["version"]), str(facts.get("promoted_at", "")), tuple(map(str, history)), back_from)

    def as_json(self) -> str:
        """Return it as the text of champion.json."""
        return json.dumps(asdict(self) | {"previous": next(iter(self.history), None)}, indent=2)

    def replaced_by(self, version: str, at: datetime) -> "ChampionPointer":
        """Return the pointer after a promotion."""
        if version == self.version:
            return ChampionPointer(version, at.isoformat(), self.history)
        older = [name for name in self.history if name not in (version, self.version)]
        return ChampionPointer(version, at.isoformat(), (self.version, *older)[:_MAX_HISTORY])

    def rolled_back_to(self, version: str, at: datetime) -> "ChampionPointer":
        """Return the pointer after a rollback; a version that never served is placed by its age."""
        if version in self.history:
            older = self.history[self.history.index(version) + 1 :]
        else:
            older = tuple(name for name in self.history if name < version)
        return ChampionPointer(version, at.isoformat(), older, rolled_back_from=self.version)
