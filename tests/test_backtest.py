"""The backtest: what a night would have said, bit for bit; nothing a night could not know; nothing lost by a kill."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from factories import LAST, asked_json, copy_root, done, run, sentence, sessions_between, store_rows
from kstock_batch.backtest import run as backtest_run
from kstock_batch.backtest.assembled import proven_by
from kstock_batch.backtest.compare import settings_of
from kstock_batch.backtest.costs import Costs
from kstock_batch.backtest.plan import History, first_day, last_day, refits_of
from kstock_batch.backtest.refit import SAID, refit
from kstock_batch.backtest.run import Asked, planned, prepare
from kstock_batch.errors import AuditFailed, ConfigError, NotEnoughHistory, WarehouseLocked
from kstock_batch.executors import SerialExecutor
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.judging.metrics import auc_by_session
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse
from kstock_batch.training import fitting

AT = datetime(2024, 6, 29)
TOML = "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 8\nthreads = 1\ntree_stride = 1\n"
DAYS = sessions_between(LAST - timedelta(days=440), LAST)[-240:]
ASKED = Asked(since=date(2024, 4, 15), refit="2024-05-10,2024-05-31")


@pytest.fixture(autouse=True)
def trees_only(monkeypatch):
    """An LSTM's training starts a process of two seconds; the walk is the same with two members."""
    monkeypatch.setattr(fitting, "trainable", lambda: ("lgbm", "xgb"))


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    (root / "kstock.toml").write_text(TOML, encoding="utf-8")
    generate(DAYS, n_tickers=40, seed=7, signal=3.0).write(root / "sample")
    settings = Settings.load(root, environ={})
    with opened_run(settings, "test", at=AT) as at_work:
        ingest_files(at_work.warehouse, root / "sample", load_mapping(), settings=settings, run=at_work)
        bring_up_to_date(at_work.warehouse, settings, at_work)
    return root


