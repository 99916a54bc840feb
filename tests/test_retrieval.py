"""Point-in-time retrieval: a spine row gets what its night knew, never what came after."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from factories import FIRST, LAST, SAMSUNG, SATURDAY, asked_json, done, run, sentence, sessions_between, store_rows
from hand_store import hand_store, prices, put, weekdays
from kstock_batch.errors import ConfigError
from kstock_batch.features.retrieval import read_features
from kstock_batch.store.warehouse import insert_rows

DAYS = weekdays(date(2024, 3, 4), 12)


def stored(warehouse, ticker, days):
    """Put one row a day whose rsi is the day's number."""
    contract = [row[0] for row in warehouse.con.execute("DESCRIBE feature_daily").fetchall()]
    rows = pl.DataFrame({"ticker": ticker, "as_of": days, "rsi": [float(DAYS.index(day)) for day in days]})
    known = {"close": 1.0, "bars_available": 1, "null_feature_count": 0, "is_scoreable": True, "feature_set_version": 1}
    filled = rows.with_columns(
        pl.lit(known.get(name)).alias(name) for name in contract if name not in ("ticker", "as_of", "rsi")
    )
    insert_rows(warehouse.con, "feature_daily", filled, order="as_of")


@pytest.fixture
def warehouse(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS, [100] * 12))
        stored(warehouse, "000010", DAYS)
        stored(warehouse, "000020", [*DAYS[:4], *DAYS[9:]])
        yield warehouse


def rsi(warehouse, spine, **how):
    return read_features(warehouse.con, pl.DataFrame(spine), ["rsi"], **how)


def test_rows_come_back_in_the_spines_order_with_its_own_columns_and_duplicates(warehouse):
    spine = {"ticker": ["000020", "000010", "000020"], "as_of": [DAYS[3], DAYS[0], DAYS[3]], "trade": ["a", "b", "c"]}
    found = rsi(warehouse, spine)
    assert found.rows() == [
        ("000020", DAYS[3], "a", DAYS[3], 3.0),
        ("000010", DAYS[0], "b", DAYS[0], 0.0),
        ("000020", DAYS[3], "c", DAYS[3], 3.0),
    ]


def test_a_day_without_a_session_means_the_session_before_it(warehouse):
    saturday = DAYS[4] + timedelta(days=1)
    assert rsi(warehouse, {"ticker": ["000010"], "as_of": [saturday]})["feature_as_of"].to_list() == [DAYS[4]]


def test_a_session_without_a_trade_is_null_unless_an_older_row_may_stand_for_it(warehouse):
    spine = {"ticker": ["000020"] * 3, "as_of": [DAYS[4], DAYS[6], DAYS[8]]}
    assert rsi(warehouse, spine)["rsi"].to_list() == [None] * 3
    assert rsi(warehouse, spine, max_age_sessions=3)["rsi"].to_list() == [3.0, 3.0, None], "never the row after"


def test_an_unknown_ticker_and_a_day_before_all_sessions_are_null(warehouse):
    spine = {"ticker": ["999999", "000010"], "as_of": [DAYS[3], DAYS[0] - timedelta(days=400)]}
    found = rsi(warehouse, spine, max_age_sessions=5)
    assert found["rsi"].to_list() == found["feature_as_of"].to_list() == [None, None]


def test_an_empty_spine_gives_an_empty_answer(warehouse):
    spine = pl.DataFrame(schema={"ticker": pl.String, "as_of": pl.Date})
    assert read_features(warehouse.con, spine, ["rsi"], max_age_sessions=2).height == 0


def test_a_spine_or_a_column_that_is_none_is_refused_by_name(warehouse):
    with pytest.raises(ConfigError, match=r"no columns \['as_of'\]"):
        rsi(warehouse, {"ticker": ["000010"]})
    with pytest.raises(ConfigError, match=r"no columns \['rsii'\]"):
        read_features(warehouse.con, pl.DataFrame({"ticker": ["000010"], "as_of": [DAYS[0]]}), ["rsii"])


@pytest.mark.parametrize(
    ("spine", "says"),
    [
        ({"ticker": ["000010"], "as_of": [20240304]}, "as_of has type Int64"),
        ({"ticker": [10], "as_of": [DAYS[0]]}, "ticker has type Int64"),
        ({"ticker": ["000010"], "as_of": [datetime(2024, 3, 4, 9, 5)]}, "an instant within a day, 2024-03-04 09:05:00"),
        ({"ticker": ["000010"], "as_of": [DAYS[0]], "rsi": [1.0]}, r"columns \['rsi'\] of its own"),
        ({"ticker": ["000010"], "as_of": [DAYS[0]], "feature_as_of": [1]}, "of its own"),
    ],
)
def test_a_spine_that_cannot_be_meant_is_refused(warehouse, spine, says):
    with pytest.raises(ConfigError, match=says):
        rsi(warehouse, spine)


