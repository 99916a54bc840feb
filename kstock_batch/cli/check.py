"""The command that a scheduler asks whether all is well."""

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.errors import CheckFailed
from kstock_batch.settings import Settings
from kstock_batch.wording import counted


@click.command()
@as_json
@click.pass_obj
def check(settings: Settings, as_json: bool) -> None:
    """Exit with 0 when all is well, and with 18 when something needs a person: one sentence and one fix each.

    A publication that is missing, stale or degraded, no champion, a night that failed, a model that has drifted. What
    is only worth a look is told and exits with 0. It reads, and works while the store is being written.

    \b
    Examples:
      kstock-batch check
      kstock-batch check --json
    """
    from kstock_batch.serving.monitor import status_rows

    facts = status_rows(settings, now=utc_now())
    standing, failing = facts["alerts"], [alert for alert in facts["alerts"] if alert.severity == "fail"]
    if as_json:
        console.document({"is_well": not failing, "alerts": [alert.row() for alert in standing]})
    else:
        for alert in standing:
            console.result(f"{alert.severity}: {alert.sentence}\n  fix: {alert.fix}")
    if failing:
        need = "alert needs" if len(failing) == 1 else "alerts need"
        raise CheckFailed(
            f"{len(failing)} {need} a person: {', '.join(alert.name for alert in failing)}",
            fix="do what is said above; docs/outcomes.md says what each alert means",
        )
    if not as_json:
        age = counted(facts["age_sessions"], "session")
        console.result(f"all is well: predictions as-of {facts['as_of']}, {age} old")
