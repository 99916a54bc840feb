import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from factories import done, fill_disk, flip_byte, opened
from kstock_batch.bot.feature_store import FeatureStore
from kstock_batch.errors import ConfigError, DiskFull, RowsRefused, StoreIncompatible, WarehouseLocked
from kstock_batch.market.contract import FEATURE_NAMES
from small_store import MONDAY, THURSDAY, TUESDAY, predict, publish_now, small_store

REPOSITORY = Path(__file__).parents[1]
SAMSUNG, HYNIX, UNLISTED = "005930", "000660", "00088K"
THE_29TH, THE_30TH, NOVEMBER = "2026-10-29", "2026-10-30", "2026-11-02"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "the bot's" / "features.duckdb"


@pytest.fixture
def store(path):
    return FeatureStore(path)


def filled(store):
    """Three dates, two tickers, and one name that only one ticker has."""
    store.add_features_batch(
        [
            (SAMSUNG, THE_30TH, "rsi", 55.5, "technical", "bot"),
            (SAMSUNG, THE_29TH, "rsi", 44.4, "technical", "bot"),
            (SAMSUNG, NOVEMBER, "rsi", 66.6, "technical", "bot"),
            (HYNIX, THE_30TH, "rsi", 33.3, "technical", "bot"),
            (HYNIX, THE_30TH, "news_score", -0.7, "text", "news"),
        ]
    )
    return store


# What the bot calls


def test_a_feature_that_was_added_is_given_back(store):
    store.add_feature(SAMSUNG, THE_30TH, "news_score", 0.7, category="text", source="news")
    assert store.get_features(SAMSUNG, THE_30TH) == {"news_score": 0.7}
    assert store.get_features_dict(SAMSUNG, date(2026, 10, 30)) == {"news_score": 0.7}


def test_what_is_not_known_is_absent_and_never_a_number(store):
    filled(store)
    assert store.get_features(HYNIX, THE_29TH) == {}
    assert store.get_feature_history(UNLISTED, "rsi", "2000-01-01", "2999-12-31") == []
    assert store.get_cross_section(THE_29TH, "news_score") == {}
    assert store.get_tickers_for_date("2026-10-31") == []
    assert FeatureStore(store._own.path.with_name("another.duckdb")).get_available_dates() == []


def test_the_same_key_overwrites(store):
    store.add_feature(SAMSUNG, THE_30TH, "rsi", 1.0, "old", "old")
    store.add_feature(SAMSUNG, THE_30TH, "rsi", 2.0, "new", "new")
    assert store.get_features(SAMSUNG, THE_30TH) == {"rsi": 2.0}
    assert store.get_stats()["n_by_source"] == {"new": 1}
    assert store.add_features_batch([(SAMSUNG, THE_30TH, "rsi", 3.0), (SAMSUNG, THE_30TH, "rsi", 4.0)]) == 1
    assert store.get_features(SAMSUNG, THE_30TH) == {"rsi": 4.0}
    assert store.get_stats()["n_rows"] == 1


def test_a_batch_takes_mappings_and_sequences_and_says_how_many_it_stored(store):
    row = {"ticker": SAMSUNG, "date": date(2026, 10, 30), "name": "rsi", "value": 55.5, "source": "bot"}
    assert store.add_features_batch([row, (HYNIX, THE_30TH, "rsi", Decimal("33.25"), "technical")]) == 2
    assert store.add_features_batch(iter([])) == 0
    assert store.get_cross_section(THE_30TH, "rsi") == {HYNIX: 33.25, SAMSUNG: 55.5}
    assert store.get_stats()["n_by_source"] == {"": 1, "bot": 1}


def test_every_bit_of_a_value_comes_back(store):
    values = [-0.0, 5e-324, 1.7976931348623157e308, 1 / 3, 2.0**53 + 2, -1e-7, float.fromhex("0x1.fffffep-3")]
    store.add_features_batch([(SAMSUNG, THE_30TH, f"n{n}", value) for n, value in enumerate(values)])
    given = store.get_features(SAMSUNG, THE_30TH)
    assert [given[f"n{n}"].hex() for n in range(len(values))] == [value.hex() for value in values]


