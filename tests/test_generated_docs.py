"""Pages made from registry and schema are what their generator gives, and the analyst's questions have answers."""

import importlib.util
import re
import sys
from pathlib import Path

import duckdb
import pytest

from factories import copy_root
from kstock_batch.serving.questions.ask import asked
from kstock_batch.settings import Settings

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
ANALYST = (DOCS / "analyst.md").read_text(encoding="utf-8")
# Forty stocks are too few for a PSI, which then keeps silent.
SILENT = "feature_psi"


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATE = generator()
QUESTIONS = list(GENERATE.questions(ANALYST))


@pytest.mark.parametrize("name", GENERATE.MADE)
def test_a_page_is_what_its_generator_gives(name):
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert page == GENERATE.page_with(name, GENERATE.MADE[name]()), "run `python docs/generate.py`"


def test_every_relation_of_the_model_has_a_meaning_and_so_has_each_column():
    page = (DOCS / "data-model.md").read_text(encoding="utf-8")
    assert page.count("\n### ") > 40
    assert not re.findall(r"^\| .* \|  \|$|^\.$", page, re.MULTILINE)


def test_keys_of_the_model_are_keys(judged):
    with duckdb.connect(str(judged / "warehouse" / "store.duckdb"), read_only=True) as con:
        for table, key in GENERATE.KEYS.items():
            names = ", ".join(key)
            doubled = con.execute(
                f"SELECT {names} FROM {table} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
            ).fetchall()
            assert not doubled, (table, key)


def test_the_model_card_quotes_the_readme():
    quoted = re.findall(r"^\| .*\d \|$", (DOCS / "model-card.md").read_text(encoding="utf-8"), re.MULTILINE)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    whole = readme.split("| **2023 and 2024** |")[1].split("| **2023** |")[0]
    assert len(quoted) == 4
    assert all(row in whole for row in quoted)


# The analyst's questions


@pytest.fixture(scope="module")
def disturbed(judged, tmp_path_factory):
    """The judged root with a corrected price and a restated stock, which an undisturbed market lacks."""
    root = copy_root(judged, tmp_path_factory.mktemp("analyst") / "root")
    with duckdb.connect(str(root / "warehouse" / "store.duckdb")) as con:
        one = "FROM raw_price ORDER BY session DESC, ticker LIMIT 1"
        con.execute(f"INSERT INTO raw_price BY NAME SELECT * REPLACE (close + 1 AS close, 2 AS version) {one}")
        con.execute(
            "INSERT INTO price_restatement BY NAME SELECT 'run' AS run_id, ticker, 0.5 AS ratio, 9 AS n_overlap,"
            f" 1 AS n_rescaled, ingested_at {one}"
        )
    return root


@pytest.fixture(scope="module")
def of_this_root(disturbed):
    """What the page's stock and dates are here: the newest night's best, the newest night."""
    with duckdb.connect(str(disturbed / "warehouse" / "serving" / "predictions.duckdb"), read_only=True) as con:
        ((ticker, as_of),) = con.sql(
            "SELECT ticker, CAST(as_of AS VARCHAR) FROM latest ORDER BY rank LIMIT 1"
        ).fetchall()
    return {"840420": ticker, "2026-10-30": as_of, "2026-08-31": as_of}


def test_the_analyst_asks_twenty_questions_or_more():
    assert len(QUESTIONS) >= 20
    assert ANALYST.count("```sql\n") == len(QUESTIONS) == ANALYST.count("\n### ")


@pytest.mark.parametrize(("statement", "of_store", "shown"), QUESTIONS, ids=re.findall(r"^### (\d+)\.", ANALYST, re.M))
def test_a_question_of_the_analyst_has_an_answer_with_the_columns_shown(
    statement, of_store, shown, disturbed, of_this_root
):
    for here, there in of_this_root.items():
        statement = statement.replace(here, there)
    with asked(Settings.load(disturbed), statement, of_store=of_store, limit=None) as reply:
        rows = list(reply.rows())
        columns = [column[0] for column in reply.con.execute(statement).description]
    assert rows or SILENT in statement
    assert shown.startswith("no such row") or shown.split("\n")[0].split() == columns
