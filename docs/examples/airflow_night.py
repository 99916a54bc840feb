"""kstock-batch under Airflow: the night on weekdays and the weekly retrain, both by Seoul's clock.

Airflow and kstock-batch stand in environments of their own; all that Airflow knows of it is a command. Lay this file
into the folder of your Dags, and let the workers see KSTOCK_ROOT and the secrets, as ever. Two Airflow variables change
what it does:

    kstock_command   "/opt/kstock/bin/kstock-batch", "docker run --rm … kstock-batch"; without it `kstock-batch`
    kstock_folder    a folder of parquet files that is ingested instead of asking the live sources

Tried with Airflow 3.3 by tests/test_orchestrators.py.
"""

import json
import logging
import shlex
import subprocess
import tempfile
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from airflow.sdk import CronTriggerTimetable, Variable, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

SEOUL = "Asia/Seoul"
NIGHT, WEEKLY = "35 18 * * 1-5", "0 3 * * 0"  # of the week's days 0 is Sunday
# Data not ready, another job writing, a source that gave no answer: waiting helps. Nothing else gets better by itself.
WORTH_WAITING = {3, 6, 22}
REFUSED, ALERTS = 15, 18  # a challenger that was no better; what `check` found
USUAL = {
    "start_date": datetime(2026, 1, 1, tzinfo=ZoneInfo(SEOUL)),
    "catchup": False,  # the night itself goes back to sessions that were missed
    "max_active_runs": 1,
    "default_args": {"retries": 6, "retry_delay": timedelta(minutes=20)},
    "tags": ["kstock"],
}
log = logging.getLogger("airflow.task")


def ask(*words: str, accept: int = 0) -> tuple[dict[str, Any], str]:
    """Run a command; return its document and, if it ended with the exit code ``accept``, the sentence it said.

    What it logs appears as it comes. Any other end fails the task with that sentence, or has it tried again later.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        command = [*shlex.split(Variable.get("kstock_command", default="kstock-batch")), *words, "--json"]
        with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, encoding="utf-8") as job:
            lines = []
            try:
                for line in job.stderr or ():
                    log.info(line.rstrip())
                    lines.append(line)
            except BaseException:  # the task is being cancelled: nothing is half done, whenever the job ends
                job.terminate()
                raise
        out.seek(0)
        told = out.read()
    sentence = "".join(lines).rpartition("error: ")[2].strip()
    if job.returncode not in {0, accept}:
        failure = AirflowException if job.returncode in WORTH_WAITING else AirflowFailException
        raise failure(f"exit code {job.returncode}: {sentence}")
    return json.loads(told), sentence if job.returncode else ""


@dag(schedule=CronTriggerTimetable(NIGHT, timezone=SEOUL), **USUAL)
def kstock_night() -> None:
    """Prices, features, predictions, and a look whether all is well."""

    @task
    def ingest() -> dict[str, Any]:
        """Ask for the session's prices, flows and filings. On a day off all that follows is skipped."""
        if folder := Variable.get("kstock_folder", default=""):
            told, _ = ask("ingest", "files", folder)
            return {"folder": folder, "n_new": sum(rows["new"] for rows in told["datasets"])}
        due = get_current_context()["dag_run"].run_after.astimezone(ZoneInfo(SEOUL))
        told, _ = ask("ingest", "--as-of", f"{due:%Y-%m-%d}")
        if told["is_closed"]:
            raise AirflowSkipException(f"{told['as_of']} is no session of the exchange")
        return {name: told[name] for name in ("n_new", "n_changed", "seconds")}

    @task
    def features() -> dict[str, Any]:
        """Compute thirty features of every ticker and session that is missing or may have changed."""
        told, _ = ask("features")
        return {name: told[name] for name in ("n_rows", "n_labels", "seconds")}

    @task
    def score() -> dict[str, Any]:
        """Publish tonight's probabilities, and those of nights that were missed."""
        told, _ = ask("score")
        shown = {name: told[name] for name in ("as_of", "model_version", "n_published", "seconds", "summary")}
        return {"n_scored": sum(session["n_scored"] for session in told["sessions"]), **shown}

    @task(retries=0)
    def check() -> dict[str, Any]:
        """Fail if anything needs a person, though the predictions are published."""
        told, sentence = ask("check", accept=ALERTS)
        alerts = [f"{alert['severity']}: {alert['sentence']}; {alert['fix']}" for alert in told["alerts"]]
        for alert in alerts:
            log.warning(alert)
        if not told["is_well"]:
            raise AirflowFailException("\n".join([sentence, *alerts]))
        return {"alerts": alerts}

    ingest() >> features() >> score() >> check()


@dag(schedule=CronTriggerTimetable(WEEKLY, timezone=SEOUL), **USUAL)
def kstock_retrain() -> None:
    """A new model, which serves if it is better."""

    @task
    def retrain() -> dict[str, Any]:
        """Train and prove a version. One that is no better is no failure: the champion stays."""
        told, sentence = ask("retrain", accept=REFUSED)
        if sentence:
            log.warning(sentence)
        shown = {"version": told["version"], "is_champion": told["is_champion"], "seconds": told["seconds"]}
        return {**shown, "note": sentence or "it serves from now on"}

    retrain()


kstock_night()
kstock_retrain()
