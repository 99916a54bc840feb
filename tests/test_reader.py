import gc
import os
import threading
from datetime import date, datetime, time, timedelta

import duckdb
import pytest

from kstock_batch.bot import publication as following
from kstock_batch.bot.publication import age_in_sessions
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.bot.results import PredictionResult
from kstock_batch.errors import NoPublication, StalePredictions
from kstock_batch.market import sessions
from small_store import FRIDAY, MONDAY, THURSDAY, TUESDAY, WEDNESDAY, predict, publish_now, small_store

SAMSUNG, HYNIX, UNLISTED = "005930", "000660", "00088K"
BLOCKS_START, BLOCK = 3 * 4096, 1 << 18  # of a DuckDB file: three headers, then blocks that carry a checksum each


@pytest.fixture(scope="module")
def generations(tmp_path_factory):
    """Two publications as bytes: the first reaches Tuesday, the second Thursday (Wednesday is a holiday)."""
    root = tmp_path_factory.mktemp("job")
    target = root / "predictions.duckdb"
    with small_store(root) as warehouse:
        predict(warehouse, MONDAY, {SAMSUNG: 0.52, HYNIX: 0.71})
        predict(warehouse, TUESDAY, {SAMSUNG: 0.83, HYNIX: 0.64, UNLISTED: 0.2})
        publish_now(warehouse, target, "first")
        first = target.read_bytes()
        predict(warehouse, THURSDAY, {SAMSUNG: 0.4, HYNIX: 0.9}, run_id="run-2")
        publish_now(warehouse, target, "second")
        return first, target.read_bytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "the bot's" / "predictions.duckdb"


def put(path, data):
    """Replace the published file as the job does: beside, then renamed."""
    path.parent.mkdir(exist_ok=True)
    temp = path.with_name("beside")
    temp.write_bytes(data)
    temp.replace(path)


def seoul(day, hour, minute=0):
    """Return a wall-clock time in Seoul as naive UTC."""
    return datetime.combine(day, time(hour, minute)) - timedelta(hours=9)


def reader_on(path, day=TUESDAY, **options):
    return PredictionReader(path, clock=lambda: seoul(day, 20), **options)


# What it returns


def test_one_ticker_of_the_newest_session(path, generations):
    put(path, generations[0])
    row = reader_on(path).latest(SAMSUNG)
    assert (row.as_of, row.ticker, row.name, row.market, row.sector) == (
        TUESDAY,
        SAMSUNG,
        "삼성전자",
        "KOSPI",
        "반도체",
    )
    assert (row.probability, row.signal, row.label, row.score_bonus) == (0.415, 0.83, "STRONG_BUY", 15)
    assert (row.rank, row.lgbm, row.xgb, row.lstm, row.shap_top3) == (1, 0.1, 0.2, None, ())
    assert (row.model_version, row.fingerprint, row.run_id) == ("model-1", "abc", "run-1")
    assert row.is_stale is False
    assert row.result == PredictionResult(0.83, "STRONG_BUY", [])


def test_explanations_come_as_the_bots_pairs(path, generations):
    put(path, generations[0])
    con = duckdb.connect(str(path))
    con.execute('UPDATE latest SET shap_top3 = \'[["rsi", 0.25], ["vix", -0.1]]\'')
    con.close()
    assert reader_on(path).latest(SAMSUNG).result.shap_top3 == [("rsi", 0.25), ("vix", -0.1)]


def test_a_row_without_explanation_gives_an_empty_list(path, generations):
    put(path, generations[0])
    con = duckdb.connect(str(path))
    con.execute("UPDATE latest SET shap_top3 = NULL")
    con.close()
    assert reader_on(path).latest(SAMSUNG).result.shap_top3 == []


def test_no_prediction_is_none_and_never_a_number(path, generations):
    put(path, generations[1])
    reader = reader_on(path, THURSDAY)
    assert reader.latest("999999") is None
    assert reader.latest("'; DROP TABLE prediction; --") is None
    assert reader.latest(UNLISTED) is None  # scored on Tuesday, not on Thursday
    assert reader.history(UNLISTED)[0].as_of == TUESDAY


