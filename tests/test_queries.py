"""The statements under sql/: each keeps its header's word and can be planned on the schema it is for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType

import duckdb
import pytest

from kstock_batch.errors import SqlContractError
from kstock_batch.serving.targets.content import KEYS
from kstock_batch.settings import Settings
from kstock_batch.store import queries
from kstock_batch.store.queries import Query, sql_folder
from kstock_batch.store.warehouse import Warehouse
from small_store import MONDAY, predict, publish_now, small_store

SQL = sql_folder()
STATEMENTS = sorted(
    path.relative_to(SQL).with_suffix("").as_posix() for path in SQL.rglob("*.sql") if path.parent.name != "schema"
)
OF_PUBLICATION = [
    name
    for name in STATEMENTS
    if name in ("serve/latest", "serve/published_session")
    or name.startswith(("serve/verify_", "serve/view_", "targets/"))
]
OF_STORE = sorted(set(STATEMENTS) - set(OF_PUBLICATION))
# A view is a relation: a question sorts its own answer, and a sort inside would cost every question that does not care.
VIEWS = [name for name in STATEMENTS if name.startswith("views/") and not Query.load(name).params]

# A value for every parameter any statement declares: a new one is added here, which is the point at which its type
# is thought of.
DAY = date(2024, 6, 28)
VALUES = MappingProxyType(
    {
        **dict.fromkeys(("start", "end", "as_of", "as_of_", "known_through", "from_session", "since"), DAY),
        **dict.fromkeys(
            ("max_age_days", "per_max_age_days", "cap_max_age_days", "filing_max_age_days", "n", "n_days"), 30
        ),
        **{"horizon": 5, "rise": 0.03, "schema_version": 1, "published_at": datetime(2024, 6, 28)},
        **dict.fromkeys(("known_at", "stored_at", "settled_at", "start_at", "end_at", "now"), datetime(2024, 6, 28)),
        **{"checkpoint": DAY, "basis": "adjusted", "begun_anew": ["text"], "tickers": ["text"]},
        **{
            "known_from": [DAY],
            "until": [DAY],
            "sessions": [DAY],
            "taken_at": datetime(2024, 6, 28),
            "retroactive": False,
        },
        "backtest_id": "text",
        **{"n_ends": 20, "fraction_that_agrees": 0.8},
        **dict.fromkeys(("run_id", "digest", "row_hash", "model_version", "fingerprint", "ticker", "ticker_"), "text"),
        **{"keys": ["text"], "values": ["text"], "audits": ["text"], "command": "text", "failed": False},
    }
)


# What an ingest has made of a source before it runs its statements.
NOTHING_NEW = "SELECT * EXCLUDE (version, retracted_at, ingested_at) FROM raw_price LIMIT 0"


def text_of(name: str) -> str:
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


def code_of(name: str) -> str:
    """The statement without its comments."""
    return re.sub(r"--.*", "", text_of(name))


def header_of(name: str) -> dict[str, str]:
    return dict(re.findall(r"^-- (what|grain|reads|params|severity): *(.*)$", text_of(name), re.MULTILINE))


def plan(con: duckdb.DuckDBPyConnection, name: str) -> list[str]:
    """Bind and plan a statement, and return its columns."""
    query = Query.load(name)
    params = {param: VALUES[param] for param in query.params}
    con.execute(f"EXPLAIN {query.text}", params).fetchall()
    return [column[0] for column in con.execute(query.text, params).description]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """The migrated empty schema."""
    with Warehouse.open(Settings(root=tmp_path_factory.mktemp("store"))) as warehouse:
        con = warehouse.con
        con.execute(f"CREATE TEMP TABLE incoming AS {NOTHING_NEW}")
        con.execute(
            "CREATE TEMP TABLE delta AS SELECT *, false AS is_other, false AS is_new, 1 AS version FROM incoming"
        )
        con.execute(
            "CREATE TEMP TABLE restated AS SELECT ticker, 1.0 AS ratio, 1.0 AS ratio_after, 1.0 AS volume_ratio,"
            " 1.0 AS volume_ratio_after, 1 AS n_overlap FROM incoming"
        )
        yield con


@pytest.fixture(scope="module")
def publication(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A published file."""
    root = tmp_path_factory.mktemp("published")
    with small_store(root) as warehouse:
        predict(warehouse, MONDAY, {"005930": 0.5})
        publish_now(warehouse, root / "predictions.duckdb")
    con = duckdb.connect(str(root / "predictions.duckdb"), read_only=True)
    yield con
    con.close()


@pytest.mark.parametrize("name", OF_STORE)
def test_a_statement_can_be_planned_on_the_empty_store_and_returns_its_grain(name, store):
    columns = plan(store, name)
    require_grain(name, columns)


