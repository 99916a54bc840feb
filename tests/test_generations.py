"""Publications that are kept, the way back to one, and what a kill at any step of it leaves."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from factories import asked_json, done, opened, run
from kstock_batch import files
from kstock_batch.errors import ConfigError, NoPublication, PublicationRefused, WarehouseLocked
from kstock_batch.files import sha256
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.serving.publication.publish import publishing
from kstock_batch.serving.publication.rollback import list_generations, roll_back
from kstock_batch.serving.targets import delivery
from kstock_batch.serving.targets.delivery import deliver, lock_of_deliveries
from kstock_batch.serving.targets.record import DeliveryRecord
from kstock_batch.settings import Settings
from kstock_batch.store import lock as locks
from small_store import MONDAY, NOON, THURSDAY, TUESDAY, predict, publish_now, reopened_store, small_store

HERE = Path(__file__).parent
SAMSUNG = "005930"
NIGHTS = {MONDAY: "monday", TUESDAY: "tuesday", THURSDAY: "thursday"}


@pytest.fixture(scope="module")
def three_nights(tmp_path_factory):
    """A root with three publications, one a session, the newest of Thursday in place."""
    root = tmp_path_factory.mktemp("three")
    with small_store(root) as warehouse:
        for day, run_id in NIGHTS.items():
            predict(warehouse, day, {SAMSUNG: 0.83}, run_id=run_id)
            publish_now(warehouse, Settings(root=root).published, run_id)
    return root


@pytest.fixture
def root(three_nights, tmp_path):
    """A copy of that root; `cp -a` keeps the hard links."""
    subprocess.run(["cp", "-a", str(three_nights), str(tmp_path / "root")], check=True)
    return tmp_path / "root"


@pytest.fixture
def target(root):
    return Settings(root=root).published


def in_place(target):
    """Return the run that published what is in place, whether its rows are sound, and what lies half made beside it."""
    with opened(target) as con:
        (run_id, digest), (found,) = (
            con.execute(f"SELECT {what}").fetchall()[0]
            for what in ("run_id, digest FROM publication", "digest FROM content_digest")
        )
    ours = {"generations", target.name, "predictions.lock", "targets.lock", "targets.json", "parquet"}
    beside = {path.name for path in target.parent.iterdir()} - ours
    return run_id, digest == found, beside


def kept(target):
    return [one.run_id for one in Generations(target).newest_first()]


def path_of(target, run_id):
    return next(one.path for one in Generations(target).newest_first() if one.run_id == run_id)


def spoil(path):
    """Flip a bit of a file of its own: a generation in place shares its bytes with the target."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))


# Keeping


def test_each_publication_is_kept_under_a_second_name_that_takes_no_room(target):
    assert kept(target) == ["thursday", "tuesday", "monday"]
    newest, *older = Generations(target).newest_first()
    assert newest.path.samefile(target)
    assert newest.path.stat().st_nlink == 2
    assert [one.path.stat().st_nlink for one in older] == [1, 1]
    assert all(one.is_intact for one in (newest, *older))
    assert Generations(target).current() == newest


def publish_again(root, run_id, n=14):
    from kstock_batch.serving.publication.publish import publish

    target = Settings(root=root).published
    with reopened_store(root) as warehouse:
        publish(warehouse, target, run_id=run_id, published_at=NOON, model_card={}, generations=n)


def test_only_the_newest_are_kept_and_what_a_kill_left_goes(root, target):
    (Generations(target).folder / ".000009-half-0123456789abcdef.duckdb.x").write_bytes(b"half")
    publish_again(root, "friday", n=2)
    assert kept(target) == ["friday", "thursday"]
    assert len(list(Generations(target).folder.iterdir())) == 2


def test_the_one_in_place_is_never_deleted(target):
    roll_back(target, "monday")
    Generations(target).prune(1)
    assert kept(target) == ["thursday", "monday"]
    assert in_place(target) == ("monday", True, set())


def test_order_is_the_order_of_publishing_whatever_the_clock_says(root, target):
    os.utime(path_of(target, "thursday"), (0, 0))
    publish_again(root, "19700101T000000Z-000000", n=3)
    assert kept(target) == ["19700101T000000Z-000000", "thursday", "tuesday"]


