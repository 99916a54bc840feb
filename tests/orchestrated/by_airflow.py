"""Run the Airflow example once for each situation on stdin and print what became of it; Airflow's own Python runs this.

AIRFLOW_HOME is a folder that may be filled.
"""

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pendulum
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.timetables.base import TimeRestriction
from airflow.utils.db import initdb

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))


def ran(example, job, command, environ, folder="", day=None):
    """Return how each task of the Dag ended, and what was shown of it."""
    os.environ.update(environ, AIRFLOW_VAR_KSTOCK_COMMAND=command, AIRFLOW_VAR_KSTOCK_FOLDER=folder)
    dag = {"night": example.kstock_night, "retrain": example.kstock_retrain}[job]()
    dag.default_args["retries"] = 0
    due = datetime.fromisoformat(f"{day}T18:35+09:00") if day else datetime.now(UTC)
    done = dag.test(run_after=due, logical_date=due)
    tasks = {task.task_id: task for task in done.get_task_instances()}
    steps = {name: str(task.state) for name, task in tasks.items()}
    shown = {name: task.xcom_pull(task_ids=name) for name, task in tasks.items() if task.state == "success"}
    return {"is_well": done.state == "success", "steps": steps, "shown": shown}


def fires(example, after):
    """Return the first times from ``after`` on (a Unix time) at which each Dag is due."""
    times = {}
    for name, dag in (("night", example.kstock_night()), ("retrain", example.kstock_retrain())):
        timetable, due, times[name] = coerce_to_core_timetable(dag.timetable), None, []
        since = TimeRestriction(pendulum.from_timestamp(after), None, catchup=True)
        for _ in range(10):
            due = timetable.next_dagrun_info(
                last_automated_data_interval=due.data_interval if due else None, restriction=since
            )
            times[name].append(due.run_after.in_timezone("Asia/Seoul").isoformat())
    return times


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    initdb()
    import airflow_night

    outcomes = {name: ran(airflow_night, **situation) for name, situation in asked["situations"].items()}
    print("\n" + json.dumps({"outcomes": outcomes, "fires": fires(airflow_night, asked["after"])}))
