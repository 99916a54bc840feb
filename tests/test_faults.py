"""Bad nights: refusals, full disks, second writers and kills. Afterwards nothing is lost and a rerun works."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from factories import (
    FUTURE,
    LAST,
    MADE_TABLES,
    SATURDAY,
    TINY,
    asked_json,
    changed,
    content,
    copy_root,
    done,
    edit_json,
    everything,
    fill_disk,
    flip_byte,
    hand_made,
    read_folder,
    run,
    sentence,
    sessions_between,
    store_rows,
    write_folder,
)
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.files import sha256
from kstock_batch.registry import Registry, require_intact
from kstock_batch.settings import Settings
from kstock_batch.store import lock as lock_module

DAYS = sessions_between(LAST - timedelta(days=60), LAST)
CHAMPION_AS_OF, SCORED, BEFORE_LAST = DAYS[-8], DAYS[-3], DAYS[-2]
MEMBER_FILES = ("lgbm.txt", "xgb.ubj", "lstm.safetensors")
# What changes counts from the beginning, so that the features have something to do and no clock is in the rows.
INGEST = ("ingest", "files", "--retroactive")
SERVED = {"predictions.duckdb", "predictions.lock", "generations"}
EXACT = ("raw_price", "raw_flow", "feature_daily", "label_daily", "prediction")


def published(root: Path) -> Path:
    return Settings(root=root).published


def reader(root: Path) -> PredictionReader:
    return PredictionReader(published(root), max_age_sessions=None)


def champion_folder(root: Path) -> Path:
    return Registry(Settings(root=root).models).champion().folder


# A session that must not be scored


def score_refused(root: Path, code: int, *says: str, args: tuple[object, ...] = ()) -> None:
    """Score, which must be refused with the store's rows and the publication as they were."""
    before, file = content(root, (*EXACT, "feature_session")), sha256(published(root))
    result = run(root, "score", *args)
    told = sentence(result)
    assert result.exit_code == code, told
    for words in says:
        assert words in told, told
    assert content(root, (*EXACT, "feature_session")) == before
    assert sha256(published(root)) == file
    assert SERVED >= set(os.listdir(published(root).parent)) >= {"predictions.duckdb"}


@pytest.fixture
def built_root(trained_root: Path) -> Path:
    """The trained root with its features up to date, so that a refused score has nothing to build."""
    done(trained_root, "features")
    return trained_root


def test_a_session_with_half_the_usual_rows_is_not_scored_until_the_rest_is_there(trained_root):
    done(trained_root, "score")
    frames = read_folder(trained_root / "next")
    names = frames["listings"]["ticker"].sort()
    present = (pl.col("date") < LAST) | pl.col("ticker").is_in(names.gather_every(2).implode())
    done(
        trained_root,
        "ingest",
        "files",
        write_folder(trained_root / "half", frames, prices=frames["prices"].filter(present)),
    )
    done(trained_root, "features")
    told = (
        f"{LAST} fails 2 of 5 gates: completeness: ",
        " names, ",
        "% of the usual ",
        "min_session_share",
        "audits: feature_daily_coverage found ",
    )
    score_refused(trained_root, 19, *told)
    assert reader(trained_root).status().publication.as_of == BEFORE_LAST
    done(trained_root, "ingest", "files", trained_root / "next")
    night = asked_json(trained_root, "score")
    assert night["as_of"] == str(LAST)
    assert night["sessions"][0]["n_bars"] > 30


def test_a_session_without_any_price_is_not_scored(built_root):
    score_refused(built_root, 3, f"{LAST} is outside the stored prices", args=("--as-of", LAST))


def test_without_a_champion_one_is_told_to_train_one(root):
    result = run(root, "score")
    assert (result.exit_code, "kstock-batch retrain" in sentence(result)) == (11, True)
    assert not published(root).parent.exists()


