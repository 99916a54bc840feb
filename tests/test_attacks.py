"""What a hostile asker of `kstock-batch sql` tries, and what becomes of it.

{file} is the database asked, {other} one that is not, {outside} a folder of somebody else's, {temp} DuckDB's own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import polars as pl
import pytest

from factories import asked_json, done, run, sentence
from kstock_batch.cli import questions
from kstock_batch.errors import KStockError, TimeLimitReached
from kstock_batch.serving.questions import limits
from kstock_batch.serving.questions.ask import asked
from kstock_batch.serving.questions.limits import memory_limited, time_limited
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

SECRET = "hunter2-of-the-environment"

NOT_ONE_QUESTION = [
    "SELECT 1; DROP TABLE run",
    "SELECT 1; COPY run TO '{outside}/new.csv'",
    "COPY run TO '{outside}/new.csv'",
    "COPY run TO '{file}.wal' (FORMAT csv)",
    "EXPORT DATABASE '{outside}/new'",
    "IMPORT DATABASE '{outside}'",
    "ATTACH '{outside}/new.duckdb'",
    "ATTACH '{other}' AS o",
    "DETACH published",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{outside}/evil.duckdb_extension'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET disabled_filesystems",
    "SET VARIABLE x = 1",
    "PRAGMA database_list",
    "PRAGMA enable_profiling",
    "CALL enable_logging(storage = 'file', storage_config = {{'path': '{outside}/log'}})",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "CREATE TABLE new AS SELECT 1 AS a",
    "CREATE TEMP TABLE new AS SELECT 1 AS a",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE MACRO new() AS 1",
    "PREPARE new AS SELECT 1",
    "UPDATE run SET status = 'done'",
    "DELETE FROM run",
    "INSERT INTO run SELECT * FROM run",
    "DROP TABLE run",
    "ALTER TABLE run ADD COLUMN a INTEGER",
]
# In DuckDB 2 the body of a WITH may write, and EXPLAIN ANALYZE does what it explains.
WRITES_IN_A_SELECT = [
    "WITH x AS (COPY run TO '{file}.wal' (FORMAT csv)) SELECT 1 AS a",
    "WITH x AS (COPY run TO '{file}' (FORMAT csv, USE_TMP_FILE false)) SELECT * FROM x",
    "WITH x AS (COPY run TO '{outside}/new.csv') SELECT 1 AS a",
    "WITH x AS (COPY run TO '{temp}/new.csv') SELECT 1 AS a",
    "WITH x AS (COPY run TO '/dev/stderr' (FORMAT csv)) SELECT 1 AS a",
    "/* a */ WITH x AS (DELETE FROM run RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO run SELECT * FROM run RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE run SET status = 'done' RETURNING *) SELECT * FROM x",
    "EXPLAIN ANALYZE COPY run TO '{file}.wal' (FORMAT csv)",
    "EXPLAIN ANALYZE COPY run TO '{file}' (FORMAT csv, USE_TMP_FILE false)",
    "EXPLAIN (ANALYZE) COPY run TO '{file}.wal' (FORMAT csv)",
    "EXPLAIN (ANALYZE, FORMAT json) COPY run TO '{outside}/new.csv'",
    "EXPLAIN ANALYZE WITH x AS (COPY run TO '{file}.wal' (FORMAT csv)) SELECT 1 AS a",
    "EXPLAIN /**/ ANALYZE COPY run TO '{file}.wal' (FORMAT csv)",
    " -- a comment\nEXPLAIN ANALYZE COPY run TO '{file}.wal' (FORMAT csv)",
    "EXPLAIN ANALYZE CREATE TEMP TABLE new AS SELECT 1 AS a",
    "EXPLAIN ANALYZE DELETE FROM run",
    "EXPLAIN ANALYZE SET threads = 1",
    "EXPLAIN ANALYZE LOAD httpfs",
    "EXPLAIN COPY run TO '{outside}/new.csv'",
]
READS_ELSEWHERE = [
    "FROM '{outside}/secret.csv'",
    "FROM read_csv('{outside}/secret.csv')",
    "FROM read_csv('{outside}/../{name}/secret.csv')",
    "FROM read_json('{outside}/secret.csv')",
    "FROM read_parquet('{outside}/secret.csv')",
    "FROM read_text('{outside}/secret.csv')",
    "FROM read_blob('{outside}/secret.csv')",
    "FROM read_ndjson_objects('{outside}/secret.csv')",
    "FROM sniff_csv('{outside}/secret.csv')",
    "FROM parquet_metadata('{outside}/secret.csv')",
    "FROM glob('{outside}/*')",
    "FROM read_text('/proc/self/environ')",
    "FROM read_text('/etc/passwd')",
    "FROM read_text('/dev/fd/0')",
    "FROM query('FROM read_text(''/etc/passwd'')')",
    "FROM query('WITH x AS (COPY run TO ''{file}.wal'' (FORMAT csv)) SELECT * FROM x')",
    "FROM query_table('{outside}/secret.csv')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))",
    # the path of the database asked is one that external access off allows, and closing it lets go of DuckDB's lock
    "FROM read_blob('{file}')",
    "FROM read_duckdb('{file}', table_name = 'run')",
    "FROM read_duckdb('{other}', table_name = 'run')",
    "FROM read_blob('{temp}/*')",
    "FROM read_csv('http://127.0.0.1:9/a.csv')",
    "FROM 'https://127.0.0.1:9/a.parquet'",
    "FROM read_text('s3://bucket/key')",
    "FROM sqlite_scan('{outside}/secret.csv', 'a')",
    "FROM postgres_scan('host=127.0.0.1', 'public', 'a')",
    "SELECT getenv('A_TOKEN') AS a",
    "FROM enable_logging(storage = 'file', storage_config = {{'path': '{outside}/log'}})",
    "FROM enable_profiling()",
    "FROM frame",  # variables of the program
    "FROM answer",
    "SELECT nextval('new') AS a",
]
ATTACKS = [*NOT_ONE_QUESTION, *WRITES_IN_A_SELECT, *READS_ELSEWHERE]
HARMLESS = [
    "SELECT name, value FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "FROM which_secret('s3://a', 's3')",
    "SELECT database_name, path FROM duckdb_databases()",
    "SELECT current_setting('allowed_paths') AS a",
    "SELECT * FROM duckdb_variables()",
    "FROM checkpoint()",
    "SELECT getvariable('A_TOKEN') AS a",
    "SELECT write_log('a') AS a",
    "SELECT 'DELETE_QUERY_NODE' AS a, '\"type\":\"COPY_QUERY_NODE\"' AS b",
]
BOTH = pytest.mark.parametrize("of_store", [False, True], ids=["published", "store"])


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """On a busy machine a question may take its time to stop, and these tests must not end with its process."""
    monkeypatch.setattr(limits, "GRACE_S", 600.0)


@pytest.fixture(scope="module")
def outside(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.csv").write_text("a\n41\n", encoding="utf-8")
    return folder


def names(root: Path, outside: Path, *, of_store: bool) -> dict[str, str]:
    settings = Settings(root=root)
    files = [str(settings.published), str(settings.store)]
    asked_file, other = reversed(files) if of_store else files
    temp = str(settings.warehouse / "tmp")
    return {"file": asked_file, "other": other, "outside": str(outside), "name": outside.name, "temp": temp}


def state(*folders: Path) -> dict[Path, tuple[int, int]]:
    """Return every file's size and time of change: what was only read has neither changed."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}


