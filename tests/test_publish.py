import hashlib
import os
import signal
import stat
import struct
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from factories import disk_of
from kstock_batch.errors import DataNotReady, DiskFull
from kstock_batch.serving.publication import publish as publishing
from kstock_batch.serving.publication import verifier as verifying
from kstock_batch.serving.publication.publish import PublicationRefused, publish
from small_store import FRIDAY, MONDAY, NOON, THURSDAY, TUESDAY, predict, publish_now, reopened_store, small_store

HERE = Path(__file__).parent
SAMSUNG, HYNIX, UNLISTED = "005930", "000660", "00088K"
LOCK = "predictions.lock"
NO_BAR = """con.execute("SELECT CASE WHEN current_setting('enable_progress_bar') THEN error('a bar') END")"""
STORED_AS = {
    "prediction": "prediction",
    "feature_daily": "feature_latest",
    "audit_result": "audit_result",
    "run": "run",
    "run_stage": "run_stage",
}
COLUMNS = "SELECT column_name FROM duckdb_columns() WHERE table_name = '{}'"


@pytest.fixture
def warehouse(tmp_path):
    with small_store(tmp_path) as warehouse:
        predict(warehouse, MONDAY, {SAMSUNG: 0.52, HYNIX: 0.71})
        predict(warehouse, TUESDAY, {SAMSUNG: 0.83, HYNIX: 0.64, UNLISTED: 0.2})
        yield warehouse


@pytest.fixture
def target(tmp_path):
    return tmp_path / "it's served" / "predictions.duckdb"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A publication that no test may change, and the store's columns it was made from."""
    root = tmp_path_factory.mktemp("served")
    target = root / "predictions.duckdb"
    with small_store(root) as warehouse:
        predict(warehouse, MONDAY, {SAMSUNG: 0.52, HYNIX: 0.71})
        predict(warehouse, TUESDAY, {SAMSUNG: 0.83, HYNIX: 0.64, UNLISTED: 0.2})
        for session in (MONDAY, TUESDAY, THURSDAY):
            warehouse.con.execute(
                "INSERT INTO feature_daily BY NAME SELECT $ticker AS ticker, $as_of AS as_of, 55.0 AS rsi,"
                " 100 AS close, 200 AS bars_available, 0 AS null_feature_count, true AS is_scoreable,"
                " 1 AS feature_set_version",
                {"ticker": SAMSUNG, "as_of": session},
            )
        columns = {table: warehouse.con.execute(COLUMNS.format(table)).fetchall() for table in STORED_AS}
        publication = publish_now(warehouse, target)
    return target, publication, columns


def ask(path, statement):
    """Return a statement's rows as a fresh process would: nothing of the file stays open or cached."""
    con = duckdb.connect(":memory:")
    try:
        con.execute("ATTACH '{}' AS bot (READ_ONLY)".format(str(path).replace("'", "''")))
        con.execute("USE bot")
        return con.execute(statement).fetchall()
    finally:
        con.close()


def only_the_file(target):
    """Whether nothing half made lies beside the target, its lock and what is kept."""
    return sorted(path.name for path in target.parent.iterdir()) == ["generations", target.name, LOCK]


# What a publication holds


def test_every_prediction_is_published_with_its_stock_newest_session_and_best_rank_first(served):
    target, _, _ = served
    rows = ask(target, "SELECT as_of, ticker, name, market, sector, signal, rank, shap_top3 FROM prediction")
    assert rows == [
        (TUESDAY, SAMSUNG, "삼성전자", "KOSPI", "반도체", 0.83, 1, "[]"),
        (TUESDAY, HYNIX, "SK하이닉스", "KOSPI", "반도체", 0.64, 2, "[]"),
        (TUESDAY, UNLISTED, None, None, None, 0.2, 3, "[]"),
        (MONDAY, HYNIX, "SK하이닉스", "KOSPI", "반도체", 0.71, 1, "[]"),
        (MONDAY, SAMSUNG, "삼성전자", "KOSPI", "반도체", 0.52, 2, "[]"),
    ]


@pytest.mark.parametrize("stored", STORED_AS)
def test_no_column_of_the_store_is_forgotten(served, stored):
    target, _, columns = served
    published = set(ask(target, COLUMNS.format(STORED_AS[stored])))
    assert set(columns[stored]) <= published
    assert published - set(columns[stored]) <= {("name",), ("market",), ("sector",)}