def test_without_a_store_every_command_says_what_comes_first(tmp_path):
    for command, code in ((("features",), 3), (("retrain",), 3), (("score",), 11), (("audit",), 3)):
        told = run(tmp_path / command[0], *command)
        assert (told.exit_code, "kstock-batch" in sentence(told)) == (code, True), told.stderr
    for command in (("predictions", "show"), ("sql", "SELECT 1")):
        told = run(tmp_path, *command)
        assert (told.exit_code, "kstock-batch score" in sentence(told)) == (13, True), told.stderr


def test_a_model_of_other_features_does_not_score(built_root):
    edit_json(champion_folder(built_root) / "manifest.json", lambda m: m.update(fingerprint="0123456789ab"))
    score_refused(built_root, 10, "feature fingerprint 0123456789ab", "kstock-batch retrain")


@pytest.mark.parametrize("file", MEMBER_FILES)
def test_a_model_with_a_flipped_byte_does_not_score(file, built_root):
    flip_byte(champion_folder(built_root) / file)
    score_refused(built_root, 10, f"{file} has digest", "models promote")


def test_a_model_whose_calibration_was_edited_does_not_score(built_root):
    edit_json(champion_folder(built_root) / "manifest.json", lambda m: m.update(base_rate=0.5))
    score_refused(built_root, 10, "manifest.json was changed")


def test_a_pointer_to_a_model_that_is_gone_names_it(built_root):
    edit_json(Settings(root=built_root).models / "champion.json", lambda p: p.update(version="20200101T000000Z-abcdef"))
    score_refused(built_root, 10, "there is no model version '20200101T000000Z-abcdef'")


@pytest.mark.parametrize(
    ("as_of", "code", "says"),
    [
        (date(2015, 6, 22), 3, "2015-06-22 is outside the stored prices"),
        (FUTURE, 3, f"{FUTURE} is outside the stored prices"),
        (DAYS[-9], 10, f"was trained on outcomes known by {CHAMPION_AS_OF}, so it must not score {DAYS[-9]}"),
    ],
    ids=["before the prices", "in the future", "before the champion learnt"],
)
def test_a_day_that_cannot_be_scored_is_named_with_the_reason(as_of, code, says, built_root):
    score_refused(built_root, code, says, args=("--as-of", as_of))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("--as-of", date(2024, 6, 22)), "2024-06-22 is no session of the exchange"),
        (("--as-of", SATURDAY), f"{SATURDAY} is no session of the exchange"),
        (("--from", date(2024, 6, 22), "--as-of", date(2024, 6, 23)), "2024-06-22 … 2024-06-23 holds no session"),
        (("--from", SATURDAY, "--as-of", date(2024, 6, 30)), f"{SATURDAY} … 2024-06-30 holds no session"),
    ],
    ids=["between sessions", "after the newest", "a weekend between sessions", "a weekend after the newest"],
)
def test_days_that_are_no_session_are_skipped_and_nothing_is_touched(asked, told, built_root):
    before, file = content(built_root, EXACT), sha256(published(built_root))
    night = done(built_root, "score", *asked)
    assert night.stdout.startswith(f"skipped: {told}")
    assert night.stdout.count("\n") == 1
    assert asked_json(built_root, "score", *asked)["model_version"] is None
    assert content(built_root, EXACT) == before
    assert sha256(published(built_root)) == file
    assert store_rows(built_root, "SELECT DISTINCT status FROM run") == [("done",)]


def test_a_range_that_ends_on_no_session_is_refused(built_root):
    score_refused(
        built_root, 3, "was no session of the exchange", args=("--from", CHAMPION_AS_OF, "--as-of", date(2024, 6, 22))
    )


def test_a_range_that_begins_before_the_champion_learnt_is_refused_whole(built_root):
    score_refused(built_root, 10, "must not score", args=("--from", DAYS[-9], "--as-of", BEFORE_LAST))