# One code asks both databases: a third of the attacks says that it does.
@pytest.mark.parametrize(
    ("attack", "of_store"),
    [*((attack, False) for attack in ATTACKS), *((attack, True) for attack in ATTACKS[::3])],
)
def test_an_attack_is_refused_in_one_sentence_and_changes_no_file(attack, of_store, walked, outside):
    (walked / "warehouse" / "tmp").mkdir(exist_ok=True)
    before = state(walked / "warehouse", outside)
    store = ["--store"] if of_store else []
    refused = run(walked, "sql", attack.format(**names(walked, outside, of_store=of_store)), *store)
    assert state(walked / "warehouse", outside) == before
    assert (refused.exit_code, refused.stdout) == (2, ""), refused.stderr
    assert "the statement cannot be answered" in sentence(refused)


@pytest.mark.parametrize("attack", [attack for attack in WRITES_IN_A_SELECT if " AS (" in attack])
def test_a_with_that_writes_is_refused_by_its_syntax_before_anything_is_tried(attack, walked, outside):
    refused = run(walked, "sql", attack.format(**names(walked, outside, of_store=False)))
    assert re.search(r"holds a statement of kind (COPY|DELETE|INSERT|UPDATE), which does not only ask", refused.stderr)


@BOTH
@pytest.mark.parametrize("statement", HARMLESS)
def test_what_duckdb_tells_of_itself_holds_no_secret_and_changes_nothing(statement, of_store, walked, monkeypatch):
    monkeypatch.setenv("A_TOKEN", SECRET)
    before = state(walked / "warehouse")
    told = done(walked, "sql", statement, *(["--store"] if of_store else []))
    assert SECRET not in told.stdout + told.stderr
    assert state(walked / "warehouse") == before