def test_the_publication_says_what_it_is(served):
    target, publication, _ = served
    assert (publication.path, publication.as_of, publication.n_predictions) == (target, TUESDAY, 5)
    assert ask(target, "SELECT * FROM publication") == [
        (2, TUESDAY, MONDAY, NOON, "run-1", 5, 2, "model-1", "abc", publication.digest, None)
    ]
    assert ask(target, "SELECT key, value FROM model_card ORDER BY key") == [("auc", "0.57"), ("seeds", "[1, 2]")]
    assert ask(target, "SELECT session FROM calendar") == [(MONDAY,), (TUESDAY,), (THURSDAY,), (FRIDAY,)]


def test_a_first_session_has_none_before_it(tmp_path, target):
    with small_store(tmp_path) as warehouse:
        predict(warehouse, MONDAY, {SAMSUNG: 0.5})
        publish_now(warehouse, target)
    assert ask(target, "SELECT as_of, previous_as_of FROM publication") == [(MONDAY, None)]


def test_a_time_with_a_zone_is_published_in_utc(warehouse, target):
    seoul = timezone(timedelta(hours=9))
    publish(warehouse, target, run_id="r", published_at=datetime(2024, 6, 25, 19, tzinfo=seoul), model_card={})
    assert ask(target, "SELECT published_at FROM publication") == [(datetime(2024, 6, 25, 10),)]


def test_views_show_the_newest_session_and_what_the_bot_calls_ml_predictions(served):
    target, _, _ = served
    assert ask(target, "SELECT as_of, rank, ticker FROM latest") == [
        (TUESDAY, 1, SAMSUNG),
        (TUESDAY, 2, HYNIX),
        (TUESDAY, 3, UNLISTED),
    ]
    assert [row[:2] for row in ask(target, "DESCRIBE ml_predictions")] == [
        ("ticker", "VARCHAR"),
        ("pred_date", "DATE"),
        ("probability", "DOUBLE"),
        ("shap_top3", "VARCHAR"),
    ]
    # 0.83 is the even-prior signal; the calibrated probability of that row is 0.415
    found = ask(target, f"SELECT probability FROM ml_predictions WHERE ticker = '{SAMSUNG}' ORDER BY pred_date DESC")
    assert found == [(0.83,), (0.52,)]


def test_explanations_reach_the_bots_ml_predictions_and_nights_of_before_say_nothing(warehouse, target):
    told = '[["rsi", 0.25], ["per_rank", -0.1], ["roe_rank", 0.02]]'
    warehouse.con.execute(
        "UPDATE prediction SET shap_top3 = CASE rank WHEN 1 THEN $told END WHERE as_of = $day",
        {"told": told, "day": TUESDAY},
    )
    publish_now(warehouse, target)
    rows = ask(target, f"SELECT ticker, shap_top3 FROM ml_predictions WHERE pred_date = DATE '{TUESDAY}' ORDER BY ALL")
    assert rows == sorted([(HYNIX, "[]"), (UNLISTED, "[]"), (SAMSUNG, told)])
    digits = ask(target, f"SELECT CAST(shap_top3::JSON->0->>1 AS DOUBLE) FROM latest WHERE ticker = '{SAMSUNG}'")
    assert digits == [(0.25,)]


def test_only_features_of_the_newest_predicted_session_are_published(served):
    target, _, _ = served
    assert ask(target, "SELECT ticker, as_of, rsi FROM feature_latest") == [(SAMSUNG, TUESDAY, 55.0)]


def test_the_digest_is_that_of_the_rows_and_of_nothing_else(warehouse, target):
    first = publish_now(warehouse, target)
    again = publish_now(warehouse, target, "another-run")
    warehouse.con.execute("UPDATE prediction SET lgbm = nextafter(lgbm, 1) WHERE ticker = '005930'")
    changed = publish_now(warehouse, target)
    assert again.digest == first.digest
    assert changed.digest != first.digest


def test_the_digest_can_be_recomputed_without_our_code(served):
    target, publication, _ = served
    sessions = []
    for as_of in (MONDAY, TUESDAY):
        rows = ask(
            target,
            "SELECT ticker, rank, probability, signal, label, score_bonus, lgbm, xgb, lstm, shap_top3, model_version,"
            " degraded_why"
            f" FROM prediction WHERE as_of = DATE '{as_of}' ORDER BY rank, ticker",
        )
        text = "\n".join("|".join("" if value is None else str(value) for value in row) for row in rows)
        sessions.append(f"{as_of}{hashlib.sha256(text.encode()).hexdigest()}")
    assert hashlib.sha256("\n".join(sessions).encode()).hexdigest() == publication.digest


