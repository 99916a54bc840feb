"""Feature 31: one registration, filled alone, the same in a night as in a backfill, and unable to look ahead."""

import re
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from factories import until
from kstock_batch.errors import ConfigError
from kstock_batch.features import build
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market import extra_features
from kstock_batch.market.extra_features import ExtraFeature, window_mean
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings
from kstock_batch.store import queries
from kstock_batch.store.ledger import opened_run

DOCS = Path(__file__).parents[1] / "docs" / "adding-a-feature.md"
SESSIONS = krx_sessions(date(2025, 1, 2), date(2026, 4, 30))[:280]
CLOSE = pl.col("close")


def registered_in_docs() -> tuple[ExtraFeature, ...]:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names = {"ExtraFeature": ExtraFeature, "pl": pl}
    exec(compile(code, DOCS.name, "exec"), names)
    return names["EXTRA_FEATURES"]


@pytest.fixture(scope="module")
def frames():
    return generate(SESSIONS, n_tickers=30, seed=5).frames


class Store:
    def __init__(self, root, frames):
        self.root, self.settings = root, Settings(root=root)
        self.frames = frames

    def night(self, last, extras, *, at=datetime(2026, 5, 1)):
        folder = self.root / f"until_{last}"
        folder.mkdir(parents=True)
        for stem, frame in until(self.frames, last).items():
            frame.write_parquet(folder / f"{stem}.parquet")
        with opened_run(self.settings, "test", at=at) as run:
            ingest_files(run.warehouse, folder, load_mapping(), settings=self.settings, run=run)
            return bring_up_to_date(run.warehouse, self.settings, run, extras=extras)

    def build(self, extras):
        with opened_run(self.settings, "test", at=datetime(2026, 5, 2)) as run:
            bring_up_to_date(run.warehouse, self.settings, run, extras=extras)
            stages = run.warehouse.con.execute(
                "SELECT stage FROM run_stage WHERE run_id = $id", {"id": run.run_id}
            ).fetchall()
        return [stage for (stage,) in stages]

    def rows(self):
        with opened_run(self.settings, "test", at=datetime(2026, 5, 2)) as run:
            return run.warehouse.con.sql("FROM feature_daily ORDER BY ticker, as_of").pl()


@pytest.fixture
def store(tmp_path, frames):
    return Store(tmp_path / "store", frames)


def test_the_example_of_the_docs_fills_one_column_and_touches_no_other(store):
    store.night(SESSIONS[-1], ())
    before = store.rows()
    extras = registered_in_docs()
    stages = store.build(extras)
    assert stages and all(stage.startswith("fill return_5d_pct") for stage in stages)
    after = store.rows()
    assert_frame_equal(after.drop("return_5d_pct"), before, check_exact=True)
    wanted = after.sort("ticker", "as_of").select(
        (100 * (CLOSE.cast(pl.Float64) / CLOSE.cast(pl.Float64).shift(5) - 1)).over("ticker")
    )
    got = after["return_5d_pct"].cast(pl.Float64)
    assert ((got - wanted.to_series()).abs().fill_null(0) < 1e-3).all()
    assert (got.is_null() == (after["bars_available"] < 6)).all()
    assert store.build(extras) == [], "a second build has nothing to fill"


def test_nights_give_an_extra_feature_the_bits_of_a_backfill(store, tmp_path, frames):
    extras = (*registered_in_docs(), ExtraFeature("over_mean_100", "C / mean of 100", n_bars=100,
                                                  expression=CLOSE / window_mean(CLOSE, 100)))  # fmt: skip
    for last in (SESSIONS[120], SESSIONS[200], SESSIONS[201], SESSIONS[-1]):
        store.night(last, extras)
    at_once = Store(tmp_path / "at_once", frames)
    at_once.night(SESSIONS[-1], ())
    at_once.build(extras)
    assert_frame_equal(store.rows(), at_once.rows(), check_exact=True)


def test_a_definition_that_changes_fills_its_column_anew_and_one_taken_out_drops_it(store):
    first = ExtraFeature("gap_pct", "O / C before", expression=pl.col("open") / CLOSE.shift() * 100, n_bars=2)
    store.night(SESSIONS[-1], (first,))
    before = store.rows()
    second = ExtraFeature("gap_pct", "O / C before - 1", expression=pl.col("open") / CLOSE.shift() - 1, n_bars=2)
    assert any(stage.startswith("fill gap_pct") for stage in store.build((second,)))
    after = store.rows()
    assert not after["gap_pct"].equals(before["gap_pct"])
    store.build(())
    assert_frame_equal(store.rows(), before.drop("gap_pct"), check_exact=True)