def test_a_run_named_like_a_path_is_kept_in_the_folder(root, target):
    publish_again(root, "../../up")
    assert kept(target)[0] == ".._.._up"
    assert Generations(target).current().path.parent == Generations(target).folder


def no_links(*anything):
    raise PermissionError("this file system has no hard links")


def test_where_there_are_no_hard_links_copies_are_kept_and_known(root, target, monkeypatch):
    monkeypatch.setattr(os, "link", no_links)
    publish_again(root, "friday")
    current = Generations(target).current()
    assert current.run_id == "friday"
    assert not current.path.samefile(target)
    done = roll_back(target)
    assert (done.restored.run_id, done.replaced) == ("thursday", "friday")
    assert in_place(target) == ("thursday", True, set())
    assert Generations(target).current().run_id == "thursday"


def test_a_publication_that_cannot_be_kept_is_published_and_said(root, target, monkeypatch, caplog):
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(files, "written_beside", no_links)
    publish_again(root, "friday")
    assert in_place(target) == ("friday", True, set())
    assert "friday is not kept for a rollback: this file system has no hard links" in caplog.text
    monkeypatch.undo()
    publish_again(root, "monday-next")
    assert kept(target)[:2] == ["monday-next", "friday"]  # the next job made up for it


def test_old_publications_that_cannot_be_deleted_do_not_fail_the_night(root, target, monkeypatch, caplog):
    unlink = Path.unlink

    def refuse(path, missing_ok=False):
        if path.parent.name == "generations":
            raise PermissionError("not yours")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    publish_again(root, "friday", n=1)
    assert in_place(target) == ("friday", True, set())
    assert "old publications are not deleted: not yours" in caplog.text


def test_an_unreadable_file_in_place_is_kept_as_what_it_is_before_it_is_replaced(root, target):
    target.unlink()
    target.write_bytes(b"no database")
    done = roll_back(target)
    assert (done.restored.run_id, done.replaced) == ("thursday", "unreadable")
    assert path_of(target, "unreadable").read_bytes() == b"no database"


# Going back


def test_a_rollback_restores_the_one_before_and_each_further_one_goes_further(target):
    done = roll_back(target)
    assert (done.restored.run_id, done.restored.as_of, done.replaced, done.skipped) == (
        "tuesday",
        TUESDAY,
        "thursday",
        [],
    )
    assert in_place(target) == ("tuesday", True, set())
    assert roll_back(target).restored.run_id == "monday"
    with pytest.raises(NoPublication, match=r"to go back to: .* holds none older than the one in place"):
        roll_back(target)
    assert kept(target) == ["thursday", "tuesday", "monday"]
    assert roll_back(target, "thursday").replaced == "monday"
    assert in_place(target) == ("thursday", True, set())


def test_going_back_to_what_is_in_place_changes_nothing(target):
    before = target.stat()
    done = roll_back(target, "thursday")
    assert (done.restored.run_id, done.replaced) == ("thursday", None)
    assert target.stat().st_ino == before.st_ino


def test_a_missing_file_is_restored_from_the_newest(target):
    target.unlink()
    assert roll_back(target).restored.run_id == "thursday"
    assert in_place(target) == ("thursday", True, set())


def test_an_unknown_id_is_refused_with_those_that_are_kept(target):
    with pytest.raises(ConfigError) as caught:
        roll_back(target, "sunday")
    assert caught.value.what == "no publication called sunday is kept"
    assert "name one of thursday, tuesday, monday" in caught.value.fix
    assert in_place(target)[0] == "thursday"


def test_nothing_kept_is_said(tmp_path):
    with pytest.raises(NoPublication, match="no publication to go back to"):
        roll_back(tmp_path / "serving" / "predictions.duckdb")


def test_a_damaged_generation_is_named_and_passed_over(target):
    spoil(path_of(target, "tuesday"))
    done = roll_back(target)
    assert done.restored.run_id == "monday"
    assert len(done.skipped) == 1
    assert str(path_of(target, "tuesday")) in done.skipped[0]


def test_a_damaged_generation_that_is_asked_for_is_refused(target):
    path = path_of(target, "monday")
    spoil(path)
    with pytest.raises(PublicationRefused) as caught:
        roll_back(target, "monday")
    assert f"{path} is unsound" in caught.value.what
    assert caught.value.fix == "nothing was changed; name another: see `kstock-batch predictions generations`"
    assert in_place(target) == ("thursday", True, set())


