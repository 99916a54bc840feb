"""The whole path as a user walks it: sample market, features, retrain, score, questions, the bot."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np

from factories import WALKED, asked_json, done, run, sentence
from kstock_batch.bot.lstm_predictor import get_lstm_enhanced_prediction, load_lstm_model, predict_lstm
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.market.contract import WINDOW
from kstock_batch.market.sessions import KST_OFFSET
from kstock_batch.registry import Registry
from kstock_batch.settings import Settings

REPOSITORY = Path(__file__).parents[1]


def test_predictions_are_shown_best_first_as_table_and_as_json(walked):
    rows = asked_json(walked, "predictions", "show", "--top", 7)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    table = done(walked, "predictions", "show", "--top", 7).stdout
    assert all(row["ticker"] in table for row in rows)
    one = asked_json(walked, "predictions", "show", "--ticker", rows[3]["ticker"])
    assert one == [rows[3]]


def test_sql_answers_from_the_published_file_and_cannot_change_or_leave_it(walked, tmp_path):
    rows = asked_json(walked, "sql", "SELECT count(*) AS n, max(rank) AS worst FROM latest")
    assert rows[0]["n"] == rows[0]["worst"] > 10
    published = Settings(root=walked).published
    before = published.read_bytes()
    other = tmp_path / "secret.csv"
    other.write_text("a\n1\n")
    for statement in (
        "DELETE FROM prediction",
        "CREATE TABLE mine (a INTEGER)",
        f"SELECT * FROM read_csv('{other}')",
        f"COPY prediction TO '{tmp_path / 'stolen.csv'}'",
        f"ATTACH '{Settings(root=walked).store}' AS store",
        "SET enable_external_access = true",
        "SELECT no_such_column FROM prediction",
    ):
        refused = run(walked, "sql", statement)
        assert refused.exit_code == 2, statement
        assert "cannot be answered" in sentence(refused)
    assert published.read_bytes() == before
    assert not (tmp_path / "stolen.csv").exists()


def test_sql_prints_no_more_rows_than_asked_for_and_says_so(walked):
    told = done(walked, "sql", "SELECT ticker FROM prediction", "--limit", 3).stdout
    assert "3 rows" in told
    assert "cut at --limit 3" in told


def test_status_names_the_champion_the_publication_and_the_last_runs(walked):
    facts = asked_json(walked, "status")
    assert [run["command"] for run in facts["runs"]][-4:] == ["score", "features", "retrain", "demo"]
    assert {run["status"] for run in facts["runs"]} == {"done"}
    assert facts["model_version"] in facts["champion"]
    assert facts["writer"] == "none"
    assert facts["as_of"] in done(walked, "status").stdout


def test_status_of_an_empty_folder_says_what_to_do(tmp_path):
    told = done(tmp_path, "status").stdout
    assert "none yet" in told
    assert "kstock-batch score" in told
    assert list(tmp_path.iterdir()) == [], "asking creates nothing"


def test_every_command_answers_with_one_json_document(walked):
    for command in (
        ("status",),
        ("models", "list"),
        ("models", "show"),
        ("predictions", "show"),
        ("audit",),
        ("features",),
        ("features", "list"),
        ("features", "describe", "rsi"),
        ("features", "fingerprint"),
        ("sql", "SELECT 1 AS one"),
        ("score",),
    ):
        assert json.loads(done(walked, *command, "--json").stdout) is not None, command


def test_the_demo_is_not_built_twice(walked):
    again = asked_json(walked, "demo", *WALKED)
    assert sum(row["new"] + row["changed"] for row in again["datasets"]) == 0


def test_the_bot_reads_the_same_numbers_with_nothing_but_duckdb(walked):
    """A process that sees only the standard library, duckdb and our package, as a bot's environment does."""
    asked = textwrap.dedent(
        """
        import json, sys
        sys.path[:0] = json.loads(sys.argv[1])
        from kstock_batch.bot.reader import PredictionReader
        rows = PredictionReader(sys.argv[2], max_age_sessions=None).top(9999)
        heavy = {"polars", "numpy", "torch", "lightgbm", "xgboost", "click", "pyarrow", "pandas"} & set(sys.modules)
        print(json.dumps([sorted(heavy), [[r.ticker, r.probability, r.signal, r.lgbm, r.xgb, r.lstm] for r in rows]]))
        """
    )
    only = walked / "only_duckdb"
    only.mkdir(exist_ok=True)
    packages = Path(duckdb.__file__).parents[1]
    for package in ("duckdb", "_duckdb", "_duckdb-stubs"):
        for found in packages.glob(f"{package}*"):
            if not (only / found.name).exists():
                os.symlink(found, only / found.name)
    paths = json.dumps([str(only), str(REPOSITORY)])
    answer = subprocess.run(
        [sys.executable, "-S", "-I", "-c", asked, paths, str(Settings(root=walked).published)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    heavy, rows = json.loads(answer.stdout)
    assert heavy == []
    wanted = asked_json(
        walked, "sql", "SELECT ticker, probability, signal, lgbm, xgb, lstm FROM latest ORDER BY rank", "--limit", 9999
    )
    assert rows == [list(row.values()) for row in wanted]


def test_the_bot_loads_the_lstm_that_the_job_wrote_for_it(walked, tmp_path):
    path = tmp_path / "lstm_stock.pt"
    done(walked, "models", "lstm-file", "--out", path)
    champion = Registry(Settings.load(walked).models).champion()
    member = LstmMember.load(champion.folder)
    window = np.random.default_rng(0).uniform(-0.5, 0.5, (WINDOW, 30)).astype(np.float32)  # ranks within a session
    expected = member.predict(SimpleNamespace(sequence=window), np.array([WINDOW - 1]))[0]
    model, mean, std = load_lstm_model(path)
    assert abs(predict_lstm(model, window, mean, std) - expected) < 1e-6
    assert abs(get_lstm_enhanced_prediction({}, None, window, path=path).probability - expected) < 1e-6


def test_times_are_kept_in_utc_and_a_sessions_cutoff_is_half_past_six_in_seoul(walked):
    rows = asked_json(walked, "sql", "SELECT DISTINCT cutoff_at - session AS since_midnight FROM calendar")
    assert len(rows) == 1
    assert rows[0]["since_midnight"] == "9:30:00"
    assert str(KST_OFFSET) == "9:00:00"