def test_names_and_sources_of_any_script_come_back(store):
    store.add_feature(SAMSUNG, THE_30TH, '뉴스\'s "점수"; DROP TABLE feature; --', 1.0, "감성", "연합뉴스\\")
    assert list(store.get_features(SAMSUNG, THE_30TH)) == ['뉴스\'s "점수"; DROP TABLE feature; --']
    assert store.get_stats()["n_by_source"] == {"연합뉴스\\": 1}
    assert store.get_stats()["n_by_category"] == {"감성": 1}


def test_history_is_ascending_and_includes_both_ends(store):
    filled(store)
    whole = [(THE_29TH, 44.4), (THE_30TH, 55.5), (NOVEMBER, 66.6)]
    assert store.get_feature_history(SAMSUNG, "rsi", THE_29TH, NOVEMBER) == whole
    assert store.get_feature_history(SAMSUNG, "rsi", date(2026, 10, 30), NOVEMBER) == whole[1:]
    assert store.get_feature_history(SAMSUNG, "rsi", THE_30TH, THE_30TH) == whole[1:2]
    assert store.get_feature_history(SAMSUNG, "rsi", NOVEMBER, THE_29TH) == []


def test_a_cross_section_is_in_the_tickers_order(store):
    assert list(filled(store).get_cross_section(THE_30TH, "rsi").items()) == [(HYNIX, 33.3), (SAMSUNG, 55.5)]


def test_dates_are_newest_first_before_and_limited(store):
    filled(store)
    assert store.get_available_dates() == [NOVEMBER, THE_30TH, THE_29TH]
    assert store.get_available_dates(limit=2) == [NOVEMBER, THE_30TH]
    assert store.get_available_dates(before=NOVEMBER) == [THE_30TH, THE_29TH]
    assert store.get_available_dates(before=date(2026, 11, 2), limit=1) == [THE_30TH]
    assert store.get_available_dates(before=THE_29TH) == []
    assert store.get_available_dates(limit=0) == []


def test_sixty_dates_are_given_unless_told(store):
    store.add_features_batch([(SAMSUNG, date.fromordinal(740_000 + n), "rsi", n) for n in range(70)])
    assert len(store.get_available_dates()) == 60
    assert store.get_available_dates()[0] == date.fromordinal(740_069).isoformat()
    assert len(store.get_available_dates(limit=10**30)) == 70


def test_tickers_of_a_date_are_in_order(store):
    assert filled(store).get_tickers_for_date(THE_30TH) == [HYNIX, SAMSUNG]
    assert store.get_tickers_for_date(THE_29TH) == [SAMSUNG]


def test_the_stats_of_a_store(store, path):
    assert filled(store).get_stats() == {
        "path": str(path),
        "n_rows": 5,
        "n_tickers": 2,
        "n_dates": 3,
        "n_names": 2,
        "oldest_date": THE_29TH,
        "newest_date": NOVEMBER,
        "n_by_category": {"technical": 4, "text": 1},
        "n_by_source": {"bot": 4, "news": 1},
        "published_path": None,
        "published_as_of": None,
        "n_published": 0,
        "published_problem": None,
    }


def test_the_stats_of_an_empty_store(store):
    stats = store.get_stats()
    assert (stats["n_rows"], stats["oldest_date"], stats["newest_date"], stats["n_by_source"]) == (0, None, None, {})


def test_cleaning_up_removes_what_is_older_and_says_how_many(path):
    late_in_utc = datetime(2026, 11, 1, 15, 30)  # Seoul has reached November 2
    store = filled(FeatureStore(path, clock=lambda: late_in_utc))
    assert store.cleanup_stale(4) == 0  # the 29th is four days old
    assert store.cleanup_stale(3) == 1
    assert store.get_available_dates() == [NOVEMBER, THE_30TH]
    assert store.cleanup_stale(3) == 0
    assert store.cleanup_stale(10**9) == 0
    assert store.cleanup_stale(0) == 3
    assert store.get_features(SAMSUNG, NOVEMBER) == {"rsi": 66.6}