def test_rows_changed_by_hand_are_damage_too(target):
    path = path_of(target, "tuesday")
    con = duckdb.connect(str(path))
    con.execute("UPDATE prediction SET name = 'another' WHERE as_of = (SELECT min(as_of) FROM prediction)")
    con.close()
    with pytest.raises(PublicationRefused, match="its bytes are not those that were published"):
        roll_back(target, "tuesday")


def test_what_was_never_sound_is_refused_though_its_bytes_are_as_they_were_kept(target):
    path = path_of(target, "tuesday")
    con = duckdb.connect(str(path))
    con.execute("DELETE FROM latest")
    con.close()
    forged = path.with_name(f"000002-tuesday-{sha256(path)[:16]}.duckdb")
    path.rename(forged)
    with pytest.raises(PublicationRefused, match="hash of the newest rows should be"):
        roll_back(target, "tuesday")


def forged(target, run_id, statement):
    """Change a generation by hand and give it the name of its bytes, as another program would have written it."""
    path = path_of(target, run_id)
    con = duckdb.connect(str(path))
    con.execute(statement)
    con.close()
    return path.rename(path.with_name(f"{path.name[:-23]}{sha256(path)[:16]}.duckdb"))


OF_BEFORE = "CREATE OR REPLACE TABLE publication AS SELECT * EXCLUDE degraded_why REPLACE (1 AS schema_version)"
OF_LATER = "UPDATE publication SET schema_version = 3"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"{OF_BEFORE} FROM publication; DROP TABLE latest", "is of schema 1, this program reads 2"),
        (OF_LATER, "is of schema 3, this program reads 2"),
    ],
)
def test_a_generation_of_another_schema_is_told_in_the_list_and_refused_with_what_reads_it(target, statement, told):
    path = forged(target, "tuesday", statement)
    assert [one.problem for one in list_generations(target)] == [None, told, None]
    with pytest.raises(PublicationRefused) as caught:
        roll_back(target, "tuesday")
    assert caught.value.what == f"{path} {told}"
    assert caught.value.fix == (
        "nothing was changed; use the kstock-batch that made it, or name another:"
        " see `kstock-batch predictions generations`"
    )
    gone = roll_back(target)
    assert (gone.restored.run_id, gone.skipped) == ("monday", [f"{path} {told}"])


def test_what_a_fresh_process_cannot_ask_is_told_in_one_line_without_the_statement(target):
    path = forged(target, "tuesday", "ALTER TABLE published_session RENAME digest TO checksum")
    with pytest.raises(PublicationRefused) as caught:
        roll_back(target, "tuesday")
    assert caught.value.what.startswith(
        f'{path} is unsound: a fresh process cannot read it: Binder Error: Column "digest"'
    )
    assert "\n" not in caught.value.what and "LINE" not in caught.value.what


def test_it_works_without_a_store_and_while_the_store_is_being_written(root, target):
    fd = locks.take_lock(Settings(root=root).store.with_suffix(".lock"))
    try:
        Settings(root=root).store.write_bytes(b"damaged")
        assert roll_back(target).restored.run_id == "tuesday"
        shutil.rmtree(Settings(root=root).store, ignore_errors=True)
        Settings(root=root).store.unlink()
        assert roll_back(target).restored.run_id == "monday"
    finally:
        locks.release_lock(fd, is_writer=True)


def test_it_waits_for_a_job_that_publishes_and_then_names_it(target, monkeypatch):
    monkeypatch.setattr(locks, "_PAUSES", (0.01,))
    with publishing(target), pytest.raises(WarehouseLocked) as caught:
        roll_back(target)
    assert caught.value.what.startswith(f"{target} is being written by PID {os.getpid()} since ")
    assert roll_back(target).restored.run_id == "tuesday"


def test_a_log_beside_the_target_does_not_make_what_is_restored_unreadable(target):
    log = target.with_name(f"{target.name}.wal")
    log.write_bytes(b"of another file")
    roll_back(target)
    assert in_place(target) == ("tuesday", True, set())


def test_the_next_score_publishes_anew_after_a_rollback(root, target):
    roll_back(target, "monday")
    publish_again(root, "again")
    assert in_place(target) == ("again", True, set())
    with opened(target) as con:
        assert con.execute("SELECT n_sessions FROM publication").fetchall() == [(3,)]
    assert kept(target) == ["again", "thursday", "tuesday", "monday"]


