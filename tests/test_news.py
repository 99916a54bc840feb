"""Whether a publication already says what the store says: every row counts, the ledger of runs does not."""

import math
import shutil

import duckdb
import pytest

from kstock_batch.serving.publication.news import is_published
from small_store import MONDAY, NOON, THURSDAY, TUESDAY, predict, publish_now, small_store

CARD = {"auc": 0.57, "seeds": [1, 2]}  # as publish_now gives it


@pytest.fixture
def warehouse(tmp_path):
    with small_store(tmp_path) as warehouse:
        predict(warehouse, MONDAY, {"005930": 0.52, "000660": 0.71})
        predict(warehouse, TUESDAY, {"005930": 0.83, "000660": 0.64})
        warehouse.con.execute(
            "INSERT INTO feature_daily BY NAME SELECT '005930' AS ticker, $as_of AS as_of, 55.0 AS rsi, 100 AS close,"
            " 200 AS bars_available, 0 AS null_feature_count, true AS is_scoreable, 1 AS feature_set_version",
            {"as_of": TUESDAY},
        )
        yield warehouse


@pytest.fixture
def target(tmp_path):
    return tmp_path / "it's served" / "predictions.duckdb"


def test_what_was_just_published_is_published_and_another_run_changes_nothing(warehouse, target):
    assert not is_published(warehouse.con, target, CARD)
    publish_now(warehouse, target)
    assert is_published(warehouse.con, target, CARD)
    run = "INSERT INTO run (run_id, command, status, pid, started_at) VALUES ('r', 'score', 'done', 1, $at)"
    warehouse.con.execute(run, {"at": NOON})
    assert is_published(warehouse.con, target, CARD)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE prediction SET lstm = 0.3 WHERE rank = 2 AND as_of = '2024-06-24'",
        "UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = '2024-06-25'",
        "UPDATE prediction SET run_id = 'run-2' WHERE as_of = '2024-06-25'",
        "DELETE FROM prediction WHERE as_of = '2024-06-24'",
        "UPDATE feature_daily SET rsi = NULL",
        "UPDATE raw_listing SET name = '삼성' WHERE ticker = '005930'",
        "INSERT INTO raw_calendar BY NAME SELECT * REPLACE (DATE '2024-07-01' AS session) FROM raw_calendar LIMIT 1",
    ],
)
def test_any_other_change_of_what_would_be_said_is_seen(warehouse, target, change):
    publish_now(warehouse, target)
    warehouse.con.execute(change)
    assert not is_published(warehouse.con, target, CARD)


def test_another_session_or_another_models_card_is_seen(warehouse, target):
    publish_now(warehouse, target)
    assert not is_published(warehouse.con, target, {**CARD, "auc": 0.58})
    predict(warehouse, THURSDAY, {"005930": 0.4})
    assert not is_published(warehouse.con, target, CARD)


def of_before(path):
    con = duckdb.connect(str(path))
    con.execute("UPDATE publication SET schema_version = 1")
    con.close()


def without_a_table(path):
    con = duckdb.connect(str(path))
    con.execute("DROP TABLE calendar")
    con.close()


def flipped_bytes(path):
    data = bytearray(path.read_bytes())
    for at in range(12_288, len(data), 4_096):
        data[at + 100] ^= 0x10
    path.write_bytes(bytes(data))


def no_database(path):
    path.write_bytes(b"none")


@pytest.mark.parametrize("damage", [of_before, without_a_table, flipped_bytes, no_database])
def test_a_file_that_is_damaged_or_of_before_is_to_be_replaced_and_the_store_goes_on(warehouse, target, damage):
    publish_now(warehouse, target)
    damage(target)
    assert not is_published(warehouse.con, target, CARD)
    publish_now(warehouse, target)
    assert is_published(warehouse.con, target, CARD)


@pytest.mark.parametrize(
    "damage", ["UPDATE latest SET rank = 3 - rank", "DELETE FROM latest", "UPDATE publication SET n_predictions = 7"]
)
def test_what_the_bot_reads_is_looked_at_even_where_it_follows_from_other_rows(warehouse, target, damage):
    publish_now(warehouse, target)
    with duckdb.connect(str(target)) as con:
        con.execute(damage)
    assert not is_published(warehouse.con, target, CARD)
    publish_now(warehouse, target)
    assert is_published(warehouse.con, target, CARD)


SCORECARD = {
    **{"as_of": MONDAY, "model_version": "model-1", "known_on": TUESDAY, "n_predictions": 2, "n": 2, "n_hits": 1},
    **dict.fromkeys(("probability_sum", "log_loss_sum", "brier_sum", "base_log_loss_sum", "base_brier_sum"), 0.7),
    **{"auc": 0.5, "run_id": "r", "judged_at": NOON},
}
DECILE = {
    **{"as_of": MONDAY, "model_version": "model-1", "decile": 10, "n": 2, "n_hits": 1, "probability_sum": 0.7},
    **{"n_early": 2, "return_1d_sum": 0.1, "return_3d_sum": 0.1, "return_5d_sum": 0.1},
}


def insert(con, table, row):
    con.execute(f"INSERT INTO {table} BY NAME SELECT {', '.join(f'${name} AS {name}' for name in row)}", row)


def test_the_last_bit_of_a_sum_over_many_rows_is_no_news_and_what_it_was_summed_from_is(warehouse, target):
    """Threads come by in another order each time: an idle night once published again, at random, for such a bit."""
    insert(warehouse.con, "scorecard", SCORECARD)
    insert(warehouse.con, "scorecard_decile", DECILE)
    publish_now(warehouse, target)
    with duckdb.connect(str(target)) as con:
        for table, column in (("running_scorecard", "log_loss"), ("running_decile", "forecast")):
            before = con.execute(f"SELECT {column} FROM {table} ORDER BY ALL LIMIT 1").fetchall()[0][0]
            con.execute(f"UPDATE {table} SET {column} = $next", {"next": math.nextafter(before, math.inf)})
    shutil.rmtree(target.with_name("generations"))  # which would tell that the bytes are others
    assert is_published(warehouse.con, target, CARD)
    warehouse.con.execute("UPDATE scorecard SET log_loss_sum = 0.8")
    assert not is_published(warehouse.con, target, CARD)