def test_rows_outlive_the_object(store, path):
    filled(store)
    store.close()
    store.close()
    assert FeatureStore(path).get_stats()["n_rows"] == 5
    assert store.get_features(SAMSUNG, NOVEMBER) == {"rsi": 66.6}


# Together with what the job published


@pytest.fixture(scope="module")
def generations(tmp_path_factory):
    """Two publications as bytes: as-of Tuesday and as-of Thursday; Hynix has no PER, nobody a ROE."""
    root = tmp_path_factory.mktemp("job")
    target = root / "predictions.duckdb"
    insert = "INSERT INTO feature_daily BY NAME SELECT $day AS as_of, $ticker AS ticker, $rsi AS rsi, $per AS per"
    facts = "100 AS bars_available, 28 AS null_feature_count, true AS is_scoreable, 1 AS feature_set_version"
    with small_store(root) as warehouse:
        for day, more in ((MONDAY, 0), (TUESDAY, 1), (THURSDAY, 2)):
            predict(warehouse, day, {SAMSUNG: 0.52, HYNIX: 0.71})
            for ticker, rsi, per in ((SAMSUNG, 50 + more, 12.5), (HYNIX, 30 + more, None)):
                params = {"day": day, "ticker": ticker, "rsi": rsi, "per": per}
                warehouse.con.execute(f"{insert}, 1000 AS close, {facts}", params)
            publish_now(warehouse, target, f"as-of {day}")
            if day == TUESDAY:
                first = target.read_bytes()
        return first, target.read_bytes()


@pytest.fixture
def published(tmp_path):
    return tmp_path / "serving" / "predictions.duckdb"


def put(path, data):
    """Replace the published file as the job does: beside, then renamed."""
    path.parent.mkdir(exist_ok=True)
    temp = path.with_name("beside")
    temp.write_bytes(data)
    temp.replace(path)


@pytest.fixture
def both(path, published, generations):
    put(published, generations[0])
    return FeatureStore(path, published=published)


def test_the_nights_features_are_read_without_being_stored(both):
    assert both.get_features(SAMSUNG, TUESDAY) == {"rsi": 51.0, "per": 12.5}
    assert both.get_features(HYNIX, "2024-06-25") == {"rsi": 31.0}  # NULL is absent
    assert both.get_features(SAMSUNG, MONDAY) == {}  # the newest session alone is published with features
    assert both.get_feature_history(SAMSUNG, "rsi", MONDAY, TUESDAY) == [("2024-06-25", 51.0)]
    assert both.get_feature_history(HYNIX, "per", MONDAY, TUESDAY) == []
    assert both.get_feature_history(SAMSUNG, "rsi", MONDAY, MONDAY) == []
    assert both.get_cross_section(TUESDAY, "rsi") == {HYNIX: 31.0, SAMSUNG: 51.0}
    assert both.get_cross_section(TUESDAY, "per") == {SAMSUNG: 12.5}
    assert both.get_tickers_for_date(TUESDAY) == [HYNIX, SAMSUNG]
    assert both.get_available_dates() == ["2024-06-25"]
    assert both.get_available_dates(before="2024-06-25") == []
    assert both.get_stats()["n_rows"] == 0


def test_the_bots_own_row_wins_over_the_published_one(both):
    both.add_features_batch([(SAMSUNG, TUESDAY, "rsi", 1.0), (SAMSUNG, TUESDAY, "news_score", 0.7)])
    both.add_features_batch([(UNLISTED, TUESDAY, "rsi", 9.0), (SAMSUNG, MONDAY, "rsi", 0.5)])
    assert both.get_features(SAMSUNG, TUESDAY) == {"rsi": 1.0, "per": 12.5, "news_score": 0.7}
    assert both.get_feature_history(SAMSUNG, "rsi", MONDAY, TUESDAY) == [("2024-06-24", 0.5), ("2024-06-25", 1.0)]
    assert both.get_cross_section(TUESDAY, "rsi") == {HYNIX: 31.0, SAMSUNG: 1.0, UNLISTED: 9.0}
    assert both.get_tickers_for_date(TUESDAY) == [HYNIX, UNLISTED, SAMSUNG]
    assert both.get_available_dates() == ["2024-06-25", "2024-06-24"]
    assert both.cleanup_stale(0) == 4  # own rows; what the job published is the job's
    assert both.get_features(SAMSUNG, TUESDAY) == {"rsi": 51.0, "per": 12.5}