def test_a_day_written_as_midnight_is_that_day_and_the_spines_own_columns_decide_nothing(warehouse):
    spine = {"ticker": ["000010"], "as_of": [datetime(2024, 3, 5)], "session": [DAYS[9]], "session_number": [3]}
    found = rsi(warehouse, spine)
    assert found["rsi"].to_list() == [1.0]
    assert found["session"].to_list() == [DAYS[9]]


# The commands


@pytest.fixture
def built(root):
    done(root, "features")
    return root


def test_features_get_writes_the_spine_with_its_features(built, tmp_path):
    spine = pl.DataFrame({"ticker": [SAMSUNG, SAMSUNG], "as_of": [LAST, SATURDAY]})
    spine.write_parquet(tmp_path / "spine.parquet")
    told = asked_json(built, "features", "get", tmp_path / "spine.parquet", "--out", tmp_path / "out.parquet")
    assert (told["n_rows"], told["n_found"]) == (2, 2)
    rows = pl.read_parquet(tmp_path / "out.parquet")
    ((rsi_stored,),) = store_rows(
        built, f"SELECT rsi FROM feature_daily WHERE ticker = '{SAMSUNG}' AND as_of = '{LAST}'"
    )
    assert rows["rsi"].to_list() == [rsi_stored] * 2
    assert rows["feature_as_of"].to_list() == [LAST] * 2


@pytest.mark.parametrize("spine", ["absent", "no parquet"])
def test_a_spine_that_cannot_be_read_is_named(built, tmp_path, spine):
    path = tmp_path / "spine.parquet"
    if spine == "no parquet":
        path.write_text("ticker,as_of", encoding="utf-8")
    told = run(built, "features", "get", path, "--out", tmp_path / "out.parquet")
    assert (told.exit_code, str(path) in sentence(told)) == (7, True)
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize("written", ["spine.parquet", "../{0}/spine.parquet", "link.parquet"])
def test_a_spine_is_never_overwritten_by_its_own_features(built, tmp_path, written):
    path = tmp_path / "spine.parquet"
    pl.DataFrame({"ticker": [SAMSUNG], "as_of": [LAST]}).write_parquet(path)
    (tmp_path / "link.parquet").symlink_to(path)
    before, out = path.read_bytes(), tmp_path / written.format(tmp_path.name)
    told = run(built, "features", "get", path, "--out", out)
    assert (told.exit_code, path.read_bytes()) == (2, before)
    assert sentence(told) == f"error: --out {out} is the SPINE itself fix: name another file"


def test_a_past_night_computed_anew_is_what_is_stored(built, tmp_path):
    day = sessions_between(FIRST, LAST)[70]
    out = tmp_path / "night.parquet"
    told = asked_json(built, "features", "--as-known-at", f"{day}T18:30", "--out", out)
    assert (told["end"], told["is_identical"], told["differing"]) == (str(day), True, {})
    assert pl.read_parquet(out)["as_of"].unique().to_list() == [day]


def test_what_differs_from_the_stored_night_is_told_by_column(built):
    with_store_changed(built, "UPDATE feature_daily SET rsi = 1 WHERE as_of = (SELECT max(as_of) FROM feature_daily)")
    result = done(built, "features", "--as-known-at", f"{LAST}T18:30")
    assert "rsi" in result.stdout
    assert "different from what is stored" in result.stdout


def with_store_changed(root, statement):
    import duckdb

    from kstock_batch.settings import Settings

    with duckdb.connect(str(Settings(root=root).store)) as con:
        con.execute(statement)


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--as-known-at", "yesterday"), 2, "is not an instant like"),
        (("--as-known-at", "2024-06-28"), 2, "has no time of day"),
        (("--as-known-at", "2001-01-05T18:30"), 3, "was known at"),
        (("--as-known-at", "2024-04-01T18:30", "--as-of", "2024-06-28"), 2, "was not known then"),
        (("--as-of", "2024-06-28"), 2, "belong to a past night"),
        (("--as-stored-at", "2001-01-05T18:30"), 3, "was known at"),
    ],
)
def test_a_past_night_that_cannot_be_computed_is_refused(built, args, code, says):
    told = run(built, "features", *args)
    assert told.exit_code == code, told.stderr
    assert says in told.stderr