def test_old_versions_of_duckdb_can_read_it(served):
    target, _, _ = served
    magic, version = struct.unpack("<8x4sQ", target.read_bytes()[:20])
    assert magic == b"DUCK"
    assert version <= 67  # 67 = DuckDB 1.4, the last for Python 3.9; 68 = 1.5; 69 = 2.0


def test_everyone_may_read_it_whatever_the_umask(warehouse, target):
    before = os.umask(0o077)
    try:
        publish_now(warehouse, target)
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


def test_the_store_remains_usable_and_the_folder_clean(warehouse, target):
    publish_now(warehouse, target)
    predict(warehouse, THURSDAY, {SAMSUNG: 0.4})
    assert publish_now(warehouse, target).as_of == THURSDAY
    assert only_the_file(target)


# What is refused; the old publication stays


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            "UPDATE prediction SET signal = 'nan' WHERE rank = 1",
            "number of probabilities outside 0 ... 1 should be 0 but is 2",
        ),
        (
            "UPDATE prediction SET probability = 1.01 WHERE rank = 3",
            "number of probabilities outside 0 ... 1 should be 0 but is 1",
        ),
        (
            """UPDATE prediction SET shap_top3 = '[["rsi", NaN]]' WHERE rank = 3""",
            "number of explanations that are no list of names and numbers should be 0 but is 1",
        ),
        (
            "INSERT INTO prediction SELECT * FROM prediction WHERE rank = 3",
            "number of distinct (as_of, ticker) should be 6 but is 5",
        ),
    ],
)
def test_predictions_that_cannot_be_are_not_published(warehouse, target, damage, told):
    publish_now(warehouse, target)
    before = target.read_bytes()
    warehouse.con.execute(damage)
    with pytest.raises(PublicationRefused) as caught:
        publish_now(warehouse, target)
    assert told in str(caught.value)
    assert str(target) in str(caught.value)
    assert target.read_bytes() == before
    assert only_the_file(target)


def change_a_row(temp):
    con = duckdb.connect(str(temp))
    con.execute("UPDATE prediction SET signal = 0.8300001 WHERE signal = 0.83")
    con.close()


def change_an_old_name(temp):
    """Damage that no digest covers, in a session that is not looked at row by row."""
    con = duckdb.connect(str(temp))
    con.execute("UPDATE prediction SET name = 'SK' WHERE as_of = (SELECT min(as_of) FROM prediction) AND rank = 1")
    con.close()


def lose_a_row(temp):
    con = duckdb.connect(str(temp))
    con.execute("DELETE FROM prediction WHERE rank = 3")
    con.close()


def cut_in_half(temp):
    os.truncate(temp, temp.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (change_a_row, "number of sessions whose rows are not those of their digest should be 0 but is 1"),
        (change_an_old_name, "hash of the rows should be"),
        (lose_a_row, "number of predictions should be 5 but is 4"),
        (cut_in_half, "a fresh process cannot read it"),
    ],
)
def test_a_file_damaged_while_it_was_built_is_not_published(warehouse, target, monkeypatch, damage, told):
    publish_now(warehouse, target)
    before = target.read_bytes()
    monkeypatch.setattr(publishing, "_require_standalone", damage)
    with pytest.raises(PublicationRefused, match=told):
        publish_now(warehouse, target)
    assert target.read_bytes() == before
    assert only_the_file(target)


def test_a_verification_that_takes_long_draws_no_progress_bar_into_its_answer(warehouse, target, monkeypatch):
    """DuckDB takes `python -c` for a person, whom it shows one on stdout after two seconds."""
    monkeypatch.setattr(verifying, "_PROGRAM", verifying._PROGRAM.replace("faults = []", f"faults = []\n{NO_BAR}"))
    assert publish_now(warehouse, target).as_of == TUESDAY


def test_a_log_beside_the_finished_file_is_refused(warehouse, target, monkeypatch):
    def build_and_leave_a_log(con, temp, *rest):
        publication = build(con, temp, *rest)
        Path(f"{temp}.wal").write_bytes(b"rows that are not in the file")
        return publication

    build = publishing._build
    monkeypatch.setattr(publishing, "_build", build_and_leave_a_log)
    with pytest.raises(PublicationRefused, match=r"\.predictions\.duckdb\.building\.wal remained after the checkpoint"):
        publish_now(warehouse, target)
    assert [path.name for path in target.parent.iterdir()] == [LOCK]