def test_a_new_publication_is_seen_by_the_next_question(both, published, generations):
    assert both.get_stats()["published_as_of"] == "2024-06-25"
    put(published, generations[1])
    assert both.get_features(SAMSUNG, THURSDAY) == {"rsi": 52.0, "per": 12.5}
    assert both.get_features(SAMSUNG, TUESDAY) == {}
    assert both.get_stats()["published_as_of"] == "2024-06-27"
    assert both.get_stats()["n_published"] == 3


def test_without_a_publication_own_rows_are_given_and_the_reason_said(path, published, generations):
    store = filled(FeatureStore(path, published=published))
    assert store.get_features(SAMSUNG, THE_30TH) == {"rsi": 55.5}
    stats = store.get_stats()
    assert stats["published_problem"] == f"{published} does not exist"
    assert (stats["published_path"], stats["published_as_of"], stats["n_published"]) == (str(published), None, 0)
    put(published, generations[0])
    assert store.get_features(SAMSUNG, TUESDAY) == {"rsi": 51.0, "per": 12.5}
    assert store.get_stats()["published_problem"] is None


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 20_000])
def test_a_damaged_publication_keeps_the_last_good_one_and_is_named(both, published, generations, damage):
    both.add_feature(SAMSUNG, TUESDAY, "news_score", 0.7)
    both.get_features(SAMSUNG, TUESDAY)
    put(published, damage(generations[1]))
    assert both.get_features(SAMSUNG, TUESDAY) == {"rsi": 51.0, "per": 12.5, "news_score": 0.7}
    assert both.get_stats()["published_problem"].startswith(f"{published} cannot be used: ")
    put(published, generations[1])
    assert both.get_features(SAMSUNG, THURSDAY) == {"rsi": 52.0, "per": 12.5}


def test_damage_that_shows_only_when_read_is_a_reason_and_not_the_end(both, published, generations, monkeypatch):
    both.add_feature(SAMSUNG, TUESDAY, "news_score", 0.7)
    both.get_features(SAMSUNG, TUESDAY)
    put(published, generations[1])
    with monkeypatch.context() as patched:
        patched.setattr("kstock_batch.bot.nightly_features._COLUMNS", "SELECT error('block 7 is damaged')")
        assert both.get_features(SAMSUNG, TUESDAY) == {"rsi": 51.0, "per": 12.5, "news_score": 0.7}
        assert "block 7 is damaged" in both.get_stats()["published_problem"]
    assert both.get_features(SAMSUNG, THURSDAY) == {"rsi": 52.0, "per": 12.5}
    assert both.get_stats()["published_problem"] is None


# From the builder through the store and back


def test_what_the_builder_computed_is_stored_and_read_back_unchanged(walked, path):
    with opened(walked / "warehouse" / "serving" / "predictions.duckdb") as con:
        built = con.execute(f"SELECT ticker, as_of, {', '.join(FEATURE_NAMES)} FROM feature_latest").fetchall()
    tickers = sorted(row[0] for row in built)
    day = built[0][1]
    known = {row[0]: {n: v for n, v in zip(FEATURE_NAMES, row[2:], strict=True) if v is not None} for row in built}
    ticker = max(known, key=lambda name: len(known[name]))
    assert len(known[ticker]) == len(FEATURE_NAMES)
    rows = [(ticker, day, name, value, "contract", "builder") for name, value in known[ticker].items()]

    with FeatureStore(path) as store:
        assert store.add_features_batch(rows) == 30
    store = FeatureStore(path)
    assert store.get_features(ticker, day) == known[ticker]
    assert store.get_features_dict(ticker, day.isoformat()) == known[ticker]
    assert store.get_tickers_for_date(day) == [ticker]
    for name, value in known[ticker].items():
        assert store.get_feature_history(ticker, name, day, day) == [(day.isoformat(), value)]
        assert store.get_cross_section(day, name) == {ticker: value}

    every = [(name, day, feature, value) for name, values in known.items() for feature, value in values.items()]
    assert store.add_features_batch(every) == len(every)
    assert {name: store.get_features(name, day) for name in tickers} == known