# Killed


KILLED = """
import importlib, os, signal, sys
from pathlib import Path

def kill(*anything, **more):
    os.kill(os.getpid(), signal.SIGKILL)

root, action, where, name = sys.argv[1:]
module = importlib.import_module(where)
owner = module
if "." in name:
    owner, name = getattr(module, name.split(".")[0]), name.split(".")[1]

from kstock_batch.settings import Settings
from kstock_batch.serving.publication import publish, rollback
setattr(owner, name, kill)
target = Settings(root=Path(root)).published
if action == "publish":
    from small_store import publish_now, reopened_store
    with reopened_store(Path(root)) as warehouse:
        publish_now(warehouse, target, "killed")
else:
    rollback.roll_back(target)
"""
ROOM = "kstock_batch.serving.publication"
PUBLISH, ROLLBACK, GENERATIONS = (f"{ROOM}.{name}" for name in ("publish", "rollback", "generations"))


def killed(root, action, module, name):
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    command = [sys.executable, "-c", KILLED, str(root), action, module, name]
    assert subprocess.run(command, env=environ).returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("module", "step", "left"),
    [
        (PUBLISH, "drop_foreign_log", "thursday"),
        (PUBLISH, "rename_into_place", "thursday"),
        (GENERATIONS, "link_or_copy", "killed"),
        (PUBLISH, "Generations.prune", "killed"),
    ],
)
def test_a_job_killed_while_it_publishes_leaves_a_readable_publication_and_the_next_one_clears_up(
    root, target, module, step, left
):
    killed(root, "publish", module, step)
    assert in_place(target)[:2] == (left, True)
    assert all(one.is_intact for one in Generations(target).newest_first())
    publish_again(root, "next")
    assert in_place(target) == ("next", True, set())
    published = ["killed"] if left == "killed" else []
    assert kept(target) == ["next", *published, "thursday", "tuesday", "monday"]


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("_fault", "thursday"),
        ("link_or_copy", "thursday"),
        ("rename_into_place", "thursday"),
        ("read_facts", "tuesday"),
    ],
)
def test_a_rollback_that_is_killed_leaves_a_readable_publication_and_can_be_repeated(root, target, step, left):
    killed(root, "rollback", ROLLBACK, step)
    assert in_place(target)[:2] == (left, True)
    assert roll_back(target, "tuesday").restored.run_id == "tuesday"
    assert in_place(target) == ("tuesday", True, set())
    assert kept(target) == ["thursday", "tuesday", "monday"]


# Told


def test_the_list_shows_each_with_its_facts_and_its_damage(target):
    spoil(path_of(target, "monday"))
    newest, middle, oldest = list_generations(target)
    assert (newest.id, newest.as_of, newest.published_at, newest.model_version, newest.n_predictions) == (
        *("thursday", THURSDAY, NOON),
        *("model-1", 3),
    )
    assert newest.n_bytes == target.stat().st_size
    assert (newest.is_current, newest.problem) == (True, None)
    assert (middle.id, middle.is_current, middle.problem) == ("tuesday", False, None)
    assert oldest.id == "monday"
    assert oldest.problem


def test_the_commands_list_and_roll_back_and_say_what_they_did(root):
    listed = done(root, "predictions", "generations").stdout
    rows = [line.split()[:3] for line in listed.splitlines() if "model-1" in line]
    assert rows == [
        ["*", "thursday", "2024-06-27"],
        ["tuesday", "2024-06-25", "2024-06-25"],
        ["monday", "2024-06-24", "2024-06-25"],
    ]
    assert listed.splitlines()[-1] == "3 of at most 14 publications are kept"
    went = done(root, "predictions", "rollback", "--to", "monday")
    assert went.stdout.splitlines() == ["published monday as-of 2024-06-24 again, instead of thursday"]
    assert "warning: it is " in went.stderr
    assert "sessions old, limit 3: readers refuse it as stale until the next score" in went.stderr
    told = json.loads(done(root, "predictions", "rollback", "--to", "tuesday", "--json").stdout)
    assert (told["run_id"], told["as_of"], told["replaced"], told["is_stale"]) == (
        "tuesday",
        "2024-06-25",
        "monday",
        True,
    )
    assert [row["is_current"] for row in json.loads(done(root, "predictions", "generations", "--json").stdout)] == [
        False,
        True,
        False,
    ]


