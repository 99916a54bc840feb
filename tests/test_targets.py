"""Second targets: what they hold is the serving file's content, whole or not at all, and no text shows a password."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from factories import asked_json, done, fill_disk, run, sentence, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.errors import DiskFull, TargetFailed
from kstock_batch.serving.targets import content as content_of_targets
from kstock_batch.serving.targets import postgres
from kstock_batch.serving.targets.content import KEYS, Content, published_content
from kstock_batch.serving.targets.delivery import Deliveries, deliver
from kstock_batch.serving.targets.parquet import write_parquet
from kstock_batch.serving.targets.server import URI_VARIABLE, Server
from kstock_batch.serving.targets.sqlite import write_sqlite
from kstock_batch.settings import TARGETS, Settings
from kstock_batch.store.ledger import recorded_run
from kstock_batch.store.warehouse import Warehouse
from postgres_server import ESCAPED, PASSWORD, PostgresServer, postgres_server
from small_store import MONDAY, NOON, THURSDAY, TUESDAY, predict, publish_now, small_store

SAMSUNG, HYNIX, UNLISTED = "005930", "000660", "00088K"
ODD = 0.1 + 0.2  # no decimal of 15 digits says it
RELATIONS = (*KEYS, "latest", "ml_predictions")


def fill(warehouse: Warehouse) -> None:
    """Two sessions: Korean names and none, an explanation and none, a member that is absent."""
    predict(warehouse, MONDAY, {SAMSUNG: 0.52, HYNIX: 0.71})
    predict(warehouse, TUESDAY, {SAMSUNG: 0.83, HYNIX: 1 / 3, UNLISTED: 0.2})
    told = '[["rsi", 0.25], ["per_rank", -0.1], ["roe_rank", 0.02]]'
    statement = "UPDATE prediction SET shap_top3 = $told, lstm = $odd WHERE rank = 1"
    warehouse.con.execute(statement, {"told": told, "odd": ODD})


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A serving file that no test changes."""
    root = tmp_path_factory.mktemp("published")
    with small_store(root) as warehouse:
        fill(warehouse)
        publish_now(warehouse, root / "predictions.duckdb")
    return root / "predictions.duckdb"


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The serving file of the session after."""
    root = tmp_path_factory.mktemp("longer")
    with small_store(root) as warehouse:
        fill(warehouse)
        predict(warehouse, THURSDAY, {SAMSUNG: 0.4})
        publish_now(warehouse, root / "predictions.duckdb")
    return root / "predictions.duckdb"


@pytest.fixture(scope="module")
def _running() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def pg(_running: PostgresServer) -> PostgresServer:
    """The server, without our schema."""
    _running.do("DROP SCHEMA IF EXISTS kstock CASCADE")
    return _running


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with small_store(tmp_path) as warehouse:
        fill(warehouse)
        publish_now(warehouse, Settings(root=tmp_path).published)
        yield warehouse


def deliver_now(warehouse: Warehouse, *targets: str, uri: str | None = None) -> Deliveries:
    settings = Settings(root=warehouse.path.parents[1], targets=targets)
    with recorded_run(warehouse, "score", at=NOON) as run:
        return deliver(settings, run, {} if uri is None else {URI_VARIABLE: uri})


class Place:
    """Where a target is written in a test, and how another program reads it: every value as DuckDB would say it."""

    def __init__(self, target: str, folder: Path, pg: PostgresServer | None) -> None:
        self.target, self.folder, self.pg = target, folder, pg
        self.file, self.parquet = folder / "it's.sqlite", folder / "it's parquet"

    def write(self, published: Path) -> bool:
        with published_content(published, threads=1) as content:
            return self.write_content(content)

    def write_content(self, content: Content) -> bool:
        if self.target == "parquet":
            return write_parquet(content, self.parquet)
        if self.target == "sqlite":
            return write_sqlite(content, self.file)
        assert self.pg is not None
        return postgres.write_postgres(content, Server.named_in({URI_VARIABLE: self.pg.uri}))

    def rows(self, relation: str, columns: str = "*") -> list[tuple[object, ...]]:
        if self.target == "parquet":
            table = pq.read_table((self.parquet / "current").resolve() / f"{relation}.parquet")
            return [tuple(row.values()) for row in table.to_pylist()]
        if self.target == "sqlite":
            return in_sqlite(self.file, f"SELECT {columns} FROM {relation}")
        assert self.pg is not None
        return self.pg.ask(f"SELECT {columns} FROM kstock.{relation}")

    def counts(self) -> tuple[object, object]:
        """Return how many predictions are said to be there, and how many are, in one look."""
        if self.target == "parquet":
            generation = (self.parquet / "current").resolve()
            stated = pq.read_table(generation / "publication.parquet")["n_predictions"].to_pylist()[0]
            return stated, pq.read_table(generation / "prediction.parquet").num_rows
        schema = "kstock." if self.target == "postgres" else ""
        both = f"SELECT (SELECT n_predictions FROM {schema}publication), (SELECT count(*) FROM {schema}prediction)"
        rows = in_sqlite(self.file, both) if self.target == "sqlite" else self.pg and self.pg.ask(both)
        assert rows
        return rows[0]


def in_sqlite(path: Path, statement: str, *params: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as con:
        return con.execute(statement, params).fetchall()


def in_duckdb(path: Path, statement: str) -> list[tuple[object, ...]]:
    con = duckdb.connect(":memory:")
    try:
        con.execute("ATTACH '{}' AS p (READ_ONLY)".format(str(path).replace("'", "''")))
        con.execute("USE p")
        return con.execute(statement).fetchall()
    finally:
        con.close()


@pytest.fixture(params=TARGETS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    pg = request.getfixturevalue("pg") if request.param == "postgres" else None
    return Place(request.param, tmp_path / "targets", pg)


# What a target holds


def as_told(relation: str, published: Path, *, as_text: bool) -> list[tuple[object, ...]]:
    if not as_text:
        return in_duckdb(published, f"FROM {relation}")
    kinds = in_duckdb(published, f"DESCRIBE {relation}")
    cells = (f"CAST({name} AS VARCHAR)" if kind in ("DATE", "TIMESTAMP") else name for name, kind, *_ in kinds)
    return in_duckdb(published, f"SELECT {', '.join(cells)} FROM {relation}")


def by_key(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return sorted(rows, key=repr)


def test_a_target_holds_what_the_serving_file_holds_to_the_bit(place, published):
    assert place.write(published)
    for relation in KEYS if place.target == "parquet" else RELATIONS:  # files have no views
        told = as_told(relation, published, as_text=place.target == "sqlite")
        assert told
        assert by_key(place.rows(relation)) == by_key(told), relation


def test_names_are_korean_and_what_is_absent_is_null(place, published):
    place.write(published)
    if place.target == "parquet":
        assert [(row[2], row[15]) for row in place.rows("prediction")[:3]] == [
            ("삼성전자", ODD),
            ("SK하이닉스", None),
            (None, None),
        ]
        return
    assert place.rows("latest", "name, lstm") == [("삼성전자", ODD), ("SK하이닉스", None), (None, None)]


def test_a_column_that_the_serving_file_gains_reaches_every_target(place, published, tmp_path):
    place.write(published)
    wider = changed(
        published,
        tmp_path,
        "ALTER TABLE prediction ADD COLUMN is_degraded BOOLEAN DEFAULT true",
        "ALTER TABLE prediction ADD COLUMN reasons VARCHAR[] DEFAULT ['늦음']",
        "ALTER TABLE publication ADD COLUMN is_degraded BOOLEAN DEFAULT true",
    )
    assert place.write(wider)
    assert not place.write(wider)
    degraded = {row[-2] for row in place.rows("prediction")}
    assert degraded == {1 if place.target == "sqlite" else True}
    assert {row[-1] for row in place.rows("publication")} == degraded
    assert len(place.rows("prediction")) == 5


def test_a_view_that_a_new_version_defines_otherwise_reaches_every_target_that_has_views(
    place, published, tmp_path, monkeypatch
):
    place.write(published)
    if place.target == "parquet":
        return
    as_it_is = content_of_targets.portable_view
    other = {"latest": "SELECT ticker FROM prediction"}
    monkeypatch.setattr(content_of_targets, "portable_view", lambda view: other.get(view) or as_it_is(view))
    monkeypatch.setattr(f"kstock_batch.serving.targets.{place.target}.portable_view", content_of_targets.portable_view)
    assert place.write(published)
    assert len(place.rows("latest")) == 5
    assert {len(row) for row in place.rows("latest")} == {1}


def test_a_target_that_already_holds_the_content_is_left_alone(place, published):
    assert place.write(published)
    before = everything_of(place)
    assert not place.write(published)
    assert everything_of(place) == before


def test_publishing_the_same_rows_again_is_no_news_but_any_other_value_is(place, published, tmp_path):
    assert place.write(published)
    again = "UPDATE publication SET run_id = 'another-run', published_at = published_at + INTERVAL 1 DAY"
    assert not place.write(changed(published, tmp_path, again))
    renamed = f"UPDATE prediction SET name = '새이름' WHERE ticker = '{HYNIX}'"
    assert place.write(changed(published, tmp_path, again, renamed))
    shorter = "DELETE FROM calendar WHERE session = (SELECT max(session) FROM calendar)"
    assert place.write(changed(published, tmp_path, again, renamed, shorter))
    assert place.write(changed(published, tmp_path, again, renamed, shorter, "UPDATE model_card SET value = '0'"))
    assert "새이름" in str(place.rows("prediction"))
    assert "another-run" in str(place.rows("publication"))
    assert len(place.rows("calendar")) == 3
    assert {value for _, value in place.rows("model_card")} == {"0"}


def changed(published: Path, folder: Path, *statements: str) -> Path:
    """Return a copy of the serving file in which something is otherwise."""
    copy = folder / "changed.duckdb"
    copy.write_bytes(published.read_bytes())
    with duckdb.connect(str(copy)) as con:
        for statement in statements:
            con.execute(statement)
    return copy


def everything_of(place: Place) -> object:
    """Return what tells a target that was written again from one that was not."""
    if place.target == "postgres":
        assert place.pg is not None
        return place.pg.ask("SELECT xmin::text FROM kstock.prediction UNION ALL SELECT xmin::text FROM kstock.content")
    paths = sorted(path for path in place.folder.rglob("*") if path.is_file())
    return [(path, path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]


# Whole or not at all


def test_readers_see_one_publication_or_the_other_while_it_is_replaced(place, published, longer):
    place.write(published)
    seen, stopped = set(), threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stopped.is_set():
                seen.add(place.counts())
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with published_content(published, threads=1) as short, published_content(longer, threads=1) as long:
        for _ in range(4):
            assert place.write_content(long)
            assert place.write_content(short)
    stopped.set()
    for reader in readers:
        reader.join()
    assert not failures, failures
    assert seen <= {(5, 5), (6, 6)}


_KILLED = """
import os, signal, sys
from pathlib import Path
import kstock_batch.serving.targets.{module} as target
sys.path.insert(0, {tests!r})
from test_targets import Place
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
target.{last_step} = die
class Pg:
    uri = {uri!r}
