"""What a publication holds, and that one carried on from the last is the one that would be built from nothing."""

import logging
import shutil
from datetime import date, timedelta

import duckdb
import pytest

from factories import opened
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.serving.publication import contents
from kstock_batch.serving.publication import publish as publishing
from small_store import FRIDAY, MONDAY, NOON, THURSDAY, TUESDAY, predict, publish_now, small_store

SAMSUNG, HYNIX, HALTED, YOUNG = "005930", "000660", "001230", "004560"
TABLES = ("prediction", "published_session", "feature_latest", "window_latest", "audit_result", "run", "run_stage")


@pytest.fixture
def warehouse(tmp_path):
    with small_store(tmp_path) as warehouse:
        for day in (MONDAY, TUESDAY, THURSDAY):
            predict(warehouse, day, {SAMSUNG: 0.52, HYNIX: 0.71})
        yield warehouse


@pytest.fixture
def target(tmp_path):
    return tmp_path / "served" / "predictions.duckdb"


@pytest.fixture
def built_from_nothing(monkeypatch):
    """Count how often a publication was not carried on from the last one."""
    counted = []
    build = publishing._build

    def count(con, temp, *rest):
        if not temp.exists():
            counted.append(temp)
        return build(con, temp, *rest)

    monkeypatch.setattr(publishing, "_build", count)
    return counted


def all_of(path):
    """Return every row of every table but the publication's own, and the digests computed anew, in a fixed order."""
    with opened(path) as con:
        views = {name: con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in contents.VIEWS}
        comments = con.execute("SELECT table_name, column_name, comment FROM duckdb_columns() ORDER BY ALL").fetchall()
        rows = {name: con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall() for name in TABLES}
        return {**rows, **views, "comments": comments}


def from_nothing(warehouse, target):
    """Return what a publication of the same store holds that no other went before."""
    elsewhere = target.parent / "elsewhere" / "predictions.duckdb"
    publish_now(warehouse, elsewhere)
    return all_of(elsewhere)


# Carried on


def next_night(con):
    con.execute("INSERT INTO prediction SELECT * REPLACE ($d AS as_of) FROM prediction WHERE as_of = $t", days())


def days():
    return {"d": FRIDAY, "t": THURSDAY}


def rescored_night(con):
    con.execute("UPDATE prediction SET lgbm = 0.3 WHERE as_of = $d AND rank = 2", {"d": TUESDAY})


def night_that_is_gone(con):
    con.execute("DELETE FROM prediction WHERE as_of = $d", {"d": THURSDAY})


def stock_of_another_name(con):
    con.execute("UPDATE raw_listing SET name = '하이닉스', sector = NULL WHERE ticker = $t", {"t": HYNIX})


def name_and_next_night(con):
    stock_of_another_name(con)
    next_night(con)


def nothing(con):
    pass


@pytest.mark.parametrize("change", [next_night, rescored_night, night_that_is_gone, name_and_next_night, nothing])
def test_a_publication_carried_on_holds_what_one_built_from_nothing_holds(
    warehouse, target, built_from_nothing, change
):
    first = publish_now(warehouse, target)
    change(warehouse.con)
    carried = publish_now(warehouse, target)
    assert len(built_from_nothing) == 1
    assert (carried.digest == first.digest) == (change is nothing)
    assert all_of(target) == from_nothing(warehouse, target)


def test_where_most_sessions_differ_it_is_built_from_nothing(warehouse, target, built_from_nothing, caplog):
    publish_now(warehouse, target)
    warehouse.con.execute("UPDATE prediction SET lgbm = 0.3")
    with caplog.at_level(logging.INFO, logger="kstock_batch"):
        publish_now(warehouse, target)
    assert len(built_from_nothing) == 2
    assert "built from nothing: 3 of 3 sessions differ" in caplog.text
    assert all_of(target) == from_nothing(warehouse, target)


def of_other_columns(path):
    con = duckdb.connect(str(path))
    con.execute("ALTER TABLE prediction ADD COLUMN of_tomorrow INTEGER")
    con.close()


def of_another_program(path):
    path.unlink()
    con = duckdb.connect(str(path))
    con.execute("CREATE TABLE prediction AS SELECT 1 AS one")
    con.close()


def of_before(path):
    """As it was before sessions had digests of their own."""
    con = duckdb.connect(str(path))
    for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE table_name <> 'prediction'").fetchall():
        con.execute(f"DROP TABLE {name}")
    con.close()


def damaged(path):
    data = bytearray(path.read_bytes())
    data[12288 : 12288 + 4096] = bytes(4096)
    path.write_bytes(data)


def of_a_lying_digest(path):
    con = duckdb.connect(str(path))
    con.execute("UPDATE published_session SET n_predictions = 7 WHERE as_of = (SELECT min(as_of) FROM prediction)")
    con.close()


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (of_other_columns, "its predictions have other columns"),
        (of_another_program, "the last publication cannot be carried on"),
        (of_before, "it holds only ['prediction']"),
        (damaged, "the last publication cannot be carried on"),
        (of_a_lying_digest, "number of predictions of the sessions should be 8 but is 13"),
    ],
)
def test_a_last_publication_that_is_no_beginning_does_not_stop_the_next(
    warehouse, target, built_from_nothing, caplog, spoil, told
):
    publish_now(warehouse, target)
    spoil(target)
    next_night(warehouse.con)
    with caplog.at_level(logging.INFO, logger="kstock_batch"):
        publish_now(warehouse, target)
    assert len(built_from_nothing) == 2
    assert told in caplog.text
    assert all_of(target) == from_nothing(warehouse, target)