def test_a_fill_that_was_interrupted_goes_on(store):
    store.night(SESSIONS[-1], ())
    extras = registered_in_docs()
    store.build(extras)
    whole = store.rows()
    with opened_run(store.settings, "test", at=datetime(2026, 5, 2)) as run:
        run.warehouse.con.execute("UPDATE extra_feature SET through_session = $day", {"day": SESSIONS[100]})
        run.warehouse.con.execute(
            "UPDATE feature_daily SET return_5d_pct = NULL WHERE as_of > $day", {"day": SESSIONS[100]}
        )
    stages = store.build(extras)
    assert stages[0].startswith(f"fill return_5d_pct {SESSIONS[101]}"), "what was filled is not filled again"
    assert_frame_equal(store.rows(), whole, check_exact=True)


def test_a_definition_that_comes_back_does_not_find_the_values_of_another(store, monkeypatch):
    first = ExtraFeature("gap_pct", "O / C before", expression=pl.col("open") / CLOSE.shift(), n_bars=2)
    other = ExtraFeature("gap_pct", "C / C before", expression=CLOSE / CLOSE.shift(), n_bars=2)
    store.night(SESSIONS[-1], (first,))
    wanted = store.rows()
    with opened_run(store.settings, "test", at=datetime(2026, 5, 2)) as run:
        run.warehouse.con.execute("INSERT INTO feature_due VALUES ('test', $day, 'x')", {"day": SESSIONS[200]})
        monkeypatch.setattr(build, "fill_columns", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bring_up_to_date(run.warehouse, store.settings, run, extras=(other,))
    monkeypatch.undo()
    store.build((first,))
    assert_frame_equal(store.rows(), wanted, check_exact=True)


def test_a_column_whose_fill_failed_goes_with_its_entry(store, monkeypatch):
    store.night(SESSIONS[-1], ())
    before = store.rows()
    monkeypatch.setattr(build, "fill_columns", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.build(registered_in_docs())
    monkeypatch.undo()
    store.build(())
    assert_frame_equal(store.rows(), before, check_exact=True)


def test_a_statement_can_define_a_feature(store, tmp_path, monkeypatch):
    (statement,) = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    import shutil

    folder = tmp_path / "sql"
    shutil.copytree(queries.sql_folder(), folder)
    (folder / "extra").mkdir()
    (folder / "extra" / "kospi_foreign_net.sql").write_text(statement, encoding="utf-8")
    from kstock_batch.features import extra

    monkeypatch.setattr(queries, "sql_folder", lambda: folder)
    monkeypatch.setattr(extra, "sql_folder", lambda: folder)
    queries.Query.load.cache_clear()
    store.night(SESSIONS[-1], (ExtraFeature("kospi_foreign_net", "net", scope="market_wide"),))
    rows = store.rows()
    queries.Query.load.cache_clear()
    by_session = rows.group_by("as_of").agg(pl.col("kospi_foreign_net").n_unique().alias("n"))
    assert by_session["n"].max() == 1
    assert rows["kospi_foreign_net"].null_count() == 0


@pytest.mark.parametrize(
    ("expression", "n_bars"),
    [
        (CLOSE.shift(-1) / CLOSE, 5),
        (CLOSE / CLOSE.shift(5), 5),
        (CLOSE / CLOSE.ewm_mean(span=10, adjust=False), 50),
        (CLOSE / CLOSE.max(), 20),
        (CLOSE / CLOSE.rolling_mean(20), 20),
        (CLOSE, 1),
        (CLOSE - CLOSE.shift(), 2),
    ],
    ids=["ahead", "a bar more", "never forgets", "whole history", "carries a sum", "won", "difference in won"],
)
def test_what_a_night_could_not_know_or_repeat_is_refused(store, expression, n_bars):
    extra = ExtraFeature("bad", "no good", expression=expression, n_bars=n_bars)
    with pytest.raises(ConfigError, match=r"the extra feature bad (differs|changes with the price level)"):
        store.night(SESSIONS[-1], (extra,))


@pytest.mark.parametrize("name", ["rsi", "close", "as_of"])
def test_a_name_that_is_taken_is_refused(store, name):
    with pytest.raises(ConfigError, match=f"{name}.* names that are taken"):
        store.night(SESSIONS[-1], (ExtraFeature(name, "again", expression=CLOSE / CLOSE),))


def test_a_name_that_is_no_column_and_too_many_bars_are_refused():
    with pytest.raises(ValueError, match="is no column name"):
        ExtraFeature("Bad Name", "x")
    with pytest.raises(ValueError, match="reads 300 bars"):
        ExtraFeature("far", "x", n_bars=300)


def test_a_feature_without_a_definition_is_refused(store):
    with pytest.raises(ConfigError, match="the extra feature lost has no definition"):
        store.night(SESSIONS[-1], (ExtraFeature("lost", "nowhere"),))


@pytest.mark.parametrize("expression", [pl.col("clsoe"), pl.lit("text")], ids=["no column", "no number"])
def test_an_expression_that_cannot_be_computed_is_refused(store, expression):
    with pytest.raises(ConfigError, match="the extra feature bad cannot be computed"):
        store.night(SESSIONS[-1], (ExtraFeature("bad", "x", expression=expression),))


def test_nothing_is_registered_by_default():
    assert extra_features.EXTRA_FEATURES == ()
