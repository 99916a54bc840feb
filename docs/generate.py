"""Writes what docs/ says of registry and schema: `python docs/generate.py`, with `--answers ROOT` the answers, too.

Prose is written by hand around the marks; what stands between them is made here, and a test compares both.
"""

import ast
import io
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import duckdb

import kstock_batch
from kstock_batch.console import table
from kstock_batch.learners.inputs import MARKET_WIDE, RANKS, VALUES
from kstock_batch.learners.window_summaries import READ, SECTOR_MEANS
from kstock_batch.market.contract import FEATURES, Feature
from kstock_batch.market.tables import TABLES
from kstock_batch.serving.publication.contents import TABLES as PUBLISHED
from kstock_batch.serving.publication.contents import VIEWS as PUBLISHED_VIEWS
from kstock_batch.serving.questions.ask import asked
from kstock_batch.settings import Settings
from kstock_batch.store.catalogue import column_meaning, relation_meaning
from kstock_batch.store.queries import Query, sql_folder
from kstock_batch.store.warehouse import Warehouse

DOCS = Path(__file__).parent
_QUESTION = re.compile(r"```sql\n-- kstock-batch sql( --store)?\n(.*?)```\n```text\n(.*?)```", re.DOTALL)
_FROM = {
    "rs_percentile": "raw_price raw_listing",
    "per": "raw_valuation raw_market_cap raw_financial raw_price",
    "roe": "raw_financial",
    "debt_ratio": "raw_financial",
    "market_cap_log": "raw_market_cap raw_price",
    "foreign_net_buy_days": "raw_flow raw_price",
    "institution_net_buy_days": "raw_flow raw_price",
    "sector_encoded": "raw_listing",
    "policy_bonus": "raw_listing",
}
# Of what is no raw table (market/tables.py has their keys) and no view (its header tells): a test asks a store.
KEYS = {
    "audit_result": ("as_of", "audit"),
    "catalogue": ("name",),
    "drift": ("as_of",),
    "early_return": ("as_of", "ticker"),
    "extra_feature": ("name",),
    "feature_daily": ("ticker", "as_of"),
    "feature_session": ("as_of",),
    "feature_state": ("session", "ticker"),
    "floor_prediction": ("as_of", "ticker"),
    "ingest_batch": ("source", "dataset", "event_date"),
    "label_daily": ("ticker", "as_of"),
    "model_promise": ("model_version",),
    "observed_session": ("session",),
    "prediction": ("as_of", "ticker"),
    "price_action": ("ticker", "session"),
    "price_restatement": ("run_id", "ticker"),
    "raw_calendar": ("session",),
    "run": ("run_id",),
    "schema_version": ("version",),
    "scorecard": ("as_of",),
    "scorecard_decile": ("as_of", "decile"),
    "scored_session": ("as_of",),
} | {name: (*table.key, "version") for name, table in TABLES.items()}
# Small enough to read. What joins everything with everything (ticker, session, run_id) is drawn once.
_DIAGRAMS = {
    "Facts, features, outcomes": (
        *("raw_listing", "raw_calendar", "raw_price", "raw_financial", "feature_daily", "label_daily"),
    ),
    "Predictions and what came of them": (
        *("run", "prediction", "floor_prediction", "early_return", "label_daily", "model_promise", "scorecard"),
        "scorecard_decile",
    ),
}
_RELATIONS = (
    ("raw_listing", "raw_price", "ticker", "||--o{"),
    ("raw_listing", "raw_financial", "ticker", "||--o{"),
    ("raw_calendar", "raw_price", "session", "||--o{"),
    ("raw_price", "feature_daily", "ticker, session = as_of", "}|--o|"),
    ("raw_calendar", "feature_daily", "session = as_of", "||--o{"),
    ("feature_daily", "label_daily", "ticker, as_of", "||--o|"),
    ("run", "prediction", "run_id", "||--o{"),
    ("prediction", "floor_prediction", "as_of, ticker", "||--o|"),
    ("prediction", "early_return", "as_of, ticker", "||--o|"),
    ("prediction", "label_daily", "as_of, ticker", "|o--o|"),
    ("model_promise", "prediction", "model_version", "|o--o{"),
    ("scorecard", "prediction", "as_of", "|o--|{"),
    ("scorecard", "scorecard_decile", "as_of", "||--o{"),
)


