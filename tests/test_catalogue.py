"""The catalogue: views and macros that agree with the tensor cell by cell, and a meaning for every column."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from factories import opened
from hand_store import hand_store, listing, put, weekdays
from kstock_batch.features.windows import BarRows, gather
from kstock_batch.market.contract import FEATURE_NAMES, FEATURES, MAX_WINDOW_SPAN, WINDOW
from kstock_batch.settings import Settings
from kstock_batch.store import catalogue
from kstock_batch.store.catalogue import column_meaning, install_catalogue
from kstock_batch.store.warehouse import Warehouse, insert_rows

DAYS = weekdays(date(2024, 1, 1), 90)


@pytest.fixture
def hand(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        yield warehouse


def bars(ticker: str, numbers, **columns) -> pl.DataFrame:
    """Feature rows on the sessions of the given numbers; rsi counts them, what a test does not name is NULL."""
    rows = pl.DataFrame({"ticker": ticker, "as_of": [DAYS[n] for n in numbers], "rsi": [float(n) for n in numbers]})
    rest = {"close": 100.0, "bars_available": 1, "null_feature_count": 29, "is_scoreable": True}
    return rows.with_columns(**{name: pl.lit(value) for name, value in {**rest, "feature_set_version": 1}.items()})


def put_features(warehouse, *frames):
    insert_rows(warehouse.con, "feature_daily", pl.concat(frames), order="as_of, ticker")


def window(warehouse, ticker, day):
    return warehouse.con.execute("SELECT rsi FROM window_20d($t, $d)", {"t": ticker, "d": day}).fetchall()


# The window in SQL is the tensor


def tensor_of(con) -> tuple[list[tuple[str, date]], np.ndarray]:
    """Return the ends of all windows and their (N, T, F), as training and scoring gather them."""
    rows = con.sql("SELECT f.*, s.session_number FROM feature_daily AS f JOIN session AS s ON s.session = f.as_of").pl()
    stored = BarRows.of(rows)
    ends = stored.window_ends()
    keys = stored.frame.select("ticker", "as_of").rows()
    return [keys[int(end)] for end in ends], gather(stored.values(FEATURE_NAMES), ends)


def as_tensor(rows: pl.DataFrame) -> np.ndarray:
    numbers = pl.col(FEATURE_NAMES).cast(pl.Float32).fill_null(float("nan"))
    return rows.select(numbers).to_numpy()


def test_a_window_in_sql_is_the_tensor_cell_by_cell(walked):
    with opened(Settings(root=walked).store) as con:
        keys, windows = tensor_of(con)
        some = np.random.default_rng(7).choice(len(keys), size=300, replace=False)
        for at in some:
            ticker, as_of = keys[at]
            found = con.sql("FROM window_20d($ticker, $as_of)", params={"ticker": ticker, "as_of": as_of}).pl()
            np.testing.assert_array_equal(as_tensor(found), windows[at])
            assert found["as_of"].is_sorted()
    assert np.isnan(windows[some]).any(), "no window with a NULL was compared"


def test_the_view_of_windows_is_the_tensor_cell_by_cell(walked):
    with opened(Settings(root=walked).store) as con:
        keys, windows = tensor_of(con)
        for ticker in sorted({ticker for ticker, _ in keys})[::9]:
            mine = [n for n, (of, _) in enumerate(keys) if of == ticker]
            found = con.sql(
                "SELECT as_of, bars FROM feature_window WHERE ticker = $ticker ORDER BY as_of",
                params={"ticker": ticker},
            ).pl()
            assert found["as_of"].to_list() == [keys[n][1] for n in mine]
            rows = found.select(pl.col("bars").explode()).unnest("bars")
            np.testing.assert_array_equal(as_tensor(rows).reshape(-1, WINDOW, len(FEATURE_NAMES)), windows[mine])


def test_sql_has_a_window_exactly_where_the_tensor_has_one(hand):
    dense, sparse = [*range(19), MAX_WINDOW_SPAN - 1], [*range(19), MAX_WINDOW_SPAN]
    frames = {"dense": dense, "sparse": sparse, "short": range(19), "broken": [*range(10), *range(45, 60)]}
    put_features(hand, *(bars(ticker, numbers) for ticker, numbers in frames.items()))
    keys, _ = tensor_of(hand.con)
    assert keys == [("dense", DAYS[MAX_WINDOW_SPAN - 1])]
    found = [(ticker, day) for ticker in frames for day in DAYS if window(hand, ticker, day)]
    assert found == keys
    assert hand.con.execute("SELECT ticker, as_of FROM feature_window").fetchall() == keys


def test_a_window_ends_on_a_bar_and_is_the_newest_twenty_oldest_first(hand):
    put_features(hand, bars("a", range(25)))
    assert window(hand, "a", DAYS[24]) == [(float(n),) for n in range(5, 25)]
    assert window(hand, "a", DAYS[25]) == []
    assert window(hand, "b", DAYS[24]) == []


# The other views and macros


def test_a_cross_section_is_one_session_and_a_history_one_ticker_in_order(hand):
    put_features(hand, bars("b", [3, 1, 2]), bars("a", [2]))
    put(hand, "raw_listing", [listing("a", sector="은행")], available_at=datetime(2024, 1, 1))
    rows = hand.con.execute("SELECT ticker, name, sector FROM cross_section($d)", {"d": DAYS[2]}).fetchall()
    assert rows == [("a", "이름a", "은행"), ("b", None, None)]
    written = f"SELECT count(*) FROM cross_section('{DAYS[2]}')"  # as a person types it
    assert hand.con.execute(written).fetchall() == [(2,)]
    history = hand.con.execute("SELECT rsi, session_number FROM feature_history('b')").fetchall()
    assert history == [(1.0, 2), (2.0, 3), (3.0, 4)]


def test_views_of_raw_tables_show_the_newest_version_that_stands(hand):
    known = datetime(2024, 1, 1)
    for version, close, retracted in ((1, 10.0, None), (2, 11.0, None), (3, 12.0, known)):
        price = {"ticker": "a", "session": DAYS[0], "price_basis": "adjusted", "volume": 1, "close": close}
        price |= dict.fromkeys(("open", "high", "low"), close) | {"version": version, "retracted_at": retracted}
        row = pl.DataFrame([price], schema_overrides={"retracted_at": pl.Datetime("us")})
        put(hand, "raw_price", row, available_at=known)
        name = pl.DataFrame([listing("a") | {"name": f"이름{version}", "version": version, "retracted_at": retracted}])
        put(hand, "raw_listing", name.cast({"retracted_at": pl.Datetime("us")}), available_at=known)
    put(hand, "raw_price", row.with_columns(ticker=pl.lit("gone")), available_at=known)  # retracted, and nothing before
    put(
        hand,
        "raw_price",
        row.with_columns(pl.lit("b").alias("ticker"), version=1, retracted_at=None),
        available_at=known,
    )
    assert hand.con.execute("SELECT ticker, close, version FROM price ORDER BY ticker").fetchall() == [
        ("a", 11.0, 2),
        ("b", 12.0, 1),
    ]
    assert hand.con.execute("SELECT name FROM listing").fetchall() == [("이름2",)]


def test_a_label_is_shown_beside_its_features_once_it_is_known(hand):
    put_features(hand, bars("a", [0, 1]))
    label = {"ticker": "a", "as_of": DAYS[0], "forward_return": 0.05, "label_5d": 1, "is_delisted": False}
    insert_rows(hand.con, "label_daily", pl.DataFrame([label | {"known_on": DAYS[5]}]), order="1")
    rows = hand.con.execute("SELECT as_of, label_5d FROM labelled_feature ORDER BY as_of").fetchall()
    assert rows == [(DAYS[0], 1), (DAYS[1], None)]


# What columns mean


def test_every_table_view_macro_and_column_says_what_it_means(hand):
    silent = hand.con.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        " UNION ALL SELECT table_name, NULL FROM duckdb_tables() WHERE comment IS NULL"
        " UNION ALL SELECT view_name, NULL FROM duckdb_views() WHERE NOT internal AND comment IS NULL"
        " UNION ALL SELECT function_name, NULL FROM duckdb_functions()"
        " WHERE function_type = 'table_macro' AND NOT internal AND comment IS NULL"
    ).fetchall()
    assert silent == [], "say it in store/comments.toml"


def test_no_meaning_is_left_of_a_column_that_is_gone(walked):
    real = set()
    for path in (Settings(root=walked).store, Settings(root=walked).published):
        with opened(path) as con:
            real |= set(con.execute("SELECT table_name, column_name FROM duckdb_columns()").fetchall())
    relations = {relation for relation, _ in real} | {"every", "snapshot"}
    told = {(relation, column) for relation, columns in catalogue._comments().items() for column in columns}
    assert {relation for relation, _ in told} <= relations
    gone = {(of, column) for of, column in told - real if of not in {"every", "snapshot"} and column != "*"}
    assert gone == set()


def test_a_features_comment_is_its_definition_in_the_store_and_in_the_published_file(walked):
    definitions = {feature.name: feature.definition for feature in FEATURES}
    statement = "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = '{}'"
    for path, relations in (
        (Settings(root=walked).store, ("feature_daily", "feature", "labelled_feature")),
        (Settings(root=walked).published, ("feature_latest",)),
    ):
        with opened(path) as con:
            for relation in relations:
                told = dict(con.execute(statement.format(relation)).fetchall())
                assert {name: told[name] for name in FEATURE_NAMES} == definitions


def test_the_published_file_says_what_every_column_means(walked):
    with opened(Settings(root=walked).published) as con:
        silent = con.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        ).fetchall()
    assert silent == []


def test_a_column_that_two_tables_share_means_in_each_what_that_table_says():
    assert column_meaning("raw_financial", "debt_ratio") == "liabilities / equity, percent"
    assert column_meaning("feature", "debt_ratio") == "liabilities / equity · 100, the latest known"
    assert column_meaning("price", "close") == "won"
    assert column_meaning("feature_daily", "a_feature_of_tomorrow") is None


# Keeping it so


def test_a_store_that_has_the_catalogue_is_not_written_to(tmp_path):
    settings = Settings(root=tmp_path)
    Warehouse.open(settings).__exit__(None, None, None)
    before = settings.store.read_bytes()
    Warehouse.open(settings).__exit__(None, None, None)
    assert settings.store.read_bytes() == before


def test_a_changed_text_is_installed_and_what_is_no_longer_ours_is_dropped(hand, monkeypatch):
    hand.con.execute("CREATE VIEW theirs AS SELECT 1 AS n")
    installable = catalogue._installable

    def only_listing(queries):
        return [query for query in queries if query.name == "views/listing"]

    monkeypatch.setattr(catalogue, "_installable", lambda tables: only_listing(installable(tables)))
    install_catalogue(hand.con)
    views = "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1"
    assert hand.con.execute(views).fetchall() == [("listing",), ("theirs",)]
    monkeypatch.undo()
    install_catalogue(hand.con)
    assert len(hand.con.execute(views).fetchall()) == 12


def test_a_column_added_to_the_features_is_in_the_views_and_macros_at_once(hand):
    put_features(hand, bars("a", range(20)))
    hand.con.execute("ALTER TABLE feature_daily ADD COLUMN short_ratio FLOAT DEFAULT 0.5")
    for relation in ("feature", "labelled_feature", "feature_history('a')", f"window_20d('a', '{DAYS[19]}')"):
        assert hand.con.execute(f"SELECT count(short_ratio) FROM {relation}").fetchall() == [(20,)], relation
    install_catalogue(hand.con)
    assert hand.con.execute("SELECT bars[20].short_ratio FROM feature_window").fetchall() == [(0.5,)]


def test_the_statements_state_the_contracts_window(tmp_path):
    for name in ("views/window_20d", "views/feature_window", "serve/window_latest"):
        text = (catalogue.sql_folder() / f"{name}.sql").read_text(encoding="utf-8")
        assert str(WINDOW) in text
        assert str(MAX_WINDOW_SPAN) in text


def test_a_store_that_was_killed_before_a_checkpoint_keeps_its_views_and_comments(tmp_path):
    import subprocess
    import sys

    script = (
        "import os, sys; from pathlib import Path; from kstock_batch.settings import Settings;"
        "from kstock_batch.store.warehouse import Warehouse;"
        "Warehouse.open(Settings(root=Path(sys.argv[1]))); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[1], check=False)
    with Warehouse.read(Settings(root=tmp_path)) as warehouse:
        assert warehouse.con.execute("FROM window_20d('a', '2024-01-02')").fetchall() == []
        told = "SELECT count(*) FROM duckdb_columns() WHERE NOT internal AND comment IS NULL"
        assert warehouse.con.execute(told).fetchall() == [(0,)]