def test_the_published_features_are_those_of_the_contract_and_what_the_builder_computed(walked, path):
    serving = walked / "warehouse" / "serving" / "predictions.duckdb"
    store = FeatureStore(path, published=serving)
    with opened(serving) as con:
        built = con.execute(f"SELECT as_of, ticker, {', '.join(FEATURE_NAMES)} FROM feature_latest").fetchall()
    for day, ticker, *values in built:
        known = {name: v for name, v in zip(FEATURE_NAMES, values, strict=True) if v is not None}
        assert store.get_features(ticker, day) == known
    assert {name for row in built for name in store.get_features(row[1], row[0])} == set(FEATURE_NAMES)


# Never in the way, and nobody in its way

_HOLDER = """
import sys
from kstock_batch.bot.feature_store import FeatureStore
with FeatureStore(sys.argv[1], published=sys.argv[2]) as store:
    store.add_feature("005930", "2026-10-30", "news_score", 0.7)
    print(len(store.get_available_dates()), flush=True)
    sys.stdin.readline()
    print(*store.get_available_dates(), flush=True)
"""


def child(code, *args):
    command = [sys.executable, "-c", code, *map(str, args)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, text=True, cwd=REPOSITORY, **pipes)


def test_the_night_runs_while_another_process_holds_the_store_open(trained_root):
    serving = trained_root / "warehouse" / "serving"
    holder = child(_HOLDER, serving / "features.duckdb", serving / "predictions.duckdb")
    assert holder.stdout.readline() == "2\n"
    here = FeatureStore(trained_root / "mine.duckdb", published=serving / "predictions.duckdb")
    with here:
        before = here.get_stats()["published_as_of"]
        done(trained_root, "ingest", "files", trained_root / "next")
        done(trained_root, "score")
        after = here.get_stats()["published_as_of"]
        assert before < after
        assert len(here.get_tickers_for_date(after)) > 30
    said, _ = holder.communicate("\n", timeout=60)
    assert (holder.returncode, said) == (0, f"2026-10-30 {after}\n")


def test_a_store_held_elsewhere_is_waited_for_then_named(path, published):
    holder = child(_HOLDER, path, published)
    assert holder.stdout.readline() == "1\n"
    with pytest.raises(WarehouseLocked) as caught:
        FeatureStore(path, wait_seconds=0.1)
    assert caught.value.what == f"{path} is open in another program, PID {holder.pid}"
    assert "close it there" in caught.value.fix
    released = threading.Timer(0.3, lambda: holder.communicate("\n"))
    released.start()
    assert FeatureStore(path, wait_seconds=30).get_features(SAMSUNG, THE_30TH) == {"news_score": 0.7}
    released.join()


def test_between_calls_nothing_is_locked_and_within_a_block_everything_is(store, path):
    filled(store)
    with opened(path) as notebook:
        assert notebook.execute("SELECT count(*) FROM feature").fetchall() == [(5,)]
    with store, store:
        assert store.get_stats()["n_rows"] == 5
        with pytest.raises(duckdb.ConnectionException):
            duckdb.connect(str(path), read_only=True)
    assert not path.with_name(f"{path.name}.wal").exists()
    with opened(path):
        pass