@dataclass(frozen=True)
class Column:
    """One column of a relation, as the schema has it."""

    relation: str
    name: str
    kind: str
    may_be_null: bool


def feature_table() -> str:
    """Return every feature of the contract as rows of a table: definition, look-back, sources, who reads it."""
    lines = [
        "| # | name | definition | NULL until | from | the trees read |",
        "|--:|---|---|---|---|---|",
    ]
    for number, feature in enumerate(FEATURES):
        until = "–" if feature.null_until is None else f"{feature.null_until}{' bars' if number == 0 else ''}"
        words = _cell(feature.definition)
        lines.append(
            f"| {number} | `{feature.name}` | {words} | {until} | {_sources(feature)} | {_read_by_trees(feature)} |"
        )
    return "\n".join(lines)


def _sources(feature: Feature) -> str:
    usual = "raw_macro" if feature.scope == "market_wide" else "raw_price"
    return ", ".join(f"`{table}`" for table in _FROM.get(feature.name, usual).split())


def _read_by_trees(feature: Feature) -> str:
    if feature.name in MARKET_WIDE:
        return "nothing"
    forms = {"value": "value", "per_close": "value / close", "close_over": "close / value − 1", "category": "category"}
    told = [forms[feature.as_input]] if feature in VALUES else []
    if feature in RANKS:
        told.append("rank")
    if feature.name in READ or feature.name in {name for name, _ in SECTOR_MEANS.values()}:
        told.append("of 20 bars")
    return ", ".join(told)


def data_model() -> str:
    """Return the diagrams and every relation of the store and of the published file with its columns."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(root=Path(folder))
        with Warehouse.open(settings) as warehouse:
            store = _columns(warehouse.con)
    parts = [f"## {title}\n\n{_diagram(shown, store)}" for title, shown in _DIAGRAMS.items()]
    parts.append("## The store: tables")
    views = {path.stem for path in (sql_folder() / "views").glob("*.sql")}
    parts += [_section(name, columns) for name, columns in store.items() if name not in views]
    parts.append("## The store: views")
    parts += [_section(name, columns) for name, columns in store.items() if name in views]
    parts.append("## The store: macros")
    macros = [Query.load(f"views/{name}") for name in sorted(views - store.keys())]
    parts.append("\n".join(["| macro | returns | a row for each |", "|---|---|---|", *map(_macro, macros)]))
    parts.append("## The published file\n\n" + _published())
    return "\n\n".join(parts)


def _columns(con: duckdb.DuckDBPyConnection) -> dict[str, list[Column]]:
    found: dict[str, list[Column]] = {}
    rows = con.execute(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns()"
        " WHERE database_name = current_database() AND NOT internal ORDER BY table_name, column_index"
    ).fetchall()
    for row in rows:
        found.setdefault(row[0], []).append(Column(*row))
    return found


def _diagram(shown: tuple[str, ...], store: dict[str, list[Column]]) -> str:
    lines = ["```mermaid", "erDiagram"]
    lines += [
        f'  {one} {many} {other} : "{by}"' for one, other, by, many in _RELATIONS if one in shown and other in shown
    ]
    for name in shown:
        kinds = {column.name: column.kind for column in store[name]}
        lines += [f"  {name} {{", *(f"    {kinds[part]} {part} PK" for part in KEYS[name]), "  }"]
    return "\n".join([*lines, "```"])


def _section(name: str, columns: list[Column]) -> str:
    lines = [f"### `{name}`", "", _sentence(relation_meaning(name))]
    if grain := _grain(name):
        lines += ["", f"One row for each {grain}."]
    lines += ["", "| column | type | meaning |", "|---|---|---|"]
    for column in columns:
        kind = column.kind if len(column.kind) < 40 else "list of rows"
        null = "" if column.may_be_null else ", never NULL"
        lines.append(f"| `{column.name}` | {kind}{null} | {_cell(column_meaning(name, column.name) or '')} |")
    return "\n".join(lines)


def _grain(name: str) -> str:
    is_view = (sql_folder() / "views" / f"{name}.sql").is_file()
    parts = Query.load(f"views/{name}").grain.split(", ") if is_view else KEYS.get(name, ())
    return ", ".join(f"`{part}`" for part in parts)


def _macro(query: Query) -> str:
    called = f"{query.name.removeprefix('views/')}({', '.join(name.rstrip('_') for name in query.declared)})"
    return f"| `{called}` | {_cell(query.what)} | {query.grain} |"


def _published() -> str:
    lines = ["| relation | a row for each | what |", "|---|---|---|"]
    names = ["prediction", "latest", *PUBLISHED, "model_card", "publication", "published_session"]
    for name in [*names, *PUBLISHED_VIEWS]:
        query = Query.load(f"serve/{'view_' if name in PUBLISHED_VIEWS else ''}{name}")
        lines.append(f"| `{name}` | {query.grain} | {_cell(relation_meaning(name) or '')} |")
    return "\n".join(lines)


def _sentence(words: str | None) -> str:
    words = _cell(words or "")
    return words[:1].upper() + words[1:] + "."


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def floors() -> dict[str, int]:
    """Return each room's floor, by the table of the page about the architecture."""
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (-?\d) \| (`[^|]*`) \|", page, re.MULTILINE)
    return {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}