def test_top_session_and_history_are_ordered(path, generations):
    put(path, generations[1])
    reader = reader_on(path, THURSDAY)
    assert [(row.ticker, row.rank) for row in reader.top()] == [(HYNIX, 1), (SAMSUNG, 2)]
    assert [row.ticker for row in reader.top(1)] == [HYNIX]
    assert [row.ticker for row in reader.session(TUESDAY)] == [SAMSUNG, HYNIX, UNLISTED]
    assert reader.session(WEDNESDAY) == []
    assert [row.as_of for row in reader.history(SAMSUNG)] == [THURSDAY, TUESDAY, MONDAY]
    assert [row.signal for row in reader.history(SAMSUNG, limit=2)] == [0.4, 0.83]


def test_the_best_come_first_in_whatever_order_the_file_holds_them(path, generations):
    put(path, generations[0])
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE OR REPLACE TABLE latest AS FROM latest ORDER BY rank DESC")
    whole, asked_singly = reader_on(path), reader_on(path)
    assert [row.rank for row in whole.session(TUESDAY)] == [1, 2, 3]
    assert [asked_singly.latest(ticker).rank for ticker in (UNLISTED, SAMSUNG)] == [3, 1]
    assert [row.rank for row in asked_singly.top(2)] == [1, 2]


@pytest.mark.parametrize("is_on", [True, False])
def test_no_garbage_is_looked_for_while_rows_are_made_and_the_collector_is_left_as_it_was(
    path, generations, monkeypatch, is_on
):
    put(path, generations[0])
    reader = reader_on(path)
    reader.status()
    states = []
    fetch = following.FollowedFile._fetch
    monkeypatch.setattr(following.FollowedFile, "_fetch", lambda *given: states.append(gc.isenabled()) or fetch(*given))
    if not is_on:
        gc.disable()
    try:
        assert len(reader.session(TUESDAY)) == 3
        left = gc.isenabled()
        monkeypatch.setattr(following.FollowedFile, "_fetch", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reader.session(MONDAY)
        left_by_an_error = gc.isenabled()
    finally:
        gc.enable()
    assert (states, left, left_by_an_error) == ([False], is_on, is_on)


def test_a_negative_count_is_the_callers_mistake(path, generations):
    put(path, generations[0])
    with pytest.raises(ValueError, match="-1 rows"):
        reader_on(path).top(-1)


# The file comes, goes and changes


def test_an_absent_file_is_named_and_read_as_soon_as_it_appears(path, generations):
    reader = reader_on(path)
    with pytest.raises(NoPublication) as caught:
        reader.latest(SAMSUNG)
    assert f"{path} does not exist" in str(caught.value)
    assert "run `kstock-batch score`" in caught.value.fix
    assert caught.value.exit_code == 13
    assert reader.status().publication is None
    assert reader.status().problem == f"{path} does not exist"
    put(path, generations[0])
    assert reader.latest(SAMSUNG).signal == 0.83
    assert reader.status().problem is None


def test_a_new_publication_is_seen_by_the_next_question(path, generations):
    put(path, generations[0])
    reader = reader_on(path, THURSDAY)
    assert reader.latest(SAMSUNG).signal == 0.83
    put(path, generations[1])
    assert reader.latest(SAMSUNG).signal == 0.4
    assert reader.latest(UNLISTED) is None  # nothing of the last generation is remembered
    put(path, generations[0])
    assert [row.as_of for row in reader.top()] == [TUESDAY] * 3
    assert reader.status().publication.run_id == "first"


def test_sixty_replacements_leave_one_file_open(path, generations):
    reader = reader_on(path, THURSDAY)
    for number in range(60):
        put(path, generations[number % 2])
        assert reader.latest(SAMSUNG).as_of == (TUESDAY, THURSDAY)[number % 2]
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(fd)]
    assert sum(str(path) in name for name in held) == 1


