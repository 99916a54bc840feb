"""Looking after the job: its ledger, its settings and the night in a message's length."""

import json
import tomllib
from dataclasses import fields

import duckdb
import pytest

from factories import asked_json, done, run, sentence
from kstock_batch.cli.options import utc_now
from kstock_batch.operating.settings_file import meanings
from kstock_batch.operating.summary import LINE, TELEGRAM_LIMIT, fit_for_telegram
from kstock_batch.settings import SECRETS, Settings
from kstock_batch.store.ledger import opened_run

# The ledger


def test_a_run_that_was_killed_is_told_as_failed_before_anybody_writes_again(tmp_path):
    settings = Settings(root=tmp_path)
    with opened_run(settings, "features", at=utc_now()) as killed, killed.warehouse.transaction() as con:
        con.execute("INSERT INTO run SELECT * REPLACE ('k' AS run_id, 'running' AS status) FROM run LIMIT 1")
    listed = {row["run_id"]: row for row in asked_json(tmp_path, "runs", "list")}
    assert (listed["k"]["status"], listed["k"]["told"]) == ("failed", "killed before it ended")
    assert [row["run_id"] for row in asked_json(tmp_path, "runs", "list", "--failed")] == ["k"]
    shown = asked_json(tmp_path, "runs", "show", "k")
    assert (shown["status"], shown["error"]) == ("failed", "killed before it ended")
    assert listed[killed.run_id]["status"] == "done"


def test_the_newest_runs_come_first_and_can_be_chosen(trained_root):
    done(trained_root, "features")
    assert run(trained_root, "score", "--as-of", "1999-01-04").exit_code == 3
    listed = asked_json(trained_root, "runs", "list")
    assert [row["command"] for row in listed[:2]] == ["score", "features"]
    failed = asked_json(trained_root, "runs", "list", "--failed")
    assert [row["command"] for row in failed] == ["score"]
    assert "1999-01-04" in failed[0]["told"]
    assert {row["command"] for row in asked_json(trained_root, "runs", "list", "--command", "features")} == {"features"}
    assert len(asked_json(trained_root, "runs", "list", "--last", 1)) == 1


def test_one_run_is_shown_with_its_stages_in_their_order(trained_root):
    done(trained_root, "score", "--force")
    run_id = asked_json(trained_root, "runs", "list", "--last", 1)[0]["run_id"]
    shown = asked_json(trained_root, "runs", "show", run_id)
    assert (shown["run_id"], shown["status"], shown["error"]) == (run_id, "done", None)
    stages = [stage["stage"].split()[0] for stage in shown["stages"]]
    assert stages.index("score") < stages.index("explain") < stages.index("publish")
    told = done(trained_root, "runs", "show", run_id).stdout
    assert told.strip().splitlines()[-1] == shown["summary"]


def test_a_run_that_never_was_is_said_to_be_none(trained_root):
    refused = run(trained_root, "runs", "show", "nobody")
    assert (refused.exit_code, "there is no run nobody" in sentence(refused)) == (3, True)


# The message


def test_a_message_tells_the_highest_in_short_plain_lines(trained_root):
    lines = done(trained_root, "summary", "--telegram", "--top", 3, "--language", "en").stdout.splitlines()
    top = asked_json(trained_root, "predictions", "show", "--top", 3)
    assert lines[0] == f"KRX predictions as-of {top[0]['as_of']}"
    for row in top:
        percent = f"{100 * row['probability']:.1f}% x{row['lift']:.2f} {row['label']}"
        assert f"{row['rank']}. {row['ticker']} {row['name']} {percent}" in lines
    assert not [line for line in lines if len(line) > LINE and not line.startswith("!")]
    assert not set("*_`[]") & set("".join(lines).replace("STRONG_BUY", ""))
    whole = asked_json(trained_root, "predictions", "show", "--top", 5000)
    assert f"signal >= 0.80: {sum(row['signal'] >= 0.8 for row in whole)}, " in "".join(lines)


def test_a_message_says_what_needs_a_person(trained_root):
    said = done(trained_root, "summary", "--language", "en").stdout
    assert "STALE: " in said
    assert "! the newest predictions are as-of" in said
    korean = done(trained_root, "summary", "--language", "ko").stdout
    assert "KRX 예측" in korean
    assert "오래됨: " in korean


def test_without_a_publication_there_is_no_message(tmp_path):
    refused = run(tmp_path, "summary")
    assert refused.exit_code == 13


def test_a_long_name_does_not_make_a_long_line_and_a_long_message_is_cut_if_asked(trained_root, monkeypatch):
    with duckdb.connect(str(Settings(root=trained_root).store)) as con:
        con.execute("UPDATE raw_listing SET name = repeat('가', 80)")
    done(trained_root, "score", "--force")
    lines = done(trained_root, "summary").stdout.splitlines()
    assert max(len(line) for line in lines if not line.startswith("!")) == LINE
    monkeypatch.setattr("kstock_batch.operating.summary.TELEGRAM_LIMIT", 100)
    assert len(done(trained_root, "summary", "--telegram").stdout) == 101  # and a line's end
    assert len(done(trained_root, "summary").stdout) > 101


def test_a_message_is_cut_to_what_may_be_sent():
    assert len(fit_for_telegram("x" * 5000)) == TELEGRAM_LIMIT
    assert fit_for_telegram("short") == "short"


# Settings


def test_init_writes_every_setting_with_its_default_and_meaning(tmp_path):
    done(tmp_path / "new", "init")
    text = (tmp_path / "new" / "kstock.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text) == {}
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith(tuple(f"# {f.name} = " for f in fields(Settings))) else line
        for line in text.splitlines()
    )
    loaded = tomllib.loads(uncommented)
    defaults = {field.name: field.default for field in fields(Settings) if field.name != "root"}
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in loaded.items()} == defaults
    (tmp_path / "new" / "kstock.toml").write_text(uncommented, encoding="utf-8")
    assert Settings.load(tmp_path / "new") == Settings(root=tmp_path / "new")


def test_init_replaces_no_settings(tmp_path):
    (tmp_path / "kstock.toml").write_text("seed = 7\n", encoding="utf-8")
    refused = run(tmp_path, "init")
    assert (refused.exit_code, "kstock.toml exists" in sentence(refused)) == (2, True)
    assert (tmp_path / "kstock.toml").read_text() == "seed = 7\n"


@pytest.mark.parametrize("key", [field.name for field in fields(Settings)])
def test_every_setting_is_explained(key):
    assert len(meanings()[key]) > 10


def test_config_show_tells_where_each_value_is_from(tmp_path, monkeypatch):
    (tmp_path / "kstock.toml").write_text("seed = 7\nthreads = 3\n", encoding="utf-8")
    monkeypatch.setenv("KSTOCK_SEED", "8")
    shown = {row["key"]: (row["value"], row["origin"]) for row in asked_json(tmp_path, "config", "show")}
    assert shown["seed"] == (8, "KSTOCK_SEED")
    assert shown["threads"] == (3, "kstock.toml")
    assert shown["generations"] == (14, "default")
    changed = asked_json(tmp_path, "config", "show", "--changed")
    assert [row["key"] for row in changed] == ["threads", "seed"]
    assert "2 of " in done(tmp_path, "config", "show").stdout


def test_no_secret_is_a_setting_that_is_shown(tmp_path, monkeypatch):
    for secret in SECRETS:
        monkeypatch.setenv(f"KSTOCK_{secret.upper()}", "https://example.org/a-secret-of-ours")
    assert "a-secret-of-ours" not in json.dumps(asked_json(tmp_path, "config", "show"))