def test_a_failed_audit_stops_the_score_and_names_the_row(built_root):
    with writing(built_root) as con:
        con.execute(f"UPDATE feature_daily SET rsi = 140 WHERE as_of = '{BEFORE_LAST}' AND ticker = (SELECT min(ticker)"
                    f" FROM feature_daily WHERE as_of = '{BEFORE_LAST}')")  # fmt: skip
    score_refused(built_root, 4, "feature_daily_range", "'rsi', 140.0")


@contextmanager
def writing(root: Path) -> Iterator[object]:
    """The store, opened by somebody who does not care for our rules."""
    import duckdb

    con = duckdb.connect(str(Settings(root=root).store))
    try:
        yield con
    finally:
        con.close()


# Full disks

ROOM = (0, 100_000, 400_000, 1_500_000)


@pytest.fixture
def full_disk(small_disk: Path, trained_root: Path) -> Path:
    """The trained root on a small disk; a changed history waits in ``changed``, outside of it."""
    changed(trained_root / "source", trained_root.parent / "changed")
    return copy_root(trained_root, small_disk / "root")


def finished_elsewhere(root: Path, target: Path, *command: object) -> dict[str, tuple[int, str]]:
    """What the tables say once the command has run undisturbed on a copy."""
    done(copy_root(root, target), *command)
    return everything(target)


def survives_a_full_disk(root: Path, tmp_path: Path, *command: object) -> int:
    """Run a command with less and more room until it fits; return how often it did not.

    After each failure the tables are as before or as they shall be, the publication is as before, and in the end a
    rerun with room completes.
    """
    before, after = everything(root), finished_elsewhere(root, tmp_path / "elsewhere", *command)
    assert before != after
    file, n_full = sha256(published(root)), 0
    for room in ROOM:
        filler = fill_disk(root.parent, leave=room)
        result = run(root, *command)
        if result.exit_code:
            n_full += 1
            told = sentence(result)
            assert (result.exit_code, "no space left on the disk of" in told) == (12, True), (room, told)
            now = everything(root)
            for tables in (tuple(t for t in before if t.startswith("raw_")), MADE_TABLES[:2], MADE_TABLES[2:3]):
                found = [now[table] for table in tables]
                assert found in ([before[t] for t in tables], [after[t] for t in tables]), (room, tables)
            assert sha256(published(root)) == file, room
            assert reader(root).top(1)
        filler.unlink()
        if not result.exit_code:
            break
    done(root, *command)
    assert everything(root) == after
    return n_full


def test_a_disk_that_fills_during_ingest_loses_nothing(full_disk, tmp_path):
    assert survives_a_full_disk(full_disk, tmp_path, *INGEST, tmp_path / "changed") >= 2


def test_a_disk_that_fills_during_features_loses_nothing(full_disk, tmp_path):
    done(full_disk, *INGEST, tmp_path / "changed")
    assert survives_a_full_disk(full_disk, tmp_path, "features") >= 2


def test_a_disk_that_fills_during_score_leaves_the_last_publication(full_disk, tmp_path):
    done(full_disk, "features")
    assert survives_a_full_disk(full_disk, tmp_path, "score") >= 2