@pytest.fixture(scope="module")
def walked_root(market, tmp_path_factory):
    """A root with one finished and stored backtest; tests ask it and change nothing."""
    root = copy_root(market, tmp_path_factory.mktemp("walked") / "root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "trainable", lambda: ("lgbm", "xgb"))
        walk_whole(Settings.load(root, environ={}))
    return root


@pytest.fixture
def root(market, tmp_path):
    return copy_root(market, tmp_path / "root")


@pytest.fixture
def settings(root):
    return Settings.load(root, environ={})


def walk_whole(settings, asked=ASKED, costs=Costs(), executor=None):  # noqa: B008  # frozen
    prepared = prepare(settings, asked, at=AT, note=lambda _: None)
    told = list(backtest_run.walked(prepared, executor or SerialExecutor(), threads=1))
    results = backtest_run.judged(settings, prepared, costs, note=lambda _: None)
    backtest_run.kept(settings, prepared, costs, results, at=AT, note=lambda _: None)
    return prepared, told


def arguments(settings, prepared, number=0):
    one = prepared.plan.refits[number]
    dates = {name: str(getattr(one, name)) for name in ("as_of", "first", "last")}
    own = {**prepared.plan.facts["settings"], "threads": 1}
    scratch = str(settings.root / "scratch")
    folders = {"material": str(prepared.material), "scratch": scratch}
    return {**folders, **dates, "settings": own, "tuned": {}, "n_fitted": one.n_fitted}


def built(settings, asked=ASKED):
    """Return a plan whose material is there and whose refits are still to do."""
    prepared = prepare(settings, asked, at=AT, note=lambda _: None)
    backtest_run.finish(prepared.building, prepared.material)
    return prepared


# The same as the nights


def test_a_backtest_says_of_a_session_what_its_night_published(trained_root):
    """The champion was retrained as of a past session and scored one after it: a backtest walks the same two steps."""
    days = sessions_between(LAST.replace(month=5), LAST)
    settings = Settings.load(trained_root, environ={})
    walk_whole(settings, Asked(since=days[-7], until=days[-3], folds="own"))
    rows = store_rows(
        trained_root,
        "SELECT p.ticker, p.lgbm, p.xgb, f.volatility, b.lgbm, b.xgb, b.volatility FROM prediction AS p"
        " JOIN floor_prediction AS f USING (as_of, ticker)"
        f" LEFT JOIN backtest_prediction AS b USING (as_of, ticker) WHERE p.as_of = '{days[-3]}'",
    )
    night, walked = (np.array([row[at : at + 3] for row in rows], dtype=np.float32) for at in (1, 4))
    assert len(rows) > 20
    np.testing.assert_array_equal(walked, night)


def test_the_inputs_that_refits_share_are_to_the_bit_what_a_retrain_builds(settings):
    prepared = built(settings)
    as_of = prepared.plan.refits[-1].as_of
    with Warehouse.read(settings) as warehouse:
        own = backtest_run_rows(warehouse.con, as_of)
    from kstock_batch.backtest.material import Material

    material = Material(prepared.material)
    with material.connected() as con:
        shared = material.learnt(con, as_of, n_sessions=150)
    np.testing.assert_array_equal(shared.ends, own.ends)
    np.testing.assert_array_equal(shared.inputs.rows(shared.ends), own.inputs.rows(own.ends))
    np.testing.assert_array_equal(shared.inputs.sequence, own.inputs.sequence)
    np.testing.assert_array_equal(shared.inputs.session, own.inputs.session)


def backtest_run_rows(con, as_of):
    from kstock_batch.training.dataset import labelled_rows

    return labelled_rows(con, as_of, n_sessions=150)


# Nothing a night could not know


def test_what_came_later_changes_nothing_that_a_refit_learns(settings):
    prepared = built(settings)
    given = arguments(settings, prepared)
    _, before = refit(**given)
    as_of = prepared.plan.refits[0].as_of
    for table, known in (("label_daily", "known_on"), ("feature_daily", "as_of")):
        path = prepared.material / f"{table}.parquet"
        rows = pl.read_parquet(path)
        numbers = [name for name in ("label_5d", "forward_return", "atr_pct", "bb_bandwidth") if name in rows.columns]
        later = pl.col(known) > as_of
        spoilt = {name: pl.when(later).then(0).otherwise(name).cast(rows.schema[name]) for name in numbers}
        rows.with_columns(**spoilt).write_parquet(path)
    _, after = refit(**given)
    learnt = [name for name in before if name != SAID]
    assert {"lgbm.txt", "xgb.ubj", "out_of_fold.parquet"} <= set(learnt)
    for name in learnt:
        assert after[name] == before[name], name


def test_outcomes_that_claim_to_be_known_too_early_are_refused(settings):
    prepared = built(settings)
    path = prepared.material / "label_daily.parquet"
    rows = pl.read_parquet(path).with_columns(known_on=pl.col("as_of"))
    rows.write_parquet(path)
    with pytest.raises(AuditFailed) as refused:
        refit(**arguments(settings, prepared))
    as_of = prepared.plan.refits[0].as_of
    assert f"the refit as-of {as_of} would learn the outcome of {as_of}, which is known 5 sessions later" in str(
        refused.value
    )


def test_a_session_that_the_night_has_seen_is_not_scored(settings):
    prepared = built(settings)
    given = arguments(settings, prepared)
    with pytest.raises(AuditFailed, match=f"would score {given['as_of']}, which its night has seen"):
        refit(**{**given, "first": given["as_of"]})


def test_labels_dealt_at_random_are_ranked_no_better_than_by_chance_and_true_ones_are(settings):
    prepared = built(settings)
    given = {**arguments(settings, prepared), "last": str(LAST)}
    path = prepared.material / "label_daily.parquet"
    rows = pl.read_parquet(path).sort("as_of", "ticker")

    def auc(labels):
        labels.write_parquet(path)
        said = pl.read_parquet(refit(**given)[1][SAID]).join(labels, on=["ticker", "as_of"], how="inner")
        session = said["as_of"].to_physical().cast(pl.Int64).to_numpy()
        p, y = (said[name].cast(pl.Float64).to_numpy() for name in ("margin_lgbm", "label_5d"))
        return auc_by_session(p, y, session)

    # Each session's by a draw of its own: the same draw every day would be a fact of the tickers, and be learnt.
    drawn = pl.Series("drawn", np.random.default_rng(5).random(rows.height))
    dealt = rows.with_columns(drawn).sort("as_of", "drawn")["label_5d"]
    assert auc(rows) > 0.57
    assert abs(auc(rows.with_columns(dealt)) - 0.5) < 0.04


def test_calibration_learns_of_earlier_refits_only_what_its_night_knew(settings):
    own = replace(settings, validation_share=0.36)
    prepared, _ = walk_whole(own, replace(ASKED, since=date(2024, 4, 1), refit="2024-05-31"))
    number = len(prepared.plan.refits) - 1
    last = prepared.plan.refits[number]
    assert last.n_fitted == 1, "the second fold's block is what earlier refits scored"
    with Warehouse.read(settings) as warehouse:
        labels = Query.load("backtest/outcome").frame(warehouse.con, start=DAYS[0], end=DAYS[-1])
    proven = proven_by(prepared.plan, prepared.folder, own, number, labels)
    assert set(np.unique(proven.oof.fold)) == {0, 1}
    known = labels.filter(pl.col("known_on") <= last.as_of)["as_of"].max()
    sessions = prepared.folder.facts(last)["sessions"]
    assert date.fromisoformat(sessions[int(proven.oof.session.max())]) == known
    in_may = pl.when(pl.col("as_of") > date(2024, 5, 10)).then(LAST)
    later = labels.with_columns(known_on=in_may.otherwise("known_on"))
    fewer = proven_by(prepared.plan, prepared.folder, own, number, later)
    assert len(fewer.oof.y) < len(proven.oof.y), "an outcome that is not known yet teaches nothing"


# Going on


class Counted(SerialExecutor):
    """Runs jobs, counts them, and stops after some of them as Ctrl-C would."""

    def __init__(self, stop_after=99):
        super().__init__()
        self.keys, self._stop_after = [], stop_after

    def finished(self):
        for one in super().finished():
            self.keys.append(one.key)
            yield one
            if len(self.keys) == self._stop_after:
                raise KeyboardInterrupt


def test_a_walk_that_was_stopped_goes_on_and_comes_to_what_an_undisturbed_one_comes_to(settings, walked_root):
    first, second = Counted(stop_after=2), Counted()
    with pytest.raises(KeyboardInterrupt):
        walk_whole(settings, executor=first)
    prepared, told = walk_whole(settings, executor=second)
    assert len(first.keys) == 2 and len(second.keys) == 1
    assert sorted(first.keys + second.keys) == [one.key for one in prepared.plan.refits]
    assert told[-1].sentence.startswith("refit 3 of 3, as-of ")
    assert metrics(settings.root) == metrics(walked_root)
    assert not prepared.material.exists(), "what no refit needs any more is gone"
    third = Counted()
    walk_whole(settings, executor=third)
    assert third.keys == [], "a finished walk trains nothing"
    assert metrics(settings.root) == metrics(walked_root), "and stores nothing twice"


def metrics(root):
    return store_rows(root, "SELECT * FROM backtest_metric ORDER BY ALL")


KILLED = """
import os, signal, sys
from datetime import date, datetime
from pathlib import Path
sys.path.insert(0, {tests!r})
from kstock_batch.training import fitting
fitting.trainable = lambda: ("lgbm", "xgb")
from kstock_batch.backtest import material, run, stored, walk
from kstock_batch.settings import Settings
import test_backtest

place, name, number = {at!r}
module = {{"material": material, "run": run, "stored": stored, "walk": walk}}[place]
before, calls = getattr(module, name), []

def killed(*args, **kwargs):
    calls.append(1)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return before(*args, **kwargs)

setattr(module, name, killed)
test_backtest.walk_whole(Settings.load(Path({root!r}), environ={{}}))
"""


@pytest.mark.parametrize(
    "at",
    [
        ("material", "_build_arrays", 1),  # exported, nothing built
        ("walk", "fsync", 14),  # the second refit's
        ("stored", "insert_rows", 4),  # in the transaction that stores the results
    ],
    ids=lambda at: " ".join(map(str, at)),
)
def test_a_walk_that_is_killed_goes_on_where_it_was(settings, walked_root, at):
    script = KILLED.format(tests=str(Path(__file__).parent), at=at, root=str(settings.root))
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    ended = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    folder = next(iter((settings.warehouse / "backtest").glob("2024*")), None)
    kept = {path.parent.name for path in folder.glob("refits/20*/facts.json")} if folder else set()
    assert store_rows(settings.root, "SELECT count(*) FROM backtest_prediction") == [(0,)]
    counted = Counted()
    prepared, _ = walk_whole(settings, executor=counted)
    assert set(counted.keys) == {one.key for one in prepared.plan.refits} - kept
    assert metrics(settings.root) == metrics(walked_root)
    assert not list(settings.warehouse.glob("backtest/**/.building-*")), "nothing is left lying about"


def test_another_setting_is_another_backtest_and_other_costs_are_not(settings):
    with Warehouse.read(settings) as warehouse:
        name = planned(warehouse.con, settings, ASKED).plan.backtest_id
        assert planned(warehouse.con, replace(settings, threads=2), ASKED).plan.backtest_id == name
        others = [
            planned(warehouse.con, replace(settings, tree_rounds=9), ASKED),
            planned(warehouse.con, replace(settings, seed=1), ASKED),
            planned(warehouse.con, settings, replace(ASKED, folds="own")),
            planned(warehouse.con, settings, replace(ASKED, refit="2024-05-10")),
        ]
    with Warehouse.open(settings) as warehouse:
        warehouse.con.execute("UPDATE feature_daily SET rsi = rsi + 1 WHERE as_of = '2024-03-04'")
        others.append(planned(warehouse.con, settings, ASKED))
    assert len({name, *(other.plan.backtest_id for other in others)}) == 6


def test_the_store_is_free_while_refits_run(settings):
    prepared = prepare(settings, ASKED, at=AT, note=lambda _: None)
    n_written = 0
    for _ in backtest_run.walked(prepared, SerialExecutor(), threads=1):
        with opened_run(settings, "night", at=AT):
            n_written += 1
    assert n_written == 3


def test_a_store_that_is_being_written_is_waited_for_and_named_after_half_an_hour(settings, monkeypatch):
    told = []
    monkeypatch.setattr("kstock_batch.store.lock._PAUSES", ())
    monkeypatch.setattr(backtest_run, "PATIENCE_S", 0.0)
    with Warehouse.open(settings), pytest.raises(WarehouseLocked) as error:
        prepare(settings, ASKED, at=AT, note=told.append)
    assert error.value.fix == "run the same command again: what is finished is kept"
    monkeypatch.setattr(backtest_run, "PATIENCE_S", 60.0)
    warehouse = Warehouse.open(settings)
    monkeypatch.setattr(backtest_run, "sleep", lambda _: warehouse.__exit__(None, None, None))
    prepare(settings, ASKED, at=AT, note=told.append)
    assert [sentence.partition(":")[0] for sentence in told] == ["waiting"]


def test_a_second_backtest_of_the_root_is_turned_away_and_what_others_left_is_cleared(settings, monkeypatch):
    monkeypatch.setattr("kstock_batch.store.lock._PAUSES", ())
    left = settings.warehouse / "backtest" / "rows-abandoned"
    left.mkdir(parents=True)
    with backtest_run.only_one(settings):
        refused = sentence(run(settings.root, "backtest", "--from", "2024-04-15"))
    assert f"another backtest walks in {left.parent}, PID {os.getpid()} since " in refused
    built(settings)
    assert not left.exists()


# The plan


def history(n=400, known=True):
    days = sessions_between(date(2022, 1, 1), date(2024, 6, 28))[:n]
    return History(days, [(day, days[at + 5]) for at, day in enumerate(days[:-5])] if known else [])


def test_refits_are_the_nights_before_what_they_score_and_every_session_is_scored_once():
    asked = {"since": date(2023, 4, 1), "until": date(2023, 12, 31), "folds": "walk"}
    own = Settings(train_sessions=300, n_folds=2)
    days = history(480).sessions
    refits = refits_of(history(480), own, **asked, refit="quarterly")
    assert [str(one.as_of) for one in refits] == ["2023-03-31", "2023-06-30", "2023-09-27"]
    scored = [day for one in refits for day in days if one.first <= day <= one.last]
    assert scored == [day for day in days if day >= date(2023, 4, 1)][: len(scored)]
    assert scored[-1] == max(day for day in days if day <= date(2023, 12, 31))
    assert [one.n_fitted for one in refits] == [2, 1, 1], "what earlier refits have said need not be said again"
    assert {one.n_fitted for one in refits_of(history(480), own, **{**asked, "folds": "own"}, refit="monthly")} == {2}
    by_date = refits_of(history(480), own, **asked, refit="2023-06-30")
    assert [str(one.as_of) for one in by_date] == ["2023-03-31", "2023-06-30"]


def test_months_are_written_short_and_what_is_no_date_is_refused():
    assert (first_day("2021-01"), last_day("2024-12"), last_day("2024-02")) == (
        date(2021, 1, 1),
        date(2024, 12, 31),
        date(2024, 2, 29),
    )
    for wrong in ("2021-13", "soon", "2021-02-30"):
        with pytest.raises(ConfigError, match=f"'{wrong}' is no month or date"):
            first_day(wrong)


def test_too_short_a_past_says_when_a_backtest_can_begin():
    own = Settings(n_folds=2)
    with pytest.raises(NotEnoughHistory) as refused:
        refits_of(history(), own, since=date(2022, 6, 1), until=date(2023, 6, 1), refit="quarterly", folds="walk")
    assert "by 2022-05-31 the outcomes of 96 sessions were known, 240 are needed" in str(refused.value)
    begin = str(refused.value).split("--from ")[1].split(" ")[0]
    refits_of(history(), own, since=date.fromisoformat(begin), until=date(2023, 6, 1), refit="yearly", folds="walk")


def test_shorter_trainings_judge_by_blocks_that_are_long_enough():
    found = settings_of(Settings(), "train=6,48")
    assert [one.train_sessions for one in found] == [122, 980]
    assert found[1].validation_share == 0.2 and found[0].validation_share * 122 / 3 >= 20
    with pytest.raises(ConfigError, match="--compare 'seed=1' names nothing that can be compared"):
        settings_of(Settings(), "seed=1")


# The commands


def test_a_backtest_is_listed_shown_reported_compared_and_removed(walked_root, tmp_path):
    root = copy_root(walked_root, tmp_path / "root")
    listed = asked_json(root, "backtest", "list")
    name = listed[0]["backtest_id"]
    assert listed[0]["n_refits"] == 3 and listed[0]["train_sessions"] == 150
    assert done(root, "backtest", "show").stdout.splitlines()[-1].startswith(f"{name}: ")
    shown = asked_json(root, "backtest", "show", name[:20])
    assert {row["scope"] for row in shown["metrics"]} >= {"all", "2024", "trend up", "mood stormy"}
    assert len(shown["deciles"]) >= 30
    done(root, "backtest", "report", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4 and "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    against = asked_json(root, "backtest", "compare", name)
    assert {row["second"] for row in against} >= {"lgbm", "xgb", "uncalibrated", "volatility", "linear"}
    assert done(root, "backtest", "remove", name).stdout.strip() == f"removed {name}"
    assert "no backtest is stored" in sentence(run(root, "backtest", "show"))
    assert not (Settings(root=root).warehouse / "backtest" / name).exists()


def test_the_command_walks_tells_and_plans(settings, monkeypatch):
    monkeypatch.chdir(settings.root)
    plan = ("backtest", "--from", "2024-04-15", "--refit", "2024-05-31")
    told = asked_json(settings.root, *plan, "--dry-run")[0]
    assert len(told["refits"]) == 2 and told["n_waiting"] == 2 and told["disk_mb"] > 0
    result = done(settings.root, *plan, "--workers", 1)
    assert "refit 2 of 2, as-of " in result.stderr
    assert result.stdout.splitlines()[-1].startswith(told["backtest_id"])
    assert "say which sessions to score" in run(settings.root, "backtest").stderr
    shutil.rmtree(settings.warehouse / "backtest")


def test_no_refit_is_cut_short_and_one_that_fails_fails_the_walk(settings):
    prepared = built(replace(settings, budget_minutes=0.0001))
    assert prepared.plan.facts["settings"]["budget_minutes"] == 0
    assert refit(**arguments(settings, prepared))[0]["over_budget"] == []
    path = prepared.material / "label_daily.parquet"
    rows = pl.read_parquet(path)
    early = pl.when(pl.col("as_of") <= prepared.plan.refits[1].as_of).then(pl.col("as_of")).otherwise("known_on")
    rows.with_columns(known_on=early).write_parquet(path)
    with pytest.raises(AuditFailed, match="would learn the outcome of"):
        list(backtest_run.walked(replace(prepared, building=None), SerialExecutor(), threads=1))