def test_a_connection_of_this_program_by_other_means_is_named(store, path):
    with opened(path), pytest.raises(WarehouseLocked) as caught:
        store.get_stats()
    assert caught.value.what == f"{path} is open in this program by other means than FeatureStore"
    assert store.get_stats()["n_rows"] == 0


def test_an_error_within_a_block_leaves_the_store_usable(store):
    with store:
        with pytest.raises(StoreIncompatible, match="block 7"):
            store._own.rows("SELECT error('block 7 is damaged')")
        store.add_feature(SAMSUNG, THE_30TH, "rsi", 1.0)
    with pytest.raises(ZeroDivisionError), store:
        raise ZeroDivisionError
    assert store.get_features(SAMSUNG, THE_30TH) == {"rsi": 1.0}


def test_threads_and_objects_on_one_file_lose_and_double_nothing(path):
    stores = [FeatureStore(path), FeatureStore(path)]
    wrong = []

    def write(worker):
        try:
            store = stores[worker % 2]
            for n in range(10):
                store.add_features_batch([(SAMSUNG, THE_30TH, "shared", worker), (HYNIX, THE_30TH, f"{worker}-{n}", n)])
                assert store.get_features(HYNIX, THE_30TH)[f"{worker}-{n}"] == n
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    with stores[0]:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert stores[1].get_stats()["n_rows"] == 41


_WRITER = """
import sys
from kstock_batch.bot.feature_store import FeatureStore
store = FeatureStore(sys.argv[1], wait_seconds=60)
print("ready", flush=True)
for n in range(int(sys.argv[3])):
    store.add_features_batch([("005930", "2026-10-30", f"{sys.argv[2]}-{n}-{i}", i) for i in range(50)])
"""


def test_two_processes_write_in_turns(path):
    writers = [child(_WRITER, path, name, 10) for name in "ab"]
    for writer in writers:
        said, _ = writer.communicate(timeout=120)
        assert (writer.returncode, said) == (0, "ready\n")
    assert FeatureStore(path).get_stats()["n_rows"] == 1000


@pytest.mark.parametrize("seconds", [0.05, 0.2, 0.5])
def test_a_killed_writer_leaves_whole_batches(path, seconds):
    writer = child(_WRITER, path, "a", 100_000)
    assert writer.stdout.readline() == "ready\n"
    threading.Event().wait(seconds)
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    store = FeatureStore(path)
    batches = Counter(name.rpartition("-")[0] for name in store.get_features(SAMSUNG, THE_30TH))
    assert set(batches.values()) <= {50}
    assert sorted(int(name[2:]) for name in batches) == list(range(len(batches)))
    store.add_feature(SAMSUNG, THE_30TH, "rsi", 1.0)