def is_open(fd):
    return os.path.islink(f"/proc/self/fd/{fd}")


def test_a_removed_file_is_still_answered_from_and_said_to_be_gone(path, generations):
    put(path, generations[0])
    reader = reader_on(path)
    reader.top()
    path.unlink()
    assert reader.latest(SAMSUNG).signal == 0.83
    assert reader.status().problem == f"{path} does not exist"
    assert reader.status().publication.as_of == TUESDAY


def empty(data):
    return b""


def half(data):
    return data[: len(data) // 2]


def no_database(data):
    return b"x" * len(data)


def flipped_blocks(data):
    return data[:12288] + bytes(byte ^ 1 for byte in data[12288:])


@pytest.mark.parametrize("damage", [empty, half, no_database, flipped_blocks])
def test_a_corrupt_new_file_keeps_the_last_good_one_and_says_so(path, generations, damage):
    first, second = generations
    put(path, first)
    reader = reader_on(path, THURSDAY)
    reader.top()
    put(path, damage(second))
    assert reader.latest(HYNIX).as_of == TUESDAY
    assert [row.as_of for row in reader.top(1)] == [TUESDAY]
    status = reader.status()
    assert status.publication.run_id == "first"
    assert status.problem.startswith(f"{path} cannot be used: ")
    put(path, second)
    assert reader.latest(HYNIX).as_of == THURSDAY
    assert reader.status().problem is None


def test_a_bit_flipped_in_any_block_is_refused_or_makes_no_difference(path, generations):
    """What was not looked at when a file was accepted cannot be what the bot is told later."""
    first, second = generations
    put(path, first)
    reader = reader_on(path, THURSDAY)
    reader.top()
    blocks = range(BLOCKS_START, len(second), BLOCK)
    for start in blocks:
        put(path, second[: start + 100] + bytes([second[start + 100] ^ 1]) + second[start + 101 :])
        newest = {TUESDAY: 3, THURSDAY: 2}
        as_of = reader.latest(HYNIX).as_of
        assert [row.as_of for row in reader.top()] == [as_of] * newest[as_of]
        assert len(reader.session(as_of)) == newest[as_of]
        assert (reader.status().problem is None) == (as_of == THURSDAY)
        put(path, first)
        assert reader.latest(SAMSUNG).signal == 0.83
    assert len(blocks) > 3


def test_the_second_question_reads_the_session_once_and_nothing_is_asked_twice(path, generations, monkeypatch):
    put(path, generations[0])
    reader = reader_on(path)
    asked = []
    rows = reader._file.rows
    monkeypatch.setattr(reader._file, "rows", lambda *question: asked.append(question) or rows(*question))
    assert [reader.latest(SAMSUNG).rank, reader.latest(SAMSUNG).rank, len(asked)] == [1, 1, 1]
    assert reader.latest("999999") is None
    assert len(asked) == 2
    assert [reader.latest(HYNIX).rank, reader.latest(UNLISTED).rank, reader.latest("888888")] == [2, 3, None]
    assert [row.ticker for row in reader.top(2)] == [SAMSUNG, HYNIX]
    assert len(reader.session(TUESDAY)) == 3
    assert len(asked) == 2
    put(path, generations[1])
    assert reader.latest("999999") is None
    assert reader.latest("999999") is None
    assert len(asked) == 3
    assert len(reader.session(TUESDAY)) == 3  # no longer the newest: asked of the file
    assert reader.latest(HYNIX).as_of == THURSDAY


def test_what_a_caller_does_to_its_list_does_not_reach_the_next(path, generations):
    put(path, generations[0])
    reader = reader_on(path)
    for question in (lambda: reader.session(TUESDAY), reader.top):
        question().clear()
        assert len(question()) == 3


def test_damage_in_an_old_session_does_not_keep_the_bot_from_the_newest(path, generations, monkeypatch):
    put(path, generations[1])
    reader = reader_on(path, THURSDAY)
    fetch = reader._file._fetch

    def damaged(statement, params):
        if "FROM prediction" in statement:
            raise duckdb.IOException("block 7 is damaged")
        return fetch(statement, params)

    monkeypatch.setattr(reader._file, "_fetch", damaged)
    with pytest.raises(NoPublication, match="block 7 is damaged"):
        reader.history(SAMSUNG)
    assert reader.latest(SAMSUNG).as_of == THURSDAY


@pytest.mark.parametrize("damage", [empty, half, no_database])
def test_a_corrupt_file_at_the_start_is_an_error_until_it_is_replaced(path, generations, damage):
    put(path, damage(generations[0]))
    reader = reader_on(path)
    with pytest.raises(NoPublication, match="cannot be used"):
        reader.top()
    put(path, generations[0])
    assert len(reader.top()) == 3


def test_damage_that_shows_only_when_read_is_an_error_and_not_the_end(path, generations, monkeypatch):
    put(path, generations[0])
    reader = reader_on(path)
    reader.top()
    with pytest.raises(NoPublication, match="cannot be read"):
        reader._file.rows("SELECT error('block 7 is damaged')", {})
    assert reader.latest(SAMSUNG).signal == 0.83


@pytest.mark.parametrize(
    ("version", "fix"), [(1, "run `kstock-batch score`, which publishes it anew"), (3, "upgrade kstock-batch")]
)
@pytest.mark.parametrize("renamed", [False, True])
def test_a_publication_of_another_schema_is_not_misread(path, generations, version, fix, renamed):
    put(path, generations[0])
    reader = reader_on(path)
    reader.top()
    newer = path.with_name("newer")
    newer.write_bytes(generations[1])
    con = duckdb.connect(str(newer))
    con.execute(f"UPDATE publication SET schema_version = {version}")
    if renamed:  # what a version that we do not know may lack cannot be asked for
        con.execute("ALTER TABLE publication RENAME digest TO checksum")
    con.close()
    newer.replace(path)
    assert reader.latest(SAMSUNG).as_of == TUESDAY
    assert reader.status().problem.endswith(f"its schema version is {version}, this reader knows 2")
    assert reader.status().fix == fix
    with pytest.raises(NoPublication) as refused:
        reader_on(path).top()
    assert str(refused.value).endswith(f"this reader knows 2\n  fix: {fix}")


def test_closing_lets_go_of_the_file_and_asking_opens_it_again(path, generations):
    put(path, generations[0])
    reader = reader_on(path)
    reader.top()
    reader.close()
    reader.close()
    assert len(reader.top()) == 3


def test_threads_read_whole_generations_while_publications_happen(path, generations):
    put(path, generations[0])
    reader = reader_on(path, THURSDAY)
    wanted = {TUESDAY: [(SAMSUNG, 0.83), (HYNIX, 0.64), (UNLISTED, 0.2)], THURSDAY: [(HYNIX, 0.9), (SAMSUNG, 0.4)]}
    done, wrong, seen = threading.Event(), [], set()

    def hammer():
        try:
            while not done.is_set():
                rows = reader.top()
                seen.add(rows[0].as_of)
                if [(row.ticker, row.signal) for row in rows] != wanted[rows[0].as_of]:
                    wrong.append(rows)
                row = reader.latest(SAMSUNG)
                if (SAMSUNG, row.signal) not in wanted[row.as_of]:
                    wrong.append(row)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(60):
        put(path, generations[(number + 1) % 2])
        done.wait(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert seen == {TUESDAY, THURSDAY}


# How old it may be


@pytest.mark.parametrize(
    ("now", "age"),
    [
        (seoul(MONDAY, 12), 0),  # a clock set back
        (seoul(TUESDAY, 23), 0),
        (seoul(WEDNESDAY, 23), 0),  # a holiday
        (seoul(THURSDAY, 18, 29), 0),
        (seoul(THURSDAY, 18, 30), 1),
        (seoul(FRIDAY, 18, 30), 2),
        (seoul(date(2024, 6, 30), 23), 2),  # Sunday
        (seoul(date(2024, 7, 1), 18, 29), 2),  # beyond the calendar every weekday counts
        (seoul(date(2024, 7, 1), 18, 30), 3),
        (seoul(date(2024, 7, 8), 3), 7),
        (seoul(date(2024, 7, 8), 19), 8),
    ],
)
def test_age_counts_sessions_whose_cutoff_has_passed(now, age):
    calendar = [(day, sessions.cutoff_at(day)) for day in (THURSDAY, FRIDAY)]
    assert age_in_sessions(TUESDAY, calendar, now) == age


def test_age_without_a_calendar_counts_weekdays():
    assert age_in_sessions(FRIDAY, [], seoul(date(2024, 7, 5), 20)) == 5


def test_beyond_the_calendars_end_days_count_from_the_cutoff_it_ends_with():
    early = [(FRIDAY, sessions.cutoff_at(FRIDAY, time(16)))]
    monday = [sessions.to_utc(MONDAY + timedelta(days=7), time(hour)) for hour in (15, 16)]
    assert [following.age_in_sessions(THURSDAY, early, now) for now in monday] == [1, 2]
    assert following.age_in_sessions(THURSDAY, [(FRIDAY, sessions.cutoff_at(FRIDAY))], monday[1]) == 1


def test_the_bots_cutoff_is_the_jobs_cutoff():
    assert datetime.combine(MONDAY, following.CUTOFF_UTC) == sessions.cutoff_at(MONDAY)


def test_predictions_older_than_the_limit_are_refused_with_their_date(path, generations):
    put(path, generations[0])
    reader = reader_on(path, FRIDAY, max_age_sessions=1)
    for question in (lambda: reader.latest(SAMSUNG), reader.top, lambda: reader.latest("999999")):
        with pytest.raises(StalePredictions) as caught:
            question()
        assert caught.value.what == f"newest predictions are as-of {TUESDAY}, 2 sessions old, limit 1"
        assert "kstock-batch score" in caught.value.fix
        assert caught.value.exit_code == 5
    assert reader.status().is_stale
    assert reader.status().age_sessions == 2
    assert len(reader.session(TUESDAY)) == 3  # asked for by date
    assert len(reader.history(SAMSUNG)) == 2


def test_predictions_as_old_as_the_limit_are_given(path, generations):
    put(path, generations[0])
    reader = reader_on(path, FRIDAY, max_age_sessions=2)
    assert reader.latest(SAMSUNG).signal == 0.83
    assert not reader.status().is_stale


def test_the_limit_is_three_sessions_unless_told(path, generations):
    put(path, generations[0])
    assert reader_on(path, date(2024, 7, 1)).latest(SAMSUNG).signal == 0.83
    with pytest.raises(StalePredictions, match="4 sessions old, limit 3"):
        reader_on(path, date(2024, 7, 2)).latest(SAMSUNG)


def test_none_means_never_too_old(path, generations):
    put(path, generations[0])
    reader = reader_on(path, date(2034, 7, 2), max_age_sessions=None)
    assert reader.latest(SAMSUNG).is_stale is False


def test_a_caller_may_take_old_predictions_with_a_flag(path, generations):
    put(path, generations[0])
    reader = reader_on(path, FRIDAY, max_age_sessions=1, flag_stale=True)
    assert reader.latest(SAMSUNG).is_stale
    assert reader.latest("999999") is None
    assert [row.is_stale for row in reader.top()] == [True] * 3
    put(path, generations[1])
    assert not reader.latest(SAMSUNG).is_stale


def test_staleness_appears_with_time_and_goes_with_the_next_publication(path, generations):
    put(path, generations[0])
    now = [seoul(TUESDAY, 20)]
    reader = PredictionReader(path, 0, clock=lambda: now[0])
    assert reader.latest(SAMSUNG).as_of == TUESDAY
    now[0] = seoul(THURSDAY, 20)
    with pytest.raises(StalePredictions):
        reader.latest(SAMSUNG)
    put(path, generations[1])
    assert reader.latest(SAMSUNG).as_of == THURSDAY