def test_a_store_without_predictions_is_not_published(tmp_path, target):
    with small_store(tmp_path) as warehouse, pytest.raises(DataNotReady, match="holds no predictions") as caught:
        publish_now(warehouse, target)
    assert caught.value.exit_code == 3
    assert [path.name for path in target.parent.iterdir()] == [LOCK]


def test_a_failure_in_the_middle_leaves_the_connection_free_to_publish_again(warehouse, target, monkeypatch):
    with pytest.raises(TypeError):  # a card that is no JSON
        publish(warehouse, target, run_id="r", published_at=NOON, model_card={("a", "tuple"): {(1, 2): 3}})
    assert publish_now(warehouse, target).as_of == TUESDAY


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_changes_nothing(warehouse, tmp_path):
    with disk_of("3m", tmp_path / "small disk") as disk:
        target = disk / "predictions.duckdb"
        before = publish_now(warehouse, target)
        warehouse.con.execute(
            "INSERT INTO prediction SELECT as_of - CAST(i AS INTEGER), ticker, random(), random(), label, score_bonus,"
            " random(), random(), rank, random(), random(), random(), random(), model_version, fingerprint, run_id,"
            " scored_at, shap_top3, degraded_why FROM prediction CROSS JOIN range(2, 20002) AS day (i)"
        )
        with pytest.raises(DiskFull) as caught:
            publish_now(warehouse, target)
        assert str(target) in str(caught.value)
        assert only_the_file(target)
        assert ask(target, "SELECT digest FROM content_digest") == [(before.digest,)]


# What other processes do to it


@pytest.mark.parametrize(
    "name", [".predictions.duckdb.building", ".predictions.duckdb.building.wal", "predictions.duckdb"]
)
def test_a_link_in_the_place_of_a_file_of_ours_is_replaced_and_not_followed(warehouse, target, tmp_path, name):
    victim = tmp_path / "of somebody else"
    victim.write_bytes(b"precious")
    target.parent.mkdir()
    (target.parent / name).symlink_to(victim)
    publish_now(warehouse, target)
    assert (victim.read_bytes(), target.is_symlink(), only_the_file(target)) == (b"precious", False, True)


KILLED = """
import os, signal, sys
from pathlib import Path
from small_store import THURSDAY, predict, publish_now
from kstock_batch.serving.publication import publish as publishing
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

def kill(*anything):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(publishing, sys.argv[3], kill)
with Warehouse.open(Settings(root=Path(sys.argv[1]))) as warehouse:
    predict(warehouse, THURSDAY, {"005930": 0.99})
    publish_now(warehouse, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("step", ["_require_standalone", "rename_into_place"])
def test_a_job_killed_before_the_rename_leaves_the_old_publication(tmp_path, target, step):
    with small_store(tmp_path) as warehouse:
        predict(warehouse, TUESDAY, {SAMSUNG: 0.83})
        old = publish_now(warehouse, target)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(target), step], env=environ)
    assert killed.returncode == -signal.SIGKILL
    assert not only_the_file(target)  # it was killed while the new file stood beside the old
    assert ask(target, "SELECT as_of, digest FROM publication") == [(TUESDAY, old.digest)]
    with reopened_store(tmp_path) as warehouse:
        new = publish_now(warehouse, target)
    assert only_the_file(target)
    assert ask(target, "SELECT as_of, digest FROM publication") == [(THURSDAY, new.digest)]


def test_a_log_left_beside_the_target_does_not_make_the_next_publication_unreadable(warehouse, target):
    publish_now(warehouse, target)
    someone = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1])
con.execute("SET checkpoint_threshold = '1TB'")
con.execute("UPDATE prediction SET signal = 0")
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", someone, str(target)])
    assert Path(f"{target}.wal").exists()
    predict(warehouse, THURSDAY, {SAMSUNG: 0.4})
    new = publish_now(warehouse, target)
    assert only_the_file(target)
    assert ask(target, "SELECT digest FROM content_digest") == [(new.digest,)]


def test_a_folder_where_the_published_file_must_be_is_named_and_stays(warehouse, target):
    (target / "of somebody").mkdir(parents=True)
    with pytest.raises(PublicationRefused) as refused:
        publish_now(warehouse, target)
    fix = "move it away, then run `kstock-batch score` again"
    assert str(refused.value) == f"{target} is a folder, where the published file must be\n  fix: {fix}"
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    target.rename(target.with_name("moved away"))
    publish_now(warehouse, target)