# What it refuses


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (("5930", THE_30TH, "rsi", 1.0), "row 2: '5930' is not a ticker"),
        ((5930, THE_30TH, "rsi", 1.0), "row 2: 5930 is not a ticker"),
        (("00593k", THE_30TH, "rsi", 1.0), "row 2: '00593k' is not a ticker"),
        (("００５９３０", THE_30TH, "rsi", 1.0), "row 2: '００５９３０' is not a ticker"),
        ((SAMSUNG, "20261030", "rsi", 1.0), "row 2: '20261030' is not a date"),
        ((SAMSUNG, "2026-02-30", "rsi", 1.0), "row 2: '2026-02-30' is not a date"),
        (
            (SAMSUNG, datetime(2026, 10, 30, 9), "rsi", 1.0),
            "row 2: datetime.datetime(2026, 10, 30, 9, 0) is not a date",
        ),
        ((SAMSUNG, None, "rsi", 1.0), "row 2: None is not a date"),
        ((SAMSUNG, THE_30TH, " ", 1.0), "row 2: ' ' is not a feature's name"),
        ((SAMSUNG, THE_30TH, "r\0si", 1.0), "row 2: 'r\\x00si' is not a feature's name"),
        ((SAMSUNG, THE_30TH, "rsi", float("nan")), "row 2: nan is not a value of 'rsi' of '005930'"),
        ((SAMSUNG, THE_30TH, "rsi", float("inf")), "row 2: inf is not a value of 'rsi' of '005930'"),
        ((SAMSUNG, THE_30TH, "rsi", 10**400), "is not a value of 'rsi' of '005930'"),
        ((SAMSUNG, THE_30TH, "rsi", None), "row 2: None is not a value of 'rsi' of '005930'"),
        ((SAMSUNG, THE_30TH, "rsi", "55"), "row 2: '55' is not a value of 'rsi' of '005930'"),
        ((SAMSUNG, THE_30TH, "rsi", 1.0, None), "row 2: None is not a category"),
        ((SAMSUNG, THE_30TH, "rsi", 1.0, "", "a\nb"), "row 2: 'a\\nb' is not a source"),
        ((SAMSUNG, THE_30TH, "rsi"), "row 2 is not a feature: ('005930', '2026-10-30', 'rsi')"),
        ({"ticker": SAMSUNG, "value": 1.0}, "row 2 is not a feature: {'ticker': '005930', 'value': 1.0}"),
        (7, "row 2 is not a feature: 7"),
    ],
)
def test_one_bad_row_refuses_the_batch_and_is_named(store, row, what):
    with pytest.raises(RowsRefused) as caught:
        store.add_features_batch([(SAMSUNG, THE_29TH, "rsi", 1.0), row])
    assert what in caught.value.what
    assert caught.value.what.endswith("no row was stored")
    assert caught.value.fix.startswith("give ")
    assert store.get_stats()["n_rows"] == 0


def test_a_failure_in_the_middle_stores_nothing(store, monkeypatch):
    filled(store)
    monkeypatch.setattr("kstock_batch.bot.feature_file._INSERT", "SELECT error('the disk is gone')")
    with pytest.raises(StoreIncompatible, match="the disk is gone"):
        store.add_feature(SAMSUNG, THE_30TH, "rsi", 1.0)
    assert store.get_features(SAMSUNG, THE_30TH) == {"rsi": 55.5}


