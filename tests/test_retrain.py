"""Retrain on sample markets: it finds the hidden signal, nothing where there is none, and never a worse champion."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from factories import LAST, asked_json, done, run, sessions_between
from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.judging.metrics import auc_by_session, brier, log_loss
from kstock_batch.learners.boosting import BoostingRecipe
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.market.contract import HORIZON
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.registry import ModelVersion, Registry, require_intact
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.training.budget import Budget
from kstock_batch.training.dataset import labelled_rows
from kstock_batch.training.gate import Check, Verdict
from kstock_batch.training.retrain import Retrained, refusal_of, retrain
from kstock_batch.training.splits import last_folds

SESSIONS = krx_sessions(date(2023, 1, 2), date(2026, 4, 30))
NIGHT = datetime(2026, 5, 2)


def market_root(root, *, n_tickers, n_sessions, signal, **given):
    generate(SESSIONS[-n_sessions:], n_tickers=n_tickers, seed=11, signal=signal).write(root / "sample")
    settings = Settings.load(root, environ={}, threads=1, **given)
    with opened_run(settings, "test", at=datetime(2026, 5, 1)) as run:
        ingest_files(run.warehouse, root / "sample", load_mapping(), settings=settings, run=run)
        bring_up_to_date(run.warehouse, settings, run)
    return settings


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    shape = {"n_tickers": 120, "n_sessions": 280, "signal": 4.0}  # enough for the gate to let a good model pass
    return market_root(
        root, **shape, train_sessions=150, validation_share=0.4, n_folds=2, tree_rounds=20, tree_stride=1
    )


TRAINABLE = "kstock_batch.training.fitting.trainable"


def trees() -> tuple[str, ...]:
    """The members to train: the LSTM's process costs seconds."""
    return ("lgbm", "xgb")


@pytest.fixture
def small(market, monkeypatch):
    """The market without any model."""
    monkeypatch.setattr(TRAINABLE, trees)
    shutil.rmtree(market.models, ignore_errors=True)
    return market


@pytest.fixture(scope="module")
def _served(market, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TRAINABLE, trees)
        shutil.rmtree(market.models, ignore_errors=True)
        trained(market)
    return shutil.move(market.models, tmp_path_factory.mktemp("models") / "models")


@pytest.fixture
def served(small, _served) -> ModelVersion:
    """The market's champion, trained as ``trained`` does."""
    shutil.copytree(_served, small.models)
    return Registry(small.models).champion()


def trained(settings: Settings, at: datetime = NIGHT, as_of: date = SESSIONS[-1]) -> Retrained:
    with opened_run(settings, "retrain", at=at) as run:
        return retrain(run.warehouse, settings, run, as_of)


def volatility_matched_auc(rows, p, windows):
    """Return the mean AUC within session and volatility bin: what is left when volatility is taken away."""
    keys = rows.keys[windows].with_columns(p=p, y=rows.label[windows], session=rows.position[windows])
    bin_of = (pl.col("atr_pct").rank("ordinal") * 20 / (pl.len() + 1)).floor().over("session")
    keys = keys.with_columns(group=pl.col("session") * 100 + bin_of.cast(pl.Int64))
    arrays = (keys[name].to_numpy() for name in ("p", "y", "group"))
    return auc_by_session(*arrays)


@pytest.mark.parametrize(("signal", "low", "high"), [(2.0, 0.57, 0.65), (0.0, 0.47, 0.535)])
def test_a_learner_finds_the_hidden_signal_and_finds_nothing_where_there_is_none(tmp_path, signal, low, high):
    settings = market_root(tmp_path, n_tickers=160, n_sessions=420, signal=signal)
    with opened_run(settings, "test", at=NIGHT) as run:
        rows = labelled_rows(run.warehouse.con, SESSIONS[-1], n_sessions=320)
    (fold,) = last_folds(len(rows.sessions), n_folds=1, validation_share=0.4, horizon=HORIZON)
    later = rows.chosen(fold.test)
    recipe = BoostingRecipe(60, seed=1, threads=1, parameters={"learning_rate": 0.05})
    member = LgbmMember.fit(rows.examples(rows.chosen(fold.train), tree_stride=5), recipe)
    found = volatility_matched_auc(rows, member.predict(rows.inputs, rows.ends[later]), later)
    assert low < found < high