def in_sqlite(root):
    """Return the run whose publication the SQLite target holds."""
    with closing(sqlite3.connect(Settings(root=root).published.with_suffix(".sqlite"))) as con:
        return con.execute("SELECT run_id FROM publication").fetchall()[0][0]


def held(root):
    return {name: one.run_id for name, one in DeliveryRecord(Settings(root=root).published).held().items()}


def test_a_rollback_delivers_to_the_targets_without_the_store(root, target, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite,parquet")
    Settings(root=root).store.unlink()
    told = done(root, "predictions", "rollback").stdout.splitlines()
    sqlite, parquet = target.with_suffix(".sqlite"), target.with_name("parquet") / "current"
    assert told[1:] == [f"sqlite: {sqlite}", f"parquet: {parquet}"]
    assert (in_sqlite(root), held(root)) == ("tuesday", {"sqlite": "tuesday", "parquet": "tuesday"})
    assert [row["place"] for row in asked_json(root, "predictions", "rollback")["targets"]] == [
        str(sqlite),
        str(parquet),
    ]
    assert in_sqlite(root) == "monday"
    again = done(root, "predictions", "rollback", "--to", "monday").stdout.splitlines()
    assert again[1] == f"sqlite: {sqlite}, as it was"


def test_a_rollback_that_cannot_deliver_is_in_place_and_ends_with_the_code_and_the_way_out(root, target, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite,parquet")
    in_the_way = target.with_suffix(".sqlite") / "a folder"
    in_the_way.mkdir(parents=True)
    refused = run(root, "predictions", "rollback")
    assert refused.exit_code == 17
    assert refused.stdout.startswith("published tuesday as-of 2024-06-25 again, instead of thursday\nparquet: ")
    _, what, fix = refused.stderr.splitlines()  # the first says that it is old
    assert what.startswith("error: tuesday is published again, but not to every target: sqlite: ")
    assert fix == "  fix: mend that, then `kstock-batch predictions rollback --to tuesday` delivers it again"
    assert (in_place(target)[0], held(root)) == ("tuesday", {"sqlite": None, "parquet": "tuesday"})
    in_the_way.rmdir()
    in_the_way.parent.rmdir()
    done(root, "predictions", "rollback", "--to", "tuesday")
    assert (in_sqlite(root), held(root)) == ("tuesday", {"sqlite": "tuesday", "parquet": "tuesday"})


def test_a_rollback_while_somebody_delivers_is_in_place_and_names_who_does(root, target, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite")
    monkeypatch.setattr(locks, "_PAUSES", (0.01,))
    lock = locks.take_lock(lock_of_deliveries(target))
    refused = run(root, "predictions", "rollback")
    assert refused.exit_code == 17
    assert f"sqlite: PID {os.getpid()} since " in refused.stderr
    assert "is delivering to the targets" in refused.stderr
    assert (in_place(target)[0], target.with_suffix(".sqlite").exists()) == ("tuesday", False)
    locks.release_lock(lock, is_writer=True)
    done(root, "predictions", "rollback", "--to", "tuesday")
    assert in_sqlite(root) == "tuesday"


def test_what_is_delivered_is_what_is_in_place_when_its_turn_comes(root, target, monkeypatch):
    waits, take = threading.Event(), locks.take_lock

    def told(path):
        waits.set()
        return take(path)

    monkeypatch.setattr(delivery, "take_lock", told)
    lock = take(lock_of_deliveries(target))
    with ThreadPoolExecutor(1) as pool:
        night = pool.submit(deliver, Settings(root=root, targets=("sqlite",)), None)
        assert waits.wait(30)
        roll_back(target)
        locks.release_lock(lock, is_writer=True)
        night.result().require_all()
    assert (in_place(target)[0], in_sqlite(root), held(root)) == ("tuesday", "tuesday", {"sqlite": "tuesday"})


def test_nothing_is_kept_where_nothing_was_published(tmp_path):
    assert done(tmp_path, "predictions", "generations").stdout.splitlines()[-1] == (
        "0 of at most 14 publications are kept"
    )


def test_a_rollback_imports_neither_polars_nor_the_learners():
    probe = f"import sys, {ROLLBACK}; print({{'torch', 'lightgbm', 'xgboost'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout == "set()\n"