@pytest.mark.parametrize(
    ("question", "what"),
    [
        (lambda store: store.get_features(5930, THE_30TH), "5930 is not a ticker"),
        (lambda store: store.get_features(SAMSUNG, "yesterday"), "'yesterday' is not a date"),
        (lambda store: store.get_features_dict(SAMSUNG, ""), "'' is not a date"),
        (lambda store: store.get_feature_history(SAMSUNG, "", THE_29TH, THE_30TH), "'' is not a feature's name"),
        (lambda store: store.get_feature_history(SAMSUNG, "rsi", THE_29TH, "2026-13-01"), "'2026-13-01' is not a date"),
        (lambda store: store.get_cross_section("30.10.2026", "rsi"), "'30.10.2026' is not a date"),
        (lambda store: store.get_available_dates("now"), "'now' is not a date"),
        (lambda store: store.get_available_dates(limit=-1), "-1 is not a number of dates"),
        (lambda store: store.get_tickers_for_date(20261030), "20261030 is not a date"),
        (lambda store: store.cleanup_stale(-1), "-1 is not a number of days"),
        (lambda store: store.cleanup_stale(1.5), "1.5 is not a number of days"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_with_its_value(store, question, what):
    with pytest.raises(ConfigError) as caught:
        question(store)
    assert caught.value.what == what
    assert caught.value.fix.startswith("give ")


@pytest.mark.parametrize("name", ["store.duckdb", "Store.DuckDB", "predictions.duckdb"])
def test_the_jobs_own_files_are_refused_by_name_and_not_touched(tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        FeatureStore(tmp_path / "warehouse" / name)
    assert f"{name} is the nightly job's " in caught.value.what
    assert "features.duckdb" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_another_name_for_the_jobs_file_is_no_way_round(walked, tmp_path):
    link = tmp_path / "features.duckdb"
    link.symlink_to(walked / "warehouse" / "store.duckdb")
    with pytest.raises(ConfigError, match="private store"):
        FeatureStore(link)
    with pytest.raises(ConfigError, match="own file and as published one"):
        FeatureStore(tmp_path / "one.duckdb", published=tmp_path / "one.duckdb")


def test_another_database_is_refused_and_left_alone(path):
    path.parent.mkdir()
    con = duckdb.connect(str(path))
    con.execute("CREATE TABLE portfolio AS SELECT 1 AS n")
    con.close()
    before = path.read_bytes()
    with pytest.raises(StoreIncompatible) as caught:
        FeatureStore(path)
    assert caught.value.what == f"{path} is another database, not a feature store: it holds portfolio"
    assert path.read_bytes() == before


def test_a_table_of_another_shape_is_refused(path):
    path.parent.mkdir()
    con = duckdb.connect(str(path))
    con.execute("CREATE TABLE feature AS SELECT 1 AS n")
    con.close()
    with pytest.raises(StoreIncompatible, match="not a feature store: it holds feature"):
        FeatureStore(path)


def test_a_damaged_file_is_one_sentence_and_stays_where_it_is(store, path):
    filled(store)
    path.write_bytes(b"x" * 20_000)
    with pytest.raises(StoreIncompatible) as caught:
        store.get_stats()
    assert caught.value.what.startswith(f"{path} cannot be used: ")
    assert "move it away" in caught.value.fix
    assert path.read_bytes() == b"x" * 20_000
    path.unlink()
    assert store.get_stats()["n_rows"] == 0


def test_a_flipped_byte_is_said_and_never_read_as_a_value(store, path):
    store.add_features_batch([(SAMSUNG, THE_30TH, f"n{n}", n / 7) for n in range(5_000)])
    flip_byte(path, 12_288 + 3_000)
    with pytest.raises(StoreIncompatible, match="cannot be used"):
        store.get_features(SAMSUNG, THE_30TH)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    for wrong in (tmp_path / "file" / "features.duckdb", tmp_path, Path("/proc/features.duckdb")):
        with pytest.raises(StoreIncompatible) as caught:
            FeatureStore(wrong)
        assert caught.value.what.startswith(f"{wrong} cannot be written: ")
        assert "folder writable" in caught.value.fix


def test_a_full_disk_is_named_and_loses_nothing(small_disk):
    store = filled(FeatureStore(small_disk / "features.duckdb"))
    filler = fill_disk(small_disk, leave=64 * 1024)
    rows = [(SAMSUNG, THE_29TH, f"n{n}", n / 7, "", "bot") for n in range(100_000)]
    with pytest.raises(DiskFull, match=r"no space left on the disk of .*features\.duckdb"):
        store.add_features_batch(rows)
    filler.unlink()
    assert store.get_stats()["n_rows"] == 5
    assert store.add_features_batch(rows) == len(rows)


# Where it runs

BARE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from kstock_batch.bot.feature_store import FeatureStore
store = FeatureStore(sys.argv[3], published=sys.argv[4])
store.add_features_batch([("005930", "2024-06-25", "rsi", 1 / 3)])
print(store.get_features("005930", "2024-06-25"))
outside = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(sorted(outside - {"__main__", "duckdb", "_duckdb"}))
"""


def test_it_needs_nothing_but_the_standard_library_and_duckdb(path, published, generations, tmp_path):
    put(published, generations[0])
    bare = tmp_path / "site"
    bare.mkdir()
    installed = Path(duckdb.__file__).parents[1]
    for part in (*installed.glob("duckdb"), *installed.glob("_duckdb*.so"), *installed.glob("duckdb-*")):
        (bare / part.name).symlink_to(part)
    run = [sys.executable, "-I", "-S", "-X", "utf8", "-c", BARE, *map(str, (bare, REPOSITORY, path, published))]
    ended = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", check=False)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["{'rsi': 0.3333333333333333, 'per': 12.5}", "['kstock_batch']"]


def test_a_file_made_here_can_be_read_by_the_oldest_duckdb_that_a_bot_may_have(store, path):
    filled(store)
    with path.open("rb") as file:
        header = file.read(20)
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") <= 67  # 67 = DuckDB 1.4, the last for Python 3.9
