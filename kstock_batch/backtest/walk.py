"""The walk: every refit of a plan that is not finished yet, one job each; what is finished is never done again.

warehouse/backtest/<id>/plan.json and refits/<as_of>/ hold all of it. A refit's folder appears by renaming a finished
one, so a kill at any instant costs the refits under way and nothing else.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kstock_batch.backtest.plan import Plan, Refit
from kstock_batch.executors import Done, Executor, Job
from kstock_batch.files import disk_full_is_named, fsync, write_atomically

FACTS = "facts.json"
REFIT = "kstock_batch.backtest.refit:refit"
_BUILDING = ".building-"


@dataclass(frozen=True)
class Progress:
    """How far a walk has come; ``minutes_left`` is None before the first refit of this walk is done."""

    refit: Refit
    n_done: int
    n_refits: int
    seconds: float
    minutes_left: float | None

    @property
    def sentence(self) -> str:
        """Return it in words."""
        left = "" if self.minutes_left is None or self.n_done == self.n_refits else (
            f"; about {self.minutes_left:.0f} min left" if self.minutes_left >= 1 else "; less than a minute left"
        )  # fmt: skip
        return f"refit {self.n_done} of {self.n_refits}, as-of {self.refit.as_of}, took {self.seconds:.0f} s{left}"


@dataclass(frozen=True)
class WalkFolder:
    """The folder of one backtest."""

    path: Path

    @classmethod
    def of(cls, warehouse: Path, backtest_id: str) -> "WalkFolder":
        """Return the folder of a backtest, which may not be there yet."""
        return cls(warehouse / "backtest" / backtest_id)

    @property
    def scratch(self) -> Path:
        """Where workers put what they need no longer than a job lasts."""
        return self.path / "scratch"

    def begin(self, plan: Plan) -> None:
        """Write down what is walked, and clear away what a kill has left."""
        with disk_full_is_named(self.path):
            (self.path / "refits").mkdir(parents=True, exist_ok=True)
            for left in (self.path / "refits").glob(f"{_BUILDING}*"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.rmtree(self.scratch, ignore_errors=True)
        text = json.dumps({"backtest_id": plan.backtest_id, **plan.facts}, indent=2, default=str)
        write_atomically(self.path / "plan.json", text.encode())

    def refit(self, refit: Refit) -> Path:
        """Return the folder of a refit; it is there once the refit is finished."""
        return self.path / "refits" / refit.key

    def is_finished(self, refit: Refit) -> bool:
        """Return whether a refit is finished."""
        return (self.refit(refit) / FACTS).is_file()

    def facts(self, refit: Refit) -> dict[str, Any]:
        """Return what a finished refit says of itself."""
        found: dict[str, Any] = json.loads((self.refit(refit) / FACTS).read_text(encoding="utf-8"))
        return found

    def keep(self, refit: Refit, facts: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
        """Make the refit finished: all of its files, or none."""
        final = self.refit(refit)
        building = final.with_name(f"{_BUILDING}{refit.key}")
        with disk_full_is_named(self.path):
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
            whole = {**files, FACTS: json.dumps(facts, indent=2).encode()}
            for name, content in whole.items():
                (building / name).write_bytes(content)
                fsync(building / name)
            os.replace(building, final)
            fsync(final.parent)


def walk(
    plan: Plan,
    folder: WalkFolder,
    material: Path,
    executor: Executor,
    *,
    threads: int,
) -> Iterator[Progress]:
    """Train and score every refit that is not finished, and tell of each; stop the executor whatever happens."""
    waiting = [refit for refit in plan.refits if not folder.is_finished(refit)]
    by_key = {refit.key: refit for refit in waiting}
    began, work_done = time.monotonic(), 0.0
    work = {refit.key: (refit.n_fitted + 1) * refit.n_sessions for refit in waiting}
    n_done = len(plan.refits) - len(waiting)
    failed: Done | None = None
    try:
        # The largest first: the last ones to finish are then short, and no worker waits long for another.
        for refit in sorted(waiting, key=lambda one: -work[one.key]):
            executor.submit(_job(plan, folder, material, refit, threads))
        for done in executor.finished():
            if done.error is not None:  # the others go on: what they find is kept
                failed = failed or done
                continue
            refit = by_key[done.key]
            folder.keep(refit, done.facts, done.files)
            n_done, work_done = n_done + 1, work_done + work[refit.key]
            passed = time.monotonic() - began
            left = passed / work_done * (sum(work.values()) - work_done) / 60
            yield Progress(refit, n_done, len(plan.refits), float(sum(done.facts["stages"].values())), left)
        if failed is not None:
            failed.required()
    finally:
        executor.close()
        shutil.rmtree(folder.scratch, ignore_errors=True)


def _job(plan: Plan, folder: WalkFolder, material: Path, refit: Refit, threads: int) -> Job:
    arguments = {
        "material": str(material.resolve()),
        "scratch": str((folder.scratch / refit.key).resolve()),
        "settings": {**plan.facts["settings"], "threads": threads},
        "tuned": plan.facts["tuned"].get(refit.key, {}),
        **{name: str(getattr(refit, name)) for name in ("as_of", "first", "last")},
        "n_fitted": refit.n_fitted,
    }
    return Job(refit.key, REFIT, arguments, reads=(arguments["material"],))