def test_a_disk_that_fills_during_retrain_leaves_the_champion(full_disk, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.fitting.trainable", lambda: ("lgbm", "xgb"))  # the LSTM takes its time
    models, n_full = Registry(Settings(root=full_disk).models), 0
    champion = models.champion_version()
    for room in (0, 20_000, 200_000):
        filler = fill_disk(full_disk.parent, leave=room)
        result = run(full_disk, "retrain")
        if result.exit_code == 12:
            n_full += 1
            assert "no space left on the disk of" in sentence(result)
            assert ([v.version for v in models.versions()], models.damaged()) == ([champion], {})
            assert not list(models.folder.glob(".*"))
        filler.unlink()
        if result.exit_code != 12:
            break
        assert models.champion_version() == champion
        require_intact(models.champion())
    assert n_full >= 2
    assert run(full_disk, "retrain").exit_code in (0, 15)  # 15: forty stocks convince the gate or do not
    assert len(models.versions()) >= 2


def test_a_disk_that_is_full_before_the_first_night_is_said_to_be(small_disk, tmp_path, folder):
    filler = fill_disk(small_disk, leave=20_000)
    for command in (("ingest", "files", folder), ("demo", "--tickers", 40, "--sessions", 200)):
        result = run(small_disk / command[0], *command)
        assert (result.exit_code, "no space left" in sentence(result)) == (12, True), result.stderr
    filler.unlink()
    done(small_disk / "demo", "demo", "--tickers", 40, "--sessions", 200)
    done(small_disk / "ingest", "ingest", "files", folder)


# One writer


@pytest.fixture
def holder(root: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """A process that holds the store of ``root`` open for writing: its PID, and how to kill it."""
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from datetime import datetime;"
        "from kstock_batch.settings import Settings; from kstock_batch.store.ledger import opened_run\n"
        "with opened_run(Settings(root=Path(sys.argv[1])), 'ingest files', at=datetime(2024, 6, 28)) as run:\n"
        "    run.warehouse.con.execute('BEGIN'); run.warehouse.con.execute('DELETE FROM raw_price')\n"
        "    print(flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    process.stdout.readline()

    def kill() -> None:
        process.kill()
        process.communicate(timeout=30)

    yield process.pid, kill
    kill()


def test_a_second_writer_is_turned_away_with_the_pid_and_since_when_and_let_in_after_a_kill(holder, root, monkeypatch):
    pid, kill = holder
    monkeypatch.setattr(lock_module, "_PAUSES", (0.01,))  # how long it waits for a reader is not the matter here
    for command in (("features",), ("ingest", "files", root / "source"), ("retrain",), ("score",), ("audit",)):
        result = run(root, *command)
        told = sentence(result)
        assert result.exit_code == 6, told
        assert f"is being written by PID {pid} since 20" in told, told
    assert asked_json(root, "status")["writer"].startswith(f"PID {pid} since 20")
    kill()
    before = store_rows(root, "SELECT count(*) FROM raw_price")
    assert before == [(hand_made()["prices"].height,)]  # all that the killed writer had deleted and not committed
    done(root, "features")
    killed = store_rows(root, "SELECT status, error FROM run WHERE started_at = '2024-06-28'")
    assert killed == [("failed", "killed before it ended")]


# Interrupted


def test_a_build_that_was_interrupted_goes_on_after_its_last_block(trained_root, tmp_path, monkeypatch):
    from datetime import datetime

    from kstock_batch.features import build
    from kstock_batch.store.ledger import opened_run

    done(trained_root, *INGEST, changed(trained_root / "source", tmp_path / "changed"))
    done(copy_root(trained_root, tmp_path / "elsewhere"), "features")
    commit, committed = build._commit, []

    def until_the_power_fails(con, block, *rest):
        if committed:
            raise KeyboardInterrupt
        committed.append(block)
        return commit(con, block, *rest)

    settings = Settings.load(trained_root, environ={})
    monkeypatch.setattr(build, "_commit", until_the_power_fails)
    with suppress(KeyboardInterrupt), opened_run(settings, "features", at=datetime(2026, 1, 1)) as interrupted:
        build.bring_up_to_date(interrupted.warehouse, settings, interrupted)
    monkeypatch.undo()
    with opened_run(settings, "features", at=datetime(2026, 1, 2)) as resumed:
        rest = build.bring_up_to_date(resumed.warehouse, settings, resumed)
    assert rest.start > committed[0].end
    assert everything(trained_root) == everything(tmp_path / "elsewhere")


def test_the_tiny_settings_are_those_the_roots_were_trained_with(trained_root):
    assert (trained_root / "kstock.toml").read_text(encoding="utf-8") == TINY
