"""kstock-batch under Dagster: the night on weekdays and the weekly retrain, both by Seoul's clock.

Dagster and kstock-batch stand in environments of their own; all that Dagster knows of it is a command:

    pip install dagster dagster-webserver
    export KSTOCK_ROOT=/srv/kstock
    dagster dev -f dagster_night.py

Tried with Dagster 1.13 by tests/test_orchestrators.py.
"""

import json
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

SEOUL = "Asia/Seoul"
NIGHT, WEEKLY = "35 18 * * 1-5", "0 3 * * 0"  # of the week's days 0 is Sunday
# Data not ready, another job writing, a source that gave no answer: waiting helps. Nothing else gets better by itself.
WORTH_WAITING = {3, 6, 22}
REFUSED, ALERTS = 15, 18  # a challenger that was no better; what `check` found


class KStockBatch(dg.ConfigurableResource):
    """How kstock-batch is called; KSTOCK_ROOT, secrets and settings are variables of the environment, as ever."""

    command: str = "kstock-batch"  # or "/opt/kstock/bin/kstock-batch", or "docker run --rm … kstock-batch"
    folder: str = ""  # a folder of parquet files to ingest instead of asking the live sources
    retries: int = 6
    retry_seconds: int = 1200

    def ask(
        self, context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, *words: str, accept: int = 0
    ) -> tuple[dict[str, Any], str]:
        """Run a command; return its document and, if it ended with the exit code ``accept``, the sentence it said.

        What it logs appears as it comes. Any other end fails the step with that sentence, or has it tried again later.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
            command = [*shlex.split(self.command), *words, "--json"]
            with subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, encoding="utf-8") as job:
                lines = []
                try:
                    for line in job.stderr or ():
                        context.log.info(line.rstrip())
                        lines.append(line)
                except BaseException:  # the run is being cancelled: nothing is half done, whenever the job ends
                    job.terminate()
                    raise
            out.seek(0)
            told = out.read()
        sentence = "".join(lines).rpartition("error: ")[2].strip()
        if job.returncode not in {0, accept}:
            if job.returncode in WORTH_WAITING and context.retry_number < self.retries:
                raise dg.RetryRequested(max_retries=self.retries, seconds_to_wait=self.retry_seconds)
            raise dg.Failure(sentence, metadata={"exit code": job.returncode}, allow_retries=False)
        return json.loads(told), sentence if job.returncode else ""


@dg.asset(group_name="kstock", output_required=False)
def raw_rows(context: dg.AssetExecutionContext, kstock: KStockBatch) -> Iterator[dg.MaterializeResult]:
    """The session's prices, flows and filings. On a day off nothing comes, and all that follows is skipped."""
    if kstock.folder:
        told, _ = kstock.ask(context, "ingest", "files", kstock.folder)
        counts = {f"n_{name}": sum(rows[name] for rows in told["datasets"]) for name in ("new", "changed", "rejected")}
        yield dg.MaterializeResult(metadata={**counts, "seconds": told["seconds"]})
        return
    day = context.run.tags.get("day") or f"{datetime.now(ZoneInfo(SEOUL)):%Y-%m-%d}"
    told, _ = kstock.ask(context, "ingest", "--as-of", day)
    if told["is_closed"]:
        context.log.info(f"{day} is no session of the exchange")
        return
    yield dg.MaterializeResult(metadata={name: told[name] for name in ("n_new", "n_changed", "seconds", "missing")})


@dg.asset(group_name="kstock", deps=[raw_rows])
def features(context: dg.AssetExecutionContext, kstock: KStockBatch) -> dg.MaterializeResult:
    """Thirty features of every ticker and session that is missing or may have changed."""
    told, _ = kstock.ask(context, "features")
    return dg.MaterializeResult(metadata={name: told[name] for name in ("n_rows", "n_labels", "seconds")})


@dg.asset(group_name="kstock", deps=[features])
def predictions(context: dg.AssetExecutionContext, kstock: KStockBatch) -> dg.MaterializeResult:
    """Tonight's probabilities, and those of nights that were missed, published for the bot."""
    told, _ = kstock.ask(context, "score")
    shown = {name: told[name] for name in ("as_of", "model_version", "n_published", "seconds", "summary")}
    return dg.MaterializeResult(metadata={"n_scored": sum(s["n_scored"] for s in told["sessions"]), **shown})


@dg.asset_check(asset=predictions, blocking=True)
def all_is_well(context: dg.AssetCheckExecutionContext, kstock: KStockBatch) -> dg.AssetCheckResult:
    """Whether anything needs a person; if so the run fails, though the predictions are published."""
    told, _ = kstock.ask(context, "check", accept=ALERTS)
    alerts = {alert["name"]: f"{alert['severity']}: {alert['sentence']}; {alert['fix']}" for alert in told["alerts"]}
    return dg.AssetCheckResult(passed=told["is_well"], metadata=alerts)


@dg.asset(group_name="kstock")
def model(context: dg.AssetExecutionContext, kstock: KStockBatch) -> dg.MaterializeResult:
    """A version, trained and proven; it serves if it is better. One that is not is no failure: the champion stays."""
    told, sentence = kstock.ask(context, "retrain", accept=REFUSED)
    shown = {"version": told["version"], "is_champion": told["is_champion"], "seconds": told["seconds"]}
    return dg.MaterializeResult(metadata={**shown, "note": sentence or "it serves from now on"})


night = dg.define_asset_job("night", selection=[raw_rows, features, predictions])
retrain = dg.define_asset_job("retrain", selection=[model])


@dg.schedule(job=night, cron_schedule=NIGHT, execution_timezone=SEOUL, default_status=dg.DefaultScheduleStatus.RUNNING)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """The day in Seoul goes along, so that a night that begins late still is that day's."""
    day = f"{context.scheduled_execution_time.astimezone(ZoneInfo(SEOUL)):%Y-%m-%d}"
    return dg.RunRequest(run_key=day, tags={"day": day})


every_week = dg.ScheduleDefinition(
    job=retrain, cron_schedule=WEEKLY, execution_timezone=SEOUL, default_status=dg.DefaultScheduleStatus.RUNNING
)

defs = dg.Definitions(
    assets=[raw_rows, features, predictions, model],
    asset_checks=[all_is_well],
    jobs=[night, retrain],
    schedules=[every_night, every_week],
    resources={"kstock": KStockBatch()},
)