def house() -> str:
    """Return the diagram of who imports whom, without what follows from other imports."""
    floor, known = floors(), _imports()
    rooms = [room for room, number in floor.items() if number > 0]
    lines = ["```mermaid", "flowchart TD"]
    for room in rooms:
        others = known.get(room, set()) & set(rooms)
        lines += [
            f"  {room.strip('_')} {'-.->' if room == 'bot' else '-->'} {other}"
            for other in sorted(others)
            if not any(other in _reached(known, between) for between in others - {other})
        ]
    return "\n".join([*lines, "```"])


def _imports() -> dict[str, set[str]]:
    package = Path(kstock_batch.__file__).parent
    found: dict[str, set[str]] = {}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            parts = [name.split(".") for name in names]
            found.setdefault(room, set()).update(part[1] for part in parts if part[0] == "kstock_batch" and part[1:])
    return {room: others - {room} for room, others in found.items()}


def _reached(known: Mapping[str, set[str]], room: str) -> set[str]:
    """Return every room that ``room`` leans on, over however many others."""
    others = known.get(room, set())
    return others.union(*(_reached(known, other) for other in others))


MADE: dict[str, Callable[[], str]] = {"features": feature_table, "data-model": data_model, "architecture": house}


def page_with(name: str, made: str) -> str:
    """Return the page with what stands between its marks replaced."""
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    start, end = "<!-- made by docs/generate.py -->\n", "\n<!-- end -->"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{made}\n{end}{after}"


def questions(text: str) -> Iterator[tuple[str, bool, str]]:
    """Yield each question of the analyst's page: the statement, whether it is the store's, the answer shown."""
    for of_store, statement, answer in _QUESTION.findall(text):
        yield statement, bool(of_store), answer


def answered(text: str, root: Path) -> str:
    """Return the analyst's page with the answers that ``root`` gives."""

    def answer(found: re.Match[str]) -> str:
        of_store, statement, _ = found.groups()
        with asked(Settings.load(root), statement, of_store=bool(of_store), limit=None) as reply:
            drawn = io.StringIO()
            with redirect_stdout(drawn):
                table("no such row" if (rows := list(reply.rows())) == [] else "", rows)
        shown = "\n".join(line.rstrip() for line in drawn.getvalue().splitlines() if line.strip())
        return f"```sql\n-- kstock-batch sql{of_store or ''}\n{statement}```\n```text\n{shown}\n```"

    return _QUESTION.sub(answer, text)


def main() -> None:
    """Write the pages."""
    for name, make in MADE.items():
        page = page_with(name, make())
        (DOCS / f"{name}.md").write_text(page, encoding="utf-8")
    if sys.argv[1:2] == ["--answers"]:
        page = DOCS / "analyst.md"
        page.write_text(answered(page.read_text(encoding="utf-8"), Path(sys.argv[2])), encoding="utf-8")


if __name__ == "__main__":
    main()