@BOTH
def test_every_door_is_closed_and_the_key_thrown_away(of_store, walked):
    wanted = {
        "python_enable_replacements": False,
        "temp_directory": "",
        "enable_external_access": False,
        "lock_configuration": True,
        "memory_limit": "3.7 GiB",
    }
    columns = ", ".join(f"current_setting('{name}') AS {name}" for name in wanted)
    with asked(Settings(root=walked), f"SELECT {columns}", of_store=of_store, limit=None) as answer:
        assert list(answer.rows()) == [wanted]
        with pytest.raises(duckdb.InvalidInputException, match="configuration has been locked"):
            answer.con.execute("SET disabled_filesystems = ''")  # which reads as '' even so: no setting to look at


@BOTH
def test_what_is_asked_is_attached_read_only(of_store, walked):
    with (
        asked(Settings(root=walked), "SELECT 1 AS n", of_store=of_store, limit=None) as answer,
        pytest.raises(duckdb.InvalidInputException, match="read-only mode"),
    ):
        answer.con.execute("DELETE FROM run")


# Time

ENDLESS = "SELECT range AS n FROM range(100_000_000_000)"
SLOW = "SELECT count(*) AS n FROM range(10_000_000) AS a, range(10_000_000) AS b"
# One call of one function: DuckDB looks for an interrupt only when it is over.
STUCK = "SELECT sum(levenshtein(repeat('a', 60_000 + range % 7), repeat('b', 60_000))) AS n FROM range(1000)"
RECURSIVE = "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) AS n FROM r"


@pytest.mark.parametrize(
    ("statement", "form"),
    [(SLOW, "table"), (SLOW, "csv"), (RECURSIVE, "json"), ("SELECT pg_sleep(60) AS n", "table")]
    + [(ENDLESS, form) for form in ("csv", "json", "parquet")],
)
def test_a_question_that_takes_too_long_is_stopped(statement, form, walked, tmp_path):
    out = ["--out", tmp_path / "o.parquet"] if form == "parquet" else ["--format", form]
    stopped = run(walked, "sql", statement, *out, "--timeout", 1, "--limit", 10**12)
    assert (stopped.exit_code, "the question was stopped after 1 s" in sentence(stopped)) == (21, True)
    assert "--timeout SECONDS" in stopped.stderr
    assert os.listdir(tmp_path) == []


def asking(root: Path, *args: object) -> list[str]:
    return [sys.executable, "-m", "kstock_batch", "--root", str(root), "sql", "--store", *map(str, args)]


def test_a_statement_that_does_not_listen_is_ended_with_its_process_and_leaves_nothing(walked, tmp_path):
    command = asking(walked, STUCK, "--timeout", 1, "--out", tmp_path / "o.csv")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (21, "error: the question was stopped after 1 s")
    assert os.listdir(tmp_path) == []
    Warehouse.open(Settings(root=walked)).__exit__(None, None, None)  # nobody holds the lock


def test_an_answer_that_nobody_reads_does_not_hold_the_store_for_longer(walked):
    command = asking(walked, "SELECT range AS n FROM range(1_000_000)", "--format", "csv", "--timeout", 1)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.wait(timeout=60) == 21