@pytest.mark.parametrize("name", OF_PUBLICATION)
def test_a_statement_of_the_published_file_can_be_planned_there_and_returns_its_grain(name, publication):
    columns = plan(publication, name)
    require_grain(name, columns)


def require_grain(name: str, columns: list[str]) -> None:
    grain = header_of(name)["grain"]
    assert grain == "one row" or set(grain.split(", ")) <= set(columns), (grain, columns)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_header_names_exactly_the_tables_that_are_read(name):
    code = code_of(name)
    ctes = set(re.findall(r"(?:WITH|,)\s+(\w+)(?: \([\w, ]+\))? AS (?:MATERIALIZED )?\(", code))
    read = set(re.findall(r"(?<!DISTINCT )\b(?:FROM|JOIN)\s+([a-z_]\w*)\b(?!\s*\()", code))
    macros = {name.removeprefix("views/") for name in STATEMENTS if name.startswith("views/")}
    read |= macros & set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]\w*)\(", code))
    assert read - ctes == set(header_of(name)["reads"].split())


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_says_what_it_is_and_sorts_by_something(name):
    header = header_of(name)
    assert len(header["what"]) > 15
    sorts = re.search(r"\bORDER BY [^()]+$", code_of(name).rstrip().rstrip(";"))
    assert sorts or name in VIEWS, "the result has no ORDER BY"
    assert ";" not in code_of(name), "one statement a file"
    assert header.get("severity", "fail") in ("fail", "warn", "by row")


def test_a_target_looks_for_news_in_every_small_relation_that_it_gets(publication):
    told = [relation for relation, _ in Query.load("targets/fact_digest").frame(publication.cursor()).iter_rows()]
    assert sorted(told) == sorted(KEYS.keys() - {"prediction"}), "sessions have digests of their own"


OF_FEATURES = {"views/feature", "views/labelled_feature"}  # a registered feature is one more column of theirs


@pytest.mark.parametrize("name", sorted(set(VIEWS) - OF_FEATURES))
def test_a_view_names_its_columns(name):
    last_select = code_of(name).rpartition("\nSELECT")[2]
    assert not re.search(r"^\s*\*|\.\*", last_select), "a column that a table gets would be published unthought of"


def test_only_labels_look_forward():
    """A frame that ends after the current row is a lead() by another name."""
    forward = re.compile(r"\blead\s*\(|\bFOLLOWING\b", re.IGNORECASE)
    looking = {name for name in STATEMENTS if forward.search(code_of(name))}
    assert looking == {name for name in STATEMENTS if name.startswith("labels/")}


def test_every_audit_takes_the_session_it_is_about():
    audits = [name for name in STATEMENTS if name.startswith("audits/")]
    assert audits
    assert {name: sorted(Query.load(name).params) for name in audits} == {name: ["as_of"] for name in audits}


def test_migrations_are_numbered_without_a_gap():
    steps = sorted(path.name for path in (SQL / "schema").iterdir())
    assert [step[:5] for step in steps] == [f"{n:04}_" for n in range(1, len(steps) + 1)]


# What Query.load refuses


@pytest.fixture
def sql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(queries, "sql_folder", lambda: tmp_path)
    Query.load.cache_clear()
    yield tmp_path
    Query.load.cache_clear()


HEADER = "-- what:   a test\n-- grain:  n\n-- reads:\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + "-- params: start\nSELECT 1 AS n", r"params \['start'\] but uses \[\]"),
        (HEADER + "-- params:\nSELECT $start AS n", r"params \[\] but uses \['start'\]"),
        (HEADER + "SELECT $start AS n", r"but uses \['start'\]"),
        ("SELECT 1 AS n", r"declares \[\]"),
        ("-- what: x\n-- grain: n\nSELECT 1 AS n", r"declares \['grain', 'what'\]"),
    ],
)
def test_a_statement_that_does_not_keep_its_headers_word_is_not_loaded(text, says, sql):
    (sql / "x.sql").write_text(text, encoding="utf-8")
    with pytest.raises(SqlContractError, match=rf"sql/x\.sql .*{says}"):
        Query.load("x")


def test_a_parameter_in_a_comment_is_none(sql):
    (sql / "x.sql").write_text(HEADER + "-- params:\nSELECT 1 AS n -- not $start", encoding="utf-8")
    assert Query.load("x").params == frozenset()


def test_a_statement_takes_exactly_its_parameters(sql):
    (sql / "x.sql").write_text(HEADER + "-- params: start\nSELECT $start::INTEGER AS n", encoding="utf-8")
    query, con = Query.load("x"), duckdb.connect(":memory:")
    assert query.rows(con, start=3) == [{"n": 3}]
    for given in ({}, {"start": 3, "end": 4}, {"end": 4}):
        with pytest.raises(SqlContractError, match=r"takes \['start'\] but was given"):
            query.frame(con, **given)
    con.close()