def test_rows_stop_at_the_night_they_are_read_for(small):
    as_of = SESSIONS[-40]
    with opened_run(small, "test", at=NIGHT) as run:
        rows = labelled_rows(run.warehouse.con, as_of, n_sessions=100)
        known = run.warehouse.con.execute(
            "SELECT max(known_on), max(as_of) FROM label_daily WHERE as_of <= $day", {"day": rows.sessions[-1]}
        ).fetchall()[0]
    assert known == (as_of, SESSIONS[-45]), "the newest outcome is the one that became known that very night"
    assert rows.sessions[-1] == SESSIONS[-45]
    assert rows.bars.frame["as_of"].max() == SESSIONS[-45]


# What is stored: the version of the shared root, which a command trained with all three members


@pytest.fixture
def champion(trained_root) -> ModelVersion:
    return Registry(Settings(root=trained_root).models).champion()


def test_a_version_holds_its_members_and_what_was_judged(champion):
    manifest = json.loads((champion.folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["judged.parquet", "lgbm.txt", "lstm.safetensors", "xgb.ubj"]
    assert list(manifest["members"]) == ["lgbm", "xgb", "lstm"]
    assert set(manifest["metrics"]) == {*manifest["members"], "pair", "blend", "volatility", "linear", "base_rate"}
    assert manifest["level"] == "xgb"
    assert manifest["gate"]["passed"] is True
    assert sum(manifest["weights"].values()) == pytest.approx(1)
    assert manifest["over_budget"] == []


def test_every_fold_is_judged_six_sessions_after_what_it_learnt_from(champion):
    days = sessions_between(date(2023, 6, 1), LAST)
    folds = champion.manifest["folds"]
    assert len(folds) == 2
    for fold in folds:
        last, first = (
            date.fromisoformat(fold[part][key]) for part, key in (("train", "last_session"), ("test", "first_session"))
        )
        assert days.index(first) - days.index(last) == HORIZON + 1, "five sessions of labels lie between"
    assert folds[0]["test"]["last_session"] < folds[1]["test"]["first_session"]
    assert folds[1]["test"]["last_session"] == champion.manifest["training"]["last_session"]


def test_the_stated_metrics_are_those_of_the_stored_out_of_fold_probabilities(champion):
    judged = pl.read_parquet(champion.folder / "judged.parquet")
    y, session = judged["label_5d"].cast(pl.Float64).to_numpy(), judged["as_of"].to_physical().to_numpy()
    for name, stated in champion.manifest["metrics"].items():
        p = judged["base" if name == "base_rate" else name].to_numpy()
        found = {"brier": brier(p, y), "log_loss": log_loss(p, y), "auc_day": auc_by_session(p, y, session)}
        assert {key: stated[key] for key in found} == pytest.approx(found, abs=1e-9), name
    span = champion.manifest["judged"]
    assert (str(judged["as_of"].min()), str(judged["as_of"].max())) == (span["first_session"], span["last_session"])
    assert span["n_rows"] == judged.height == judged.select("ticker", "as_of").n_unique()


def test_each_fold_was_calibrated_on_the_other_so_the_final_calibrators_were_judged_by_nobody(champion):
    """The blend that is stated is not that of the calibrator that serves: it never saw its own outcomes."""
    judged = pl.read_parquet(champion.folder / "judged.parquet")
    means = judged.group_by("fold").agg(pl.col("blend").mean(), pl.col("label_5d").mean())
    assert means.height == 2
    assert (means["blend"] - means["label_5d"]).abs().min() > 1e-6


def test_a_version_can_be_shown(trained_root, champion):
    told = done(trained_root, "models", "show").stdout
    assert champion.manifest["judged"]["last_session"] in told
    assert champion.manifest["weights_are"][:40] in told
    assert asked_json(trained_root, "models", "show") == json.loads((champion.folder / "manifest.json").read_text())


# The same again


def test_the_same_data_and_seed_give_the_same_files_and_the_same_manifest_but_for_the_run(small, served):
    one = served
    (small.models / "champion.json").unlink()  # what it is compared with is part of what a version follows from
    other = trained(small, NIGHT.replace(hour=4)).version
    differing = {name for name in one.manifest if one.manifest[name] != other.manifest[name]}
    assert differing == {"version", "created_at", "run_id", "manifest_digest"}
    assert one.manifest["content_digest"] == other.manifest["content_digest"]
    for version in (one, other):
        require_intact(version)


def test_another_seed_gives_other_files_and_another_digest(small, served):
    one = served
    (small.models / "champion.json").unlink()
    other = trained(replace(small, seed=1), NIGHT.replace(hour=5)).version
    assert other.manifest["files"] != one.manifest["files"]
    assert other.manifest["content_digest"] != one.manifest["content_digest"]
    assert other.manifest["training"] == one.manifest["training"]


def test_what_happened_after_the_night_changes_nothing_in_the_model(small, tmp_path):
    """The whole retrain, as known then: a store that ends on that night gives the same version."""
    as_of = SESSIONS[-15]
    with_future = trained(small, as_of=as_of).version
    folder = tmp_path / "sample"
    folder.mkdir()
    for path in (small.root / "sample").glob("*.parquet"):
        frame = pl.read_parquet(path)
        day = next((name for name in ("available_from", "date") if name in frame.columns), None)
        (frame.filter(pl.col(day) <= as_of) if day else frame).write_parquet(folder / path.name)
    settings = replace(small, root=tmp_path)
    with opened_run(settings, "test", at=datetime(2026, 5, 1)) as run:
        ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run)
        bring_up_to_date(run.warehouse, settings, run)
    without_future = trained(settings, as_of=as_of).version
    assert without_future.manifest["training"] == with_future.manifest["training"]
    assert without_future.manifest["files"] == with_future.manifest["files"]
    assert without_future.manifest["content_digest"] == with_future.manifest["content_digest"]


# Who serves


def refusing(rows: object) -> Verdict:
    return Verdict((Check("planted", 1.0, 0.0, False, "it was refused by the test"),))


def test_a_refused_challenger_is_kept_and_the_champion_stays(small, served, monkeypatch):
    registry, champion = Registry(small.models), served.version
    assert registry.champion_version() == champion
    monkeypatch.setattr("kstock_batch.training.retrain.judge_challenger", refusing)
    challenger = trained(small, NIGHT.replace(hour=7))
    assert "was stored but not promoted: it was refused by the test" in str(challenger.refusal)
    assert challenger.version.manifest["gate"]["passed"] is False
    assert registry.champion_version() == champion
    assert [version.version for version in registry.versions()] == [challenger.version.version, champion]
    require_intact(challenger.version)


def test_a_retrain_that_is_refused_exits_with_fifteen_and_names_the_version(small, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.retrain.judge_challenger", refusing)
    (small.root / "kstock.toml").write_text(
        "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 20\ntree_stride = 1\nthreads = 1\n"
    )
    refused = run(small.root, "retrain", "--as-of", SESSIONS[-1])
    assert refused.exit_code == 15
    (stored,) = Registry(small.models).versions()
    assert f"error: {stored.version} was stored but not promoted: it was refused by the test" in refused.stderr
    assert refused.stderr.count("warning: lstm cannot be trained") == 1, "said even so, and once"
    newest = asked_json(small.root, "status")["runs"][0]
    assert (newest["command"], newest["status"]) == ("retrain", "refused")
    alerts = json.loads(run(small.root, "check", "--json").stdout)["alerts"]
    assert [alert["name"] for alert in alerts] == ["publication", "champion"]
    assert alerts[1]["fix"].endswith(f"VERSION` with one of ['{stored.version}'] that its gate let pass")
    assert Registry(small.models).champion_version() is None


@pytest.mark.parametrize("passed", [True, False])
def test_a_refusal_says_why_and_what_passes_is_not_refused(passed):
    version = ModelVersion("20260502T080000Z-abcdef", Settings().models, {})
    refusal = refusal_of(version, Verdict((Check("one", 1.0, 2.0, passed, "it is 1 worse"),)))
    assert (refusal is None) is passed
    assert passed or "20260502T080000Z-abcdef was stored but not promoted: it is 1 worse" in str(refusal)


def test_a_second_challenger_is_compared_with_the_champion_on_what_its_folds_said(small, served):
    """Trained anew on the same rows it ties with the champion on every one of them, and may replace it."""
    challenger = trained(small, NIGHT.replace(hour=8))
    first = {check["name"]: check["sentence"] for check in served.manifest["gate"]["checks"]}
    assert "no champion to compare with" in first["champion"]
    checks = {check.name: check for check in challenger.verdict.checks}
    assert checks["champion_log_loss"].value == pytest.approx(0, abs=1e-12)
    assert challenger.version.manifest["metrics"]["champion"] == challenger.version.manifest["metrics"]["blend"]
    assert challenger.refusal is None


def test_too_little_history_is_refused_before_anything_is_trained(small, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.retrain.Fitter", lambda *_: pytest.fail("a member was trained"))
    with pytest.raises(NotEnoughHistory, match="sessions with known outcomes"):
        trained(small, as_of=SESSIONS[-280 + 110])
    assert Registry(small.models).versions() == []


# Time and trouble


def test_a_retrain_whose_time_is_up_stores_what_it_has_and_says_which_parts_were_cut(small, monkeypatch):
    monkeypatch.setattr(Budget, "take", lambda self, cost: 0.0)
    cut = trained(small)
    assert cut.version.manifest["over_budget"] == ["lgbm", "xgb"]
    assert {facts["card"]["rounds"] for facts in cut.version.manifest["members"].values()} == {1}
    assert cut.warnings[-1].startswith("2 fits (lgbm, xgb) were stopped at the best so far")
    assert "budget_minutes = 30" in cut.warnings[-1]
    require_intact(cut.version)


def test_the_budget_hands_on_what_a_part_did_not_need():
    now = [0.0]
    budget = Budget(100.0, cost=4.0, clock=lambda: now[0])
    assert budget.take(1.0) == pytest.approx(25)
    now[0] = 10.0  # it needed ten
    assert budget.take(1.0) == pytest.approx(30)
    now[0] = 200.0
    assert budget.take(2.0) == 1.0, "never nothing at all"
    budget.note("lgbm", "rounds")
    budget.note("xgb", "budget")
    assert budget.overrun == ["xgb"]
    assert Budget(None, cost=1.0).take(1.0) is None


KILLED = """
import os, signal, sys
from kstock_batch.learners.xgb import XgbMember
from kstock_batch.registry import Registry
from kstock_batch.training import fitting

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

fitting.trainable = lambda: ("lgbm", "xgb")
kind, name = {"half written": (XgbMember, "save"), "not yet promoted": (Registry, "promote")}[sys.argv[1]]
setattr(kind, name, die)
from kstock_batch.cli.app import cli
cli(sys.argv[2:])
"""


@pytest.mark.parametrize("moment", ["half written", "not yet promoted"])
def test_a_killed_retrain_leaves_the_champion_and_no_half_version(small, served, moment):
    champion = served.version
    (small.root / "kstock.toml").write_text(
        "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 20\ntree_stride = 1\nthreads = 1\n"
    )
    command = [sys.executable, "-c", KILLED, moment, "--root", str(small.root), "retrain", "--as-of", str(SESSIONS[-1])]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    registry = Registry(small.models)
    assert registry.champion_version() == champion
    assert registry.damaged() == {}
    for version in registry.versions():
        require_intact(version)
    assert len(registry.versions()) == (1 if moment == "half written" else 2)
    if moment == "half written":
        assert len(list(small.models.glob(".building-*"))) == 1
        again = trained(small, NIGHT.replace(hour=9))
        assert registry.champion_version() == again.version.version
        assert list(small.models.glob(".building-*")) == [], "the next retrain clears what was left"