def test_the_time_is_over_for_rows_that_are_read_slowly(walked):
    with (
        asked(Settings(root=walked), ENDLESS, of_store=False, limit=None, seconds=0.2) as answer,
        pytest.raises(TimeLimitReached, match=r"stopped after 0\.2 s"),
    ):
        for row in answer.rows():
            if row["n"] == 0:
                time.sleep(0.3)


def test_a_question_in_time_is_not_disturbed_and_leaves_no_watch(walked):
    before = threading.active_count()
    assert asked_json(walked, "sql", "SELECT 1 AS n", "--timeout", 1) == [{"n": 1}]
    assert threading.active_count() == before


def test_an_interrupt_that_comes_too_early_comes_again():
    """Between two statements it is lost: the second is stopped all the same."""
    con, stuck = duckdb.connect(), []
    with time_limited(con, 0.01, stuck.append):
        time.sleep(0.1)
        with pytest.raises(duckdb.InterruptException):
            con.execute(SLOW)
    assert stuck == []


# Rows


def test_a_document_has_a_limit_of_rows_and_a_cut_is_said(walked, tmp_path, monkeypatch):
    monkeypatch.setattr(questions, "WRITTEN_ROWS", 5)
    for args in (["--json"], ["--format", "csv"], ["--out", tmp_path / "o.parquet"]):
        cut = done(walked, "sql", "SELECT range AS n FROM range(6)", *args)
        assert "warning: there are more than 5 rows; --limit says how many are wanted" in cut.stderr
        assert "5 rows from" in cut.stderr + cut.stdout
        whole = done(walked, "sql", "SELECT range AS n FROM range(5)", *args)
        assert "warning" not in whole.stderr
        assert "cut" not in whole.stderr + whole.stdout
    assert pl.read_parquet(tmp_path / "o.parquet").height == 5
    asked_for = done(walked, "sql", "SELECT range AS n FROM range(9)", "--json", "--limit", 7)
    assert ("warning" in asked_for.stderr, "cut at --limit 7" in asked_for.stderr) == (False, True)


def test_the_limits_are_those_of_the_help_text(walked):
    assert (questions.SHOWN_ROWS, questions.WRITTEN_ROWS, questions.TIMEOUT_S) == (1000, 1_000_000, 60)
    for odd in (["--limit", 0], ["--limit", -1], ["--timeout", 0], ["--timeout", 86_401]):
        assert run(walked, "sql", "SELECT 1", *odd).exit_code == 2


# Memory


@BOTH
@pytest.mark.parametrize(
    "greedy",
    [
        "SELECT len(range(1_000_000_000)) AS n",  # a list of 8 GB, which DuckDB's own limit does not count
        "SELECT repeat('x', 100_000_000) AS n FROM range(1000)",
        "SELECT count(*) AS n FROM (SELECT DISTINCT random() FROM range(1_000_000_000))",
        "SELECT string_agg(repeat('x', 1_000_000)) AS n FROM range(10_000)",
    ],
)
def test_a_question_that_needs_too_much_memory_is_refused_and_spills_into_no_file(
    greedy, of_store, walked, monkeypatch
):
    monkeypatch.setenv("KSTOCK_MEMORY_LIMIT", "256MB")
    before = state(walked / "warehouse")
    refused = run(walked, "sql", greedy, *(["--store"] if of_store else []))
    assert (refused.exit_code, "needs more memory than allowed" in sentence(refused)) == (1, True)
    assert state(walked / "warehouse") == before


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux says how much memory a process has")
def test_the_bound_on_memory_is_the_systems_and_is_lifted_again():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limited("512MiB"):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] < 2**40
        with pytest.raises(MemoryError):
            bytearray(4 * 2**30)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with memory_limited(""):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_an_answer_too_large_for_this_process_is_one_sentence(walked):
    with (
        pytest.raises(KStockError, match=r"needs more memory than memory_limit = 4GB(.|\n)*ask for less"),
        asked(Settings(root=walked), "SELECT 1 AS n", of_store=False, limit=None),
    ):
        raise MemoryError