Place({module!r}, Path({folder!r}), Pg()).write(Path({longer!r}))
"""
LAST_STEP = {"parquet": "_point", "sqlite": "rename_into_place", "postgres": "_verify"}


def test_a_kill_before_the_last_step_leaves_the_old_content_and_the_next_run_completes(place, published, longer):
    place.write(published)
    code = _KILLED.format(
        module=place.target,
        last_step=LAST_STEP[place.target],
        tests=str(Path(__file__).parent),
        folder=str(place.folder),
        longer=str(longer),
        uri=place.pg.uri if place.pg else None,
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert place.counts() == (5, 5)
    assert place.write(longer)
    assert place.counts() == (6, 6)
    left = [path.name for path in place.folder.rglob("*") if path.name.startswith(".")] if place.folder.exists() else []
    assert left == []


@pytest.mark.parametrize("place", ["parquet", "sqlite"], indirect=True)
def test_a_failure_on_the_way_leaves_the_old_content_and_no_rest(place, published, longer, monkeypatch):
    place.write(published)
    before = everything_of(place)
    monkeypatch.setattr(f"kstock_batch.serving.targets.{place.target}.require_all", refuse)
    with pytest.raises(TargetFailed, match="as if it held too few rows"):
        place.write(longer)
    assert everything_of(place) == before


def refuse(*_: object) -> None:
    raise TargetFailed("as if it held too few rows", fix="none")


@pytest.mark.parametrize("target", TARGETS)
def test_a_copy_with_another_number_of_rows_is_refused(target, published, tmp_path, request, monkeypatch):
    place = Place(target, tmp_path, request.getfixturevalue("pg") if target == "postgres" else None)
    monkeypatch.setattr(Content, "n_rows", lambda self, relation: 7)
    with pytest.raises(TargetFailed, match=r"rows instead of|7"):
        place.write(published)
    if place.pg:
        assert place.pg.ask("SELECT to_regnamespace('kstock') IS NULL") == [(True,)]
    else:
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("place", ["parquet", "sqlite"], indirect=True)
def test_a_full_disk_is_named_and_leaves_the_old_content(place, published, longer, small_disk):
    place.folder, place.file, place.parquet = small_disk, small_disk / "x.sqlite", small_disk / "parquet"
    place.write(published)
    filler = fill_disk(small_disk, leave=4096)
    with pytest.raises(DiskFull, match="no space left on the disk of"):
        place.write(longer)
    assert place.counts() == (5, 5)
    filler.unlink()
    assert place.write(longer)


@pytest.mark.parametrize("place", ["parquet", "sqlite"], indirect=True)
def test_a_place_that_cannot_be_written_is_named(place, published):
    place.folder.parent.mkdir(exist_ok=True)
    place.folder.write_text("a file")
    with pytest.raises(TargetFailed, match=r"targets/it's.* cannot be written: .*\n  fix: make sure that"):
        place.write(published)


@pytest.mark.parametrize("place", ["parquet", "sqlite"], indirect=True)
def test_a_folder_where_the_link_or_the_file_must_be_is_named_and_stays(place, published):
    in_the_way = place.parquet / "current" if place.target == "parquet" else place.file
    (in_the_way / "of somebody").mkdir(parents=True)
    with pytest.raises(TargetFailed) as refused:
        place.write(published)
    fix = "move it away, then run `kstock-batch score` again"
    assert str(refused.value) == f"{in_the_way} is a folder, where none must be\n  fix: {fix}"
    assert [path.name for path in place.folder.rglob("*") if path.name.startswith(".")] == []
    in_the_way.rename(place.folder.parent / "moved away")
    assert place.write(published)
    assert place.counts() == (5, 5)


# SQLite


def test_one_ticker_of_the_newest_session_and_one_tickers_history_are_searched_not_scanned(published, tmp_path):
    place = Place("sqlite", tmp_path, None)
    place.write(published)
    for statement in ("SELECT * FROM latest WHERE ticker = ?", "SELECT * FROM prediction WHERE ticker = ?"):
        steps = [str(row[3]) for row in in_sqlite(place.file, f"EXPLAIN QUERY PLAN {statement}", SAMSUNG)]
        assert not [step for step in steps if step.startswith("SCAN")], steps
        assert in_sqlite(place.file, statement, SAMSUNG)


def test_the_sqlite_file_is_one_file_that_everyone_may_read(published, tmp_path):
    place = Place("sqlite", tmp_path, None)
    before = os.umask(0o077)
    try:
        place.write(published)
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == [place.file.name]
    assert stat.S_IMODE(place.file.stat().st_mode) == 0o644
    assert in_sqlite(place.file, "PRAGMA journal_mode") == [("delete",)]  # a reader needs no right to write


def test_a_log_that_another_program_left_is_not_played_into_the_new_file(published, longer, tmp_path):
    place = Place("sqlite", tmp_path, None)
    place.write(published)
    for ending in ("-journal", "-wal", "-shm"):
        place.file.with_name(place.file.name + ending).write_bytes(b"\0" * 512)
    assert place.write(longer)
    assert [path.name for path in tmp_path.iterdir()] == [place.file.name]
    assert place.counts() == (6, 6)


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_sqlite_file_is_replaced(damage, published, tmp_path):
    place = Place("sqlite", tmp_path, None)
    place.file.write_bytes(damage)
    assert place.write(published)
    assert place.counts() == (5, 5)


def test_a_connection_that_stays_open_keeps_its_publication(published, longer, tmp_path):
    place = Place("sqlite", tmp_path, None)
    place.write(published)
    with closing(sqlite3.connect(place.file)) as con:
        count = "SELECT count(*) FROM prediction"
        assert con.execute(count).fetchall() == [(5,)]
        place.write(longer)
        assert con.execute(count).fetchall() == [(5,)]
        assert in_sqlite(place.file, count) == [(6,)]


# Parquet


def test_the_generation_before_stays_for_whoever_reads_it_and_older_ones_go(published, longer, tmp_path):
    place = Place("parquet", tmp_path, None)
    generations = []
    for file in (published, longer):
        place.write(file)
        generations.append((place.parquet / "current").resolve())
    assert sorted(path for path in place.parquet.iterdir() if not path.is_symlink()) == sorted(generations)
    (place.parquet / "notes").mkdir()  # whatever else lies there is not ours to remove
    place.write(changed(published, tmp_path, "UPDATE prediction SET name = '다른이름'"))
    assert not generations[0].exists()
    assert generations[1].exists()
    assert (place.parquet / "notes").exists()


def test_a_generation_with_a_missing_file_is_written_again(published, tmp_path):
    place = Place("parquet", tmp_path, None)
    place.write(published)
    (place.parquet / "current" / "calendar.parquet").unlink()
    assert place.write(published)
    assert place.rows("calendar")


def test_everyone_may_read_the_parquet_files_whatever_the_umask(published, tmp_path):
    place = Place("parquet", tmp_path, None)
    before = os.umask(0o077)
    try:
        place.write(published)
    finally:
        os.umask(before)
    generation = (place.parquet / "current").resolve()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place.parquet, generation)} == {0o755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in generation.iterdir()} == {0o644}


# PostgreSQL


def test_only_sessions_that_differ_are_written_to_the_database(pg, published, longer, tmp_path):
    place = Place("postgres", tmp_path, pg)
    place.write(longer)
    written = dict(pg.ask("SELECT as_of, min(xmin::text) FROM kstock.prediction GROUP BY as_of"))
    renamed = f"UPDATE prediction SET name = '다른이름' WHERE as_of = '{TUESDAY}'"
    assert place.write(changed(longer, tmp_path, renamed, f"DELETE FROM prediction WHERE as_of = '{THURSDAY}'"))
    now = dict(pg.ask("SELECT as_of, min(xmin::text) FROM kstock.prediction GROUP BY as_of"))
    assert now.keys() == {MONDAY, TUESDAY}
    assert now[MONDAY] == written[MONDAY]
    assert now[TUESDAY] != written[TUESDAY]


def test_a_session_that_is_taken_back_alone_is_taken_out_of_the_database(pg, published, longer, tmp_path):
    place = Place("postgres", tmp_path, pg)
    place.write(longer)
    assert place.write(published)
    assert place.counts() == (5, 5)
    assert pg.ask("SELECT as_of FROM kstock.session_digest ORDER BY as_of") == [(MONDAY,), (TUESDAY,)]


def test_an_open_transaction_of_a_reader_neither_waits_nor_is_waited_for(pg, published, longer, tmp_path):
    from adbc_driver_postgresql import dbapi

    place = Place("postgres", tmp_path, pg)
    place.write(published)
    with closing(dbapi.connect(pg.uri)) as con, con.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT count(*) FROM kstock.prediction")
        assert cursor.fetchall() == [(5,)]
        assert place.write(longer)
        cursor.execute("SELECT count(*) FROM kstock.prediction")
        assert cursor.fetchall() == [(5,)]
    assert place.counts() == (6, 6)


def test_rights_granted_on_the_tables_stay(pg, published, longer, tmp_path):
    place = Place("postgres", tmp_path, pg)
    place.write(published)
    with role(pg, "bot"):
        pg.do("GRANT USAGE ON SCHEMA kstock TO bot", "GRANT SELECT ON ALL TABLES IN SCHEMA kstock TO bot")
        place.write(longer)
        assert pg.ask("SELECT has_table_privilege('bot', 'kstock.latest', 'SELECT')") == [(True,)]
        pg.do("DROP OWNED BY bot")


@contextmanager
def role(pg: PostgresServer, name: str) -> Iterator[None]:
    pg.do(f"CREATE ROLE {name} LOGIN PASSWORD 'bot-geheim'")
    try:
        yield
    finally:
        pg.do(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_user_who_may_not_make_a_schema_writes_one_that_was_made_for_him(pg, published):
    with role(pg, "bot"):
        server = Server.named_in({URI_VARIABLE: f"postgresql://bot:bot-geheim@127.0.0.1:{pg.port}/postgres"})
        with published_content(published, threads=1) as content:
            with pytest.raises(TargetFailed, match="permission denied for database postgres") as refused:
                postgres.write_postgres(content, server)
            assert "bot-geheim" not in str(refused.value)
            pg.do("CREATE SCHEMA kstock AUTHORIZATION bot")
            assert postgres.write_postgres(content, server)


def test_a_table_of_somebody_elses_is_not_touched(pg, published, tmp_path):
    pg.do(
        "CREATE SCHEMA kstock",
        "CREATE TABLE kstock.prediction (mine text)",
        "INSERT INTO kstock.prediction VALUES ('x')",
    )
    with pytest.raises(TargetFailed, match='relation "prediction" already exists'):
        Place("postgres", tmp_path, pg).write(published)
    assert pg.ask("SELECT mine FROM kstock.prediction") == [("x",)]


def test_a_view_of_the_users_own_is_not_dropped_with_our_tables(pg, published, tmp_path):
    place = Place("postgres", tmp_path, pg)
    place.write(published)
    pg.do("CREATE VIEW public.mine AS SELECT ticker FROM kstock.prediction")
    wider = changed(published, tmp_path, "ALTER TABLE prediction ADD COLUMN is_degraded BOOLEAN DEFAULT true")
    try:
        with pytest.raises(TargetFailed, match="because other objects depend on it"):
            place.write(wider)
        assert len(pg.ask("SELECT ticker FROM public.mine")) == 5
    finally:
        pg.do("DROP VIEW public.mine")


# The secret


def leaks(text: str, *secrets: str) -> list[str]:
    return [secret for secret in secrets if secret in text]


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("", "is not set"),
        ("mysql://u:hunter2@h/db", "is not of the scheme postgresql"),
        ("host=h user=u password=hunter2", "is not of the scheme postgresql"),
        ("postgresql://u:hun/ter2@h/db", "is no URI"),
        ("postgresql://u:12/hunter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:12#hunter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:12?host=hunter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:12?hunter2@h/db", "is no URI"),
        ("postgresql://u:hun@ter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:hun:ter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:hun%zzter2@h/db", "holds what a URI cannot"),
        ("postgresql://u:hun ter2@h/db", "holds what a URI cannot"),
        ("postgresql://u@h/db?password=hunter2", "an option other than"),
        ("postgresql://[hunter2/db", "is no URI"),
    ],
)
def test_a_uri_that_cannot_be_used_is_refused_without_a_word_of_it(uri, says):
    with pytest.raises(TargetFailed) as refused:
        Server.named_in({URI_VARIABLE: uri})
    assert says in str(refused.value)
    assert refused.value.exit_code == 17
    assert leaks(str(refused.value), "hunter2", "hun", "ter2") == []
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("postgresql://u:hunter2@h/db", "h/db"),
        ("postgres://u:h%40%2F%3A%23%20x@10.0.0.1:5433/my%20db?sslmode=require", "10.0.0.1:5433/my db"),
        ("postgresql://u@[::1]:5432/db", "[::1]:5432/db"),
        ("postgresql:///db?host=/run/postgresql", "/run/postgresql/db"),
        ("postgresql:///", "this machine/"),
    ],
)
def test_a_server_is_shown_by_its_place_alone(uri, place):
    server = Server.named_in({URI_VARIABLE: uri})
    assert server.place == place
    assert repr(server) == f"Server(place={place!r})"
    assert server.uri.startswith(uri.split("?")[0].replace("postgres://", "postgresql://"))


def test_a_password_with_signs_that_a_uri_escapes_reaches_the_server(pg, published, tmp_path):
    assert ESCAPED != PASSWORD
    assert Place("postgres", tmp_path, pg).write(published)


def test_a_wrong_password_is_said_and_never_shown(pg, published):
    server = Server.named_in({URI_VARIABLE: pg.uri.replace(ESCAPED, "hunter2")})
    with published_content(published, threads=1) as content, pytest.raises(TargetFailed) as refused:
        postgres.write_postgres(content, server)
    assert 'password authentication failed for user "night"' in str(refused.value)
    assert f"127.0.0.1:{pg.port}/postgres" in str(refused.value)
    assert leaks(str(refused.value), "hunter2") == []
    assert (refused.value.__cause__, refused.value.__suppress_context__) == (None, True)


def test_words_of_the_driver_that_hold_the_password_are_withheld():
    server = Server.named_in({URI_VARIABLE: "postgresql://u:hun%20ter2@h/db"})
    assert "hun ter2" not in server.told(ValueError('bad "hun ter2"'))
    assert server.told(ValueError("bad\n\tthing")) == "bad thing"


def test_the_uri_is_no_setting_and_the_file_of_settings_is_no_place_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv(URI_VARIABLE, "postgresql://u:hunter2@h/db")
    assert leaks(repr(Settings.load(tmp_path)), "hunter2") == []
    (tmp_path / "kstock.toml").write_text("postgres_uri = 'postgresql://u:hunter2@h/db'", encoding="utf-8")
    result = run(tmp_path, "status")
    assert result.exit_code == 2
    assert "kstock.toml holds postgres_uri, which is a secret" in sentence(result)
    assert leaks(sentence(result), "hunter2") == []


# A target that fails


def test_every_target_that_fails_is_named_and_the_others_are_written(warehouse):
    deliveries = deliver_now(warehouse, *TARGETS)
    assert [delivery.target for delivery in deliveries.done] == ["parquet", "sqlite"]
    assert deliveries.told() == "; not delivered to postgres"
    with pytest.raises(
        TargetFailed, match=r"but not to every target: postgres: KSTOCK_POSTGRES_URI is not set\n  fix: set"
    ):
        deliveries.require_all()
    stages = warehouse.con.execute("SELECT stage, n_rows FROM run_stage ORDER BY stage").fetchall()
    assert stages == [("target parquet", 5), ("target sqlite", 5)]
    again = deliver_now(warehouse, "parquet", "sqlite")
    assert [delivery.n_written for delivery in again.done] == [0, 0]
    again.require_all()


def test_a_serving_file_that_cannot_be_read_fails_every_target(warehouse, tmp_path):
    Settings(root=tmp_path).published.write_bytes(b"no database")
    deliveries = deliver_now(warehouse, "parquet", "sqlite")
    assert deliveries.done == []
    assert all("predictions.duckdb cannot be read" in error.what for error in deliveries.failed.values())
    with pytest.raises(TargetFailed, match=r"parquet: .*; sqlite: "):
        deliveries.require_all()


@pytest.mark.parametrize("target", TARGETS)
def test_a_serving_file_that_breaks_while_it_is_read_fails_the_target_and_not_the_night(
    target, warehouse, request, monkeypatch
):
    def broken(*_: object, **__: object) -> Iterator[duckdb.DuckDBPyRelation]:
        raise duckdb.IOException("a block is damaged")

    monkeypatch.setattr(Content, "pieces", broken)
    monkeypatch.setattr(Content, "n_rows", broken)
    uri = request.getfixturevalue("pg").uri if target == "postgres" else None
    told = str(deliver_now(warehouse, target, uri=uri).failed[target])
    assert "a block is damaged" in told
    assert "cannot be" in told


def test_a_server_that_is_down_is_named(pg, warehouse):
    pg.stop()
    try:
        deliveries = deliver_now(warehouse, "postgres", uri=pg.uri)
        told = str(deliveries.failed["postgres"])
        assert f"the database at 127.0.0.1:{pg.port}/postgres cannot be written" in told
        assert "Connection refused" in told
        assert leaks(told, PASSWORD, ESCAPED) == []
    finally:
        pg.start()
    assert deliver_now(warehouse, "postgres", uri=pg.uri).failed == {}


def test_a_missing_driver_is_one_sentence(warehouse, monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    deliveries = deliver_now(warehouse, "postgres", uri="postgresql://u:hunter2@127.0.0.1/db")
    assert str(deliveries.failed["postgres"]) == (
        "the target postgres needs adbc_driver_postgresql, which is not installed\n"
        "  fix: pip install 'kstock-batch[postgres]'"
    )


def test_without_targets_nothing_is_read_or_written(warehouse, monkeypatch):
    monkeypatch.setattr("kstock_batch.serving.targets.delivery.published_content", lambda *_, **__: pytest.fail("read"))
    assert deliver_now(warehouse) == Deliveries()
    assert warehouse.con.execute("SELECT count(*) FROM run_stage").fetchall() == [(0,)]


# The night


def test_a_night_is_published_and_told_though_a_target_fails_and_ends_with_its_code(trained_root, monkeypatch):
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite,postgres")
    monkeypatch.setenv(URI_VARIABLE, "postgresql://u:hunter2@127.0.0.1:1/db")
    result = run(trained_root, "score")
    assert result.exit_code == 17
    said = [line for line in result.stderr.splitlines() if line.startswith(("error:", "  fix:"))]
    assert said[0].startswith(
        "error: the night is published, but not to every target: postgres: the database at 127.0.0.1:1"
    )
    assert len(said) == 2
    assert re.search(r" in \d+\.\d s; not delivered to postgres\n", result.stdout)
    settings = Settings(root=trained_root)
    assert f"sqlite: {settings.published.with_suffix('.sqlite')}" in result.stdout
    assert leaks(result.output, "hunter2") == []
    as_of = PredictionReader(settings.published, max_age_sessions=None).status().publication.as_of
    assert in_sqlite(settings.published.with_suffix(".sqlite"), "SELECT as_of FROM publication") == [(str(as_of),)]
    last = "SELECT status, summary LIKE '%not delivered to postgres', error FROM run ORDER BY started_at DESC LIMIT 1"
    assert store_rows(trained_root, last) == [("done", True, None)]
    monkeypatch.setenv("KSTOCK_TARGETS", "sqlite")
    assert f"sqlite: {settings.published.with_suffix('.sqlite')}, as it was" in done(trained_root, "score").stdout
    assert asked_json(trained_root, "score")["targets"] == [
        {"target": "sqlite", "place": str(settings.published.with_suffix(".sqlite")), "n_written": 0, "error": None}
    ]


def test_an_unknown_target_is_refused_before_anything_runs(tmp_path):
    (tmp_path / "kstock.toml").write_text("targets = ['sqlite', 'oracle']", encoding="utf-8")
    result = run(tmp_path, "score")
    assert result.exit_code == 2
    assert "targets = ('sqlite', 'oracle')" in sentence(result)
    assert "any of parquet, sqlite, postgres" in sentence(result)


@pytest.mark.parametrize("toml", ["targets = 'sqlite, parquet,sqlite'", "targets = ['sqlite', 'parquet']"])
def test_targets_are_a_list_or_a_text_with_commas(toml, tmp_path):
    (tmp_path / "kstock.toml").write_text(toml, encoding="utf-8")
    assert Settings.load(tmp_path, {}).targets == ("sqlite", "parquet")
    assert Settings.load(tmp_path, {"KSTOCK_TARGETS": ""}).targets == ()


@pytest.mark.parametrize("toml", ["targets = 5", "targets = [5]", "targets = true"])
def test_targets_that_are_no_names_are_refused(toml, tmp_path):
    (tmp_path / "kstock.toml").write_text(toml, encoding="utf-8")
    result = run(tmp_path, "status")
    assert (result.exit_code, "write it as list of names" in sentence(result)) == (2, True)
