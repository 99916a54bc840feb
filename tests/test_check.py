"""Check: one sentence for everything that needs a person, an exit code for whoever asks, and nothing is touched."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import click
import duckdb
import pytest

from factories import asked_json, copy_root, done, flip_byte, run
from kstock_batch.bot.publication import PublicationFacts
from kstock_batch.bot.reader import PublicationStatus
from kstock_batch.cli.app import cli
from kstock_batch.errors import NoChampion, StoreIncompatible
from kstock_batch.judging.drift_verdict import DriftCheck, DriftVerdict
from kstock_batch.serving.alerts import Refusals, Situation, alerts
from kstock_batch.serving.publication.generations import WentBack
from kstock_batch.serving.targets.delivery import lock_of_deliveries
from kstock_batch.serving.targets.record import DeliveryRecord, Held
from kstock_batch.settings import Settings
from kstock_batch.store.lock import release_lock, take_lock
from kstock_batch.store.warehouse import Warehouse

DAY, NOON = date(2024, 6, 28), datetime(2024, 6, 28, 3)
FACTS = PublicationFacts(1, DAY, None, NOON, "run-1", 10, 1, "model-1", "abc", "digest", None)


# What stands


def published(*, age=1, is_stale=False, problem=None, fix=None, facts: PublicationFacts | None = FACTS):
    return PublicationStatus(Path("predictions.duckdb"), facts, age, is_stale, problem, fix)


def ran(command, status, told=None):
    return {"command": command, "status": status, "started_at": NOON, "told": told}


def drift(state):
    check = DriftCheck("auc_promised", state, 0.999, 0.98, 0.998, "its AUC fell")
    return DriftVerdict(DAY, "model-1", 60, DAY, DAY, (check,))


def alerts_of(**situation):
    well = {"published": published(), "damage": None, "max_age_sessions": 3, "champion_problem": None, "runs": ()}
    well |= {"refusals": Refusals(), "writer": None, "store_problem": None, "drift": None}
    return alerts(Situation(**{**well, **situation}))


def standing(**situation):
    return [(alert.severity, alert.sentence) for alert in alerts_of(**situation)]


NO_MODEL = NoChampion("no model", fix="run `kstock-batch retrain`")
TOO_NEW = StoreIncompatible("it has schema version 7", fix="upgrade kstock-batch")
REFUSED = Refusals(4, NOON, "model-9 was stored but not promoted: it is worse")


def test_when_all_is_well_nothing_stands():
    assert standing(runs=[ran("score", "done"), ran("retrain", "done")], drift=drift("ok")) == []


STANDING = [
    (
        {"published": published(age=None, facts=None, problem="it does not exist", fix="run `kstock-batch score`")},
        ("fail", "the publication cannot be read: it does not exist"),
    ),
    ({"damage": "its bytes have changed"}, ("fail", "the publication is damaged: its bytes have changed")),
    (
        {"published": published(age=5, is_stale=True)},
        ("fail", "the newest predictions are as-of 2024-06-28, 5 sessions old, limit 3"),
    ),
    (
        {"published": published(age=1, is_stale=True), "max_age_sessions": 0},
        ("fail", "the newest predictions are as-of 2024-06-28, 1 session old, limit 0"),
    ),
    (
        {"published": published(facts=replace(FACTS, degraded_why="half of KOSDAQ is missing"))},
        ("fail", "the predictions as-of 2024-06-28 were published degraded: half of KOSDAQ is missing"),
    ),
    ({"champion_problem": NO_MODEL}, ("fail", "there is no model to score with: no model")),
    (
        {"runs": [ran("score", "failed", "no data"), ran("ingest files", "done")]},
        ("fail", "the last score, 2024-06-28 03:00:00 UTC, failed: no data"),
    ),
    (
        {"runs": [ran("score", "done"), ran("retrain", "failed", "too little")]},
        ("warn", "the last retrain, 2024-06-28 03:00:00 UTC, failed: too little"),
    ),
    (
        {"runs": [ran("score", "running")]},
        ("fail", "the last score, 2024-06-28 03:00:00 UTC, was killed"),
    ),
    (
        {"runs": [ran("score", "done"), ran("retrain", "refused", "it is worse")], "refusals": REFUSED},
        (
            "warn",
            "the gate let none of the last 4 new models pass, since 2024-06-28 03:00:00 UTC; the newest: model-9 was"
            " stored but not promoted: it is worse",
        ),
    ),
    ({"store_problem": TOO_NEW}, ("fail", "the store cannot be read: it has schema version 7")),
    ({"drift": drift("drifted")}, ("fail", drift("drifted").sentence)),
    ({"drift": drift("watch")}, ("warn", drift("watch").sentence)),
    (
        {"went_back": WentBack("run-1", "run-2")},
        (
            "warn",
            "run-1 is published again, put back instead of run-2: the next score replaces it",
        ),
    ),
    (
        {"targets": {"sqlite": Held("run-1"), "postgres": Held("run-0", "it is down")}},
        ("fail", "the target postgres holds run-0, but run-1 is published: it is down"),
    ),
    (
        {"targets": {"sqlite": Held(None, "the disk is full")}},
        ("fail", "the target sqlite holds nothing, but run-1 is published: the disk is full"),
    ),
    (
        {"targets": {"parquet": Held("run-0")}},  # killed before it delivered
        ("fail", "the target parquet holds run-0, but run-1 is published: it was not delivered"),
    ),
    (
        {"targets": {"parquet": None}},
        ("warn", "nothing was delivered to the target parquet yet: the next score does"),
    ),
]


@pytest.mark.parametrize(("situation", "says"), STANDING)
def test_what_stands_is_one_sentence_with_its_values(situation, says):
    assert standing(**situation) == [says]


@pytest.mark.parametrize(("situation", "says"), STANDING)
def test_what_stands_says_what_to_do_in_commands_that_exist(situation, says):
    (alert,) = alerts_of(**situation)
    assert alert.fix.strip()
    for words in re.findall(r"`kstock-batch ([^`]+)`", alert.fix):
        command, named = cli, words.split()
        while isinstance(command, click.Group) and named and named[0] in command.commands:
            command = command.commands[named.pop(0)]
        assert command is not cli, words


def test_what_stands_because_of_an_error_has_the_errors_fix():
    problems = {"champion_problem": NO_MODEL, "store_problem": TOO_NEW}
    found = alerts_of(**problems, published=published(problem="odd", fix="turn it"))
    assert {alert.name: alert.fix for alert in found} == {
        "champion": "run `kstock-batch retrain`",
        "store": "upgrade kstock-batch",
        "publication": "turn it",
    }


def test_a_retrain_that_the_gate_refused_is_no_alert_and_neither_are_three():
    assert standing(runs=[ran("score", "done"), ran("retrain", "refused", "it is worse")]) == []
    assert standing(refusals=replace(REFUSED, n_refused=3)) == []


def test_a_run_under_way_is_no_alert():
    assert standing(runs=[ran("score", "running")], writer="PID 7") == []


def test_a_target_that_holds_what_is_published_is_no_alert_even_if_it_failed_to_be_asked_again():
    assert standing(targets={"sqlite": Held("run-1"), "postgres": Held("run-1", "it is down")}) == []


def test_what_is_being_delivered_is_no_alert_but_what_failed_before_stands():
    targets = {"sqlite": Held("run-0"), "parquet": None, "postgres": Held("run-0", "it is down")}
    assert [told.split()[2] for _, told in standing(targets=targets, is_delivering=True)] == ["postgres"]


def test_where_nothing_is_published_the_targets_are_not_told_as_well():
    nothing = published(age=None, facts=None, problem="it does not exist")
    assert len(standing(published=nothing, targets={"sqlite": Held("run-0", "it is down")})) == 1


def test_the_worst_is_told_first():
    found = standing(drift=drift("watch"), champion_problem=NO_MODEL)
    assert [severity for severity, _ in found] == ["fail", "warn"]


def test_a_file_that_cannot_be_read_stands_even_while_an_older_one_is_served():
    assert [severity for severity, _ in standing(published=published(problem="it is damaged"))] == ["fail"]


# The command


@pytest.fixture(scope="module")
def _well(_trained, tmp_path_factory):
    root = copy_root(_trained, tmp_path_factory.mktemp("well"))
    settings = (root / "kstock.toml").read_text(encoding="utf-8")
    (root / "kstock.toml").write_text(f"{settings}max_age_sessions = 100000\n", encoding="utf-8")  # it is of 2024
    return root


@pytest.fixture
def well(_well, tmp_path):
    """A root on which all is well."""
    return copy_root(_well, tmp_path / "root")


def failed(root, *names):
    """Check a root, which must fail with exactly these alerts, and return the sentences and their fixes."""
    found = run(root, "check")
    assert found.exit_code == 18, found.stderr
    what, fix = found.stderr.splitlines()
    need = "1 alert needs" if len(names) == 1 else f"{len(names)} alerts need"
    assert what == f"error: {need} a person: {', '.join(names)}"
    assert fix.startswith("  fix: ")
    return found.stdout


def write(root, statement, **params):
    with Warehouse.open(Settings(root=root)) as warehouse:
        warehouse.con.execute(statement, params)


def put_verdict(root, state):
    check = {"name": "auc_promised", "state": state, "value": 1.0, "watch": 0.98, "drifted": 0.998}
    write(
        root,
        "INSERT INTO drift VALUES (DATE '2999-01-04', 'model-1', $state, '', 60, $day, $day, $checks, 'r', $noon)",
        state=state,
        day=DAY,
        checks=json.dumps([check | {"sentence": "its AUC fell"}]),
        noon=NOON,
    )


def digests(root):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob("*")) if path.is_file()}


def test_check_exits_with_0_when_all_is_well_and_touches_nothing(well):
    before = digests(well)
    found = done(well, "check")
    assert found.stdout.startswith("all is well: predictions as-of 2024-06-26, ")
    assert asked_json(well, "check") == {"is_well": True, "alerts": []}
    assert digests(well) == before


def test_predictions_that_are_too_old_fail_the_check(well):
    (well / "kstock.toml").write_text("", encoding="utf-8")
    assert failed(well, "stale").startswith("fail: the newest predictions are as-of 2024-06-26, ")


def test_a_root_of_nothing_fails_the_check_and_stays_empty(tmp_path):
    sentences = failed(tmp_path, "publication", "champion")
    assert "predictions.duckdb does not exist" in sentences
    assert "there is no model to score with: no model has been promoted in" in sentences
    assert list(tmp_path.rglob("*")) == []


def test_a_publication_of_flipped_bytes_fails_the_check(well):
    flip_byte(Settings(root=well).published, at=10)
    assert "fail: the publication cannot be read: " in failed(well, "publication")


def test_a_damaged_champion_fails_the_check_before_the_night_does(well):
    flip_byte(next(well.glob("models/*/lgbm.txt")))
    assert "lgbm.txt has digest" in failed(well, "champion")


def test_a_night_that_failed_fails_the_check_until_one_succeeds(well):
    assert run(well, "score", "--as-of", "1999-01-04").exit_code != 0
    sentences = failed(well, "score_failed")
    assert sentences.count("\n") == 2
    assert "failed: 1999-01-04 is outside the stored prices" in sentences
    done(well, "score")
    done(well, "check")


RUN = "INSERT INTO run (run_id, command, status, pid, started_at, error) VALUES ({}, {}, {}, 1, {}, 'no disk')"


def test_a_night_that_was_killed_fails_the_check(well):
    write(well, RUN.format("'x'", "'score'", "'running'", "DATE '2999-01-01'"))  # nobody holds the lock
    assert "was killed" in failed(well, "score_failed")


def test_a_failed_night_stands_however_much_was_run_after_it(well):
    write(well, RUN.format("'x'", "'score'", "'failed'", "DATE '2999-01-01'"))
    write(
        well,
        "INSERT INTO run (run_id, command, status, pid, started_at)"
        " SELECT i::VARCHAR, 'features', 'done', 1, DATE '2999-01-01' + to_days(i::INTEGER)"
        " FROM range(1, 30) AS day (i)",
    )
    assert "failed: no disk" in failed(well, "score_failed")


def test_a_store_of_flipped_bytes_fails_the_check(well):
    flip_byte(Settings(root=well).store, at=10)
    assert "fail: the store cannot be read: " in failed(well, "store")


def test_a_target_that_failed_fails_the_check_until_it_holds_what_is_published(well, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "parquet,sqlite")
    told = [alert["sentence"] for alert in asked_json(well, "check")["alerts"]]
    assert told == [
        f"nothing was delivered to the target {name} yet: the next score does" for name in ("parquet", "sqlite")
    ]
    in_the_way = Settings(root=well).published.with_suffix(".sqlite") / "a folder"
    in_the_way.mkdir(parents=True)
    assert run(well, "score").exit_code == 17
    for command in (("features",), ("audit",)):  # what runs after it hides nothing
        done(well, *command)
    sentences = failed(well, "target_failed")
    (run_id,) = asked_json(well, "sql", "SELECT run_id FROM publication")[0].values()
    assert sentences.startswith(f"fail: the target sqlite holds nothing, but {run_id} is published: ")
    assert f": {in_the_way.parent} is a folder" in sentences
    assert [alert["name"] for alert in asked_json(well, "status")["alerts"]] == ["target_failed"]
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    done(well, "score")  # nothing to score and nothing to publish
    assert asked_json(well, "check") == {"is_well": True, "alerts": []}


def test_a_publication_that_was_not_delivered_fails_the_check_unless_somebody_is_about_to(well, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite")
    done(well, "score")
    monkeypatch.setattr("kstock_batch.serving.night.night.deliver", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        run(well, "score", "--force")
    assert ": it was not delivered" in failed(well, "target_failed", "score_failed")
    lock = take_lock(lock_of_deliveries(Settings(root=well).published))
    assert "target" not in failed(well, "score_failed")
    release_lock(lock, is_writer=True)


@pytest.mark.parametrize("text", ["", "[]", '{"sqlite": 1}', '{"sqlite": {"run_id": "x"}}', "\xff"])
def test_a_record_that_cannot_be_read_is_as_none(well, monkeypatch, text):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite")
    done(well, "score")
    record = DeliveryRecord(Settings(root=well).published)
    assert list(record.held()) == ["sqlite"]
    record.path.write_bytes(text.encode("latin-1"))
    assert [alert["severity"] for alert in asked_json(well, "check")["alerts"]] == ["warn"]
    done(well, "score")
    assert asked_json(well, "check")["alerts"] == []


def test_a_publication_that_was_rolled_back_is_told_until_a_night_replaces_it_and_says_so(well):
    (before,) = asked_json(well, "sql", "SELECT run_id FROM publication")[0].values()
    assert asked_json(well, "status")["rolled_back_from"] is None
    done(well, "score")
    (undone,) = asked_json(well, "sql", "SELECT run_id FROM publication")[0].values()
    done(well, "predictions", "rollback")
    assert asked_json(well, "status")["rolled_back_from"] == undone
    found = done(well, "check")
    sentence = f"{before} is published again, put back instead of {undone}"
    assert found.stdout.splitlines()[0] == f"warn: {sentence}: the next score replaces it"
    assert [alert["name"] for alert in asked_json(well, "check")["alerts"]] == ["rolled_back"]
    over = f"; the rollback from {undone} to {before} is over"
    told = done(well, "score").stdout.splitlines()[0]
    assert "; published again; " in told and told.endswith(over)
    assert asked_json(well, "status")["runs"][0]["told"].endswith(over)
    assert (asked_json(well, "status")["rolled_back_from"], asked_json(well, "check")["alerts"]) == (None, [])
    done(well, "predictions", "rollback", "--to", undone)
    told = asked_json(well, "score", "--force")
    assert told["ended_rollback"]["restored"] == undone
    assert "; the rollback from " in told["summary"]
    assert asked_json(well, "score", "--force")["ended_rollback"] is None


DRIFTED = "run `kstock-batch retrain`; docs/outcomes.md says what was looked at"


def test_a_model_that_has_drifted_fails_the_check_and_one_that_is_watched_does_not(well):
    put_verdict(well, "watch")
    found = done(well, "check")
    sentence = "model-1 is watch on 60 matured sessions, 2024-06-28 … 2024-06-28: its AUC fell"
    assert found.stdout.splitlines()[:2] == [f"warn: {sentence}", f"  fix: {DRIFTED}"]
    assert asked_json(well, "check") == {
        "is_well": True,
        "alerts": [{"name": "drift", "severity": "warn", "sentence": sentence, "fix": DRIFTED}],
    }
    write(well, "DELETE FROM drift WHERE as_of = DATE '2999-01-04'")
    put_verdict(well, "drifted")
    assert "fail: model-1 is drifted on 60" in failed(well, "drift")
    told = json.loads(run(well, "check", "--json").stdout)
    assert (told["is_well"], [alert["name"] for alert in told["alerts"]]) == (False, ["drift"])


def test_the_check_works_while_the_store_is_being_written_from_what_is_published(well):
    put_verdict(well, "drifted")
    done(well, "score")  # published with the verdict
    assert run(well, "check").exit_code == 18
    with Warehouse.open(Settings(root=well)) as warehouse:
        warehouse.con.execute("DELETE FROM drift")  # the publication cannot know
        before = Settings(root=well).published.read_bytes()
        assert "fail: model-1 is drifted on 60" in failed(well, "drift")
        assert Settings(root=well).published.read_bytes() == before
    done(well, "check")


def test_a_publication_of_before_verdicts_is_no_reason_to_fail(well, monkeypatch):
    from kstock_batch.serving.publication import contents

    monkeypatch.setattr(contents, "TABLES", [name for name in contents.TABLES if name != "drift"])
    Settings(root=well).published.unlink()  # what is carried on keeps its tables
    write(well, "DELETE FROM scored_session")
    done(well, "score")
    with Warehouse.open(Settings(root=well)):
        done(well, "check")


def test_status_tells_the_alerts_and_always_answers(well):
    put_verdict(well, "drifted")
    told = asked_json(well, "status")
    assert [alert["name"] for alert in told["alerts"]] == ["drift"]
    assert told["drift"] == told["alerts"][0]["sentence"]
    shown = done(well, "status").stdout
    assert "alerts" in shown
    assert "its AUC fell" in shown


def test_status_prints_no_fact_that_is_absent_and_names_the_prices_that_features_are_made_of(well):
    facts = asked_json(well, "status")
    assert {name for name, value in facts.items() if value is None} == {"problem", "degraded_why", "rolled_back_from"}
    shown = done(well, "status").stdout
    assert "None" not in shown
    assert "problem" not in shown
    assert facts["price_basis"] == "adjusted"
    assert re.search(r"price_basis +adjusted", shown)


def test_an_absent_champion_is_told_with_the_versions_that_could_be_promoted(well):
    (well / "models" / "champion.json").unlink()
    (version,) = (path.name for path in (well / "models").glob("2*"))
    sentences = failed(well, "champion")
    assert "there is no model to score with: no model has been promoted in" in sentences
    fix = f"run `kstock-batch retrain`, or `kstock-batch models promote VERSION` with one of ['{version}']"
    assert f"  fix: {fix} that its gate let pass\n" in sentences
    assert fix in run(well, "score").stderr
    done(well, "models", "promote", version)
    done(well, "score")
    done(well, "check")


def of_schema(published, version):
    with duckdb.connect(str(published)) as con:
        con.execute(f"UPDATE publication SET schema_version = {version}")


@pytest.mark.parametrize(
    ("version", "fix"), [(1, "run `kstock-batch score`, which publishes it anew"), (99, "upgrade kstock-batch")]
)
def test_a_publication_of_another_schema_is_told_with_what_to_do(well, version, fix):
    of_schema(Settings(root=well).published, version)
    assert f"its schema version is {version}, this reader knows 2\n  fix: {fix}\n" in failed(well, "publication")
    assert f"this reader knows 2): {fix}" in done(well, "status").stdout.splitlines()[-1]


# Retrains that the gate refused


def put_retrains(root, *statuses):
    for n, status in enumerate(statuses):
        told = f"model-{n} was stored but not promoted: it is worse" if status == "refused" else "no disk"
        write(
            root,
            "INSERT INTO run VALUES ($run_id, 'retrain', NULL, $status, 1, $at, $at, NULL, $told, NULL, NULL)",
            run_id=f"{len(statuses)}-{n}",
            status=status,
            at=datetime(2999, 1, 1 + n),
            told=told,
        )


def test_refused_retrains_are_told_after_the_fourth_in_a_row_and_fail_no_check(well):
    put_retrains(well, "refused", "done", "refused", "refused", "failed", "refused")
    assert [alert["name"] for alert in asked_json(well, "check")["alerts"]] == []
    put_retrains(well, "refused")
    (alert,) = asked_json(well, "check")["alerts"]
    assert (alert["name"], alert["severity"]) == ("retrains_refused", "warn")
    assert alert["sentence"] == (
        "the gate let none of the last 4 new models pass, since 2999-01-03 00:00:00 UTC; the newest: model-0 was"
        " stored but not promoted: it is worse"
    )
    put_retrains(well, "done", "refused")
    assert asked_json(well, "check")["alerts"] == []


def test_refused_retrains_are_told_while_the_store_is_being_written_too(well):
    put_retrains(well, *["refused"] * 4)
    done(well, "score", "--force")
    with Warehouse.open(Settings(root=well)):
        assert [alert["name"] for alert in asked_json(well, "check")["alerts"]] == ["retrains_refused"]