# Windows


SESSIONS = [MONDAY - timedelta(days=n) for n in range(50, 0, -1)] + [MONDAY]


def bars(con, ticker, sessions):
    con.execute(
        "INSERT INTO feature_daily BY NAME SELECT $ticker AS ticker, unnest($days) AS as_of,"
        " CAST(unnest(range(len($days))) AS FLOAT) AS rsi, 100 AS close, 200 AS bars_available,"
        " 0 AS null_feature_count, true AS is_scoreable, 1 AS feature_set_version",
        {"ticker": ticker, "days": sessions},
    )


@pytest.fixture(scope="module")
def windowed(tmp_path_factory):
    """A publication of four stocks: one traded daily, one was halted, one is young, one did not trade at the end."""
    root = tmp_path_factory.mktemp("windowed")
    target = root / "predictions.duckdb"
    with small_store(root) as warehouse:
        con = warehouse.con
        con.execute("DELETE FROM raw_calendar")
        con.execute(
            "INSERT INTO raw_calendar SELECT day, day, day, day, NULL FROM (SELECT unnest($d) AS day)", {"d": SESSIONS}
        )
        bars(con, SAMSUNG, SESSIONS)
        bars(con, HALTED, [*SESSIONS[11:26], *SESSIONS[-5:]])  # 20 bars over exactly 40 sessions
        bars(con, YOUNG, SESSIONS[-19:])
        bars(con, HYNIX, SESSIONS[:-1])
        bars(con, "009990", [*SESSIONS[10:25], *SESSIONS[-5:]])  # 41 sessions
        predict(warehouse, MONDAY, {SAMSUNG: 0.5, HALTED: 0.6, YOUNG: 0.4, HYNIX: 0.3, "009990": 0.2})
        con.execute(
            "INSERT INTO audit_result VALUES ($old, 'source_freshness', 'warn', 2, '[]', 'run-0', $at),"
            " ($new, 'source_freshness', 'warn', 1, '[{\"ticker\": \"005930\"}]', 'run-1', $at)",
            {"old": SESSIONS[-2], "new": MONDAY, "at": NOON},
        )
        con.execute(
            "INSERT INTO run (run_id, command, status, pid, started_at, finished_at)"
            " VALUES ('run-1', 'score', 'done', 1, $at, $at), ('run-2', 'score', 'running', 1, $at, NULL)",
            {"at": NOON},
        )
        con.execute("INSERT INTO run_stage VALUES ('run-1', 'score', 5, 1.5), ('run-2', 'score', 5, 1.5)")
        publish_now(warehouse, target)
        stored = con.execute("SELECT ticker, bars FROM feature_window WHERE as_of = $d ORDER BY ticker", {"d": MONDAY})
        return target, stored.fetchall()


def test_the_windows_are_the_20_bars_that_the_store_says_a_model_reads(windowed):
    target, stored = windowed
    wanted = [
        (ticker, bar["as_of"], *(bar[name] for name in FEATURE_NAMES), bar["close"])
        for ticker, window in stored
        if ticker in (SAMSUNG, HALTED)
        for bar in window
    ]
    columns = ", ".join(FEATURE_NAMES)
    with opened(target) as con:
        found = con.execute(f"SELECT ticker, as_of, {columns}, close FROM window_latest").fetchall()
    assert len(wanted) == 40
    assert found == wanted


def test_a_stock_without_a_window_has_no_bars_there(windowed):
    target, _ = windowed
    with opened(target) as con:
        found = con.execute("SELECT DISTINCT ticker FROM window_latest ORDER BY ticker").fetchall()
    assert found == [(HALTED,), (SAMSUNG,)]


def test_audits_are_published_with_their_history_and_stages_of_runs_that_have_ended(windowed):
    target, _ = windowed
    with opened(target) as con:
        assert con.execute("SELECT as_of, audit, n_offending FROM audit_result").fetchall() == [
            (MONDAY, "source_freshness", 1),
            (SESSIONS[-2], "source_freshness", 2),
        ]
        assert con.execute("SELECT run_id, stage, n_rows, seconds FROM run_stage").fetchall() == [
            ("run-1", "score", 5, 1.5)
        ]


def test_a_window_of_other_than_20_bars_is_not_published(windowed, tmp_path):
    target, _ = windowed
    copy = tmp_path / "copy.duckdb"
    shutil.copyfile(target, copy)
    con = duckdb.connect(str(copy))
    con.execute("DELETE FROM window_latest WHERE ticker = $t AND rsi = 45", {"t": SAMSUNG})
    con.close()
    with publishing.Verifier() as verifier:
        never = {"start": date.max, "end": date.min}
        verdict = verifier.verify(copy, {"digest": None, "row_hash": None, **never})
    assert verdict.faults == "number of windows that are not 20 bars through as-of should be 0 but is 1"
