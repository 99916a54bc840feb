"""Run the Dagster example once for each situation on stdin and print what became of it, in Dagster's own Python."""

import json
import os
import sys
from pathlib import Path

import dagster as dg
from dagster._utils.schedules import schedule_execution_time_iterator

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
import dagster_night as example


def ran(job, command, environ, folder="", day=None):
    """Return how each step of the job ended, and what was shown of it."""
    os.environ.update(environ)
    kstock = example.KStockBatch(command=command, folder=folder, retries=2, retry_seconds=0)
    defs = dg.Definitions(
        assets=example.defs.assets,
        asset_checks=example.defs.asset_checks,
        jobs=example.defs.jobs,
        resources={"kstock": kstock},
    )
    done = defs.resolve_job_def(job).execute_in_process(
        instance=dg.DagsterInstance.ephemeral(), raise_on_error=False, tags={"day": day} if day else {}
    )
    steps, shown, said, tries = {}, {}, {}, {}
    for event in done.all_events:
        if event.event_type_value in {"STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"}:
            steps[event.step_key] = event.event_type_value.removeprefix("STEP_").lower()
        if event.event_type_value in {"STEP_START", "STEP_RESTARTED"}:
            tries[event.step_key] = tries.get(event.step_key, 0) + 1
        if event.is_step_failure:
            failure = event.step_failure_data
            said[event.step_key] = failure.error.message if failure.error else ""
            if failure.user_failure_data:
                said[event.step_key] = failure.user_failure_data.description
        if event.is_step_materialization:
            values = event.step_materialization_data.materialization.metadata
            shown[event.step_key] = {name: value.value for name, value in values.items()}
    return {"is_well": done.success, "steps": steps, "shown": shown, "said": said, "tries": tries}


def fires(after):
    """Return the first times from ``after`` on (a Unix time) at which each schedule is due."""
    times = {}
    for schedule in example.defs.schedules:
        due = schedule_execution_time_iterator(after, schedule.cron_schedule, schedule.execution_timezone)
        times[schedule.job_name] = [next(due).isoformat() for _ in range(10)]
    return times


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    outcomes = {name: ran(**situation) for name, situation in asked["situations"].items()}
    print("\n" + json.dumps({"outcomes": outcomes, "fires": fires(asked["after"])}))
