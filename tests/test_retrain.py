"""Retrain on sample markets: it finds the hidden signal, finds nothing where there is none, and keeps time."""

import json
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import polars as pl
import pytest

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.training.dataset import labelled_rows
from kstock_batch.training.metrics import auc_by_session
from kstock_batch.training.retrain import retrain, why_not_promote
from kstock_batch.training.splits import last_blocks

SESSIONS = krx_sessions(date(2023, 1, 2), date(2026, 4, 30))


def market_root(root, *, n_tickers, n_sessions, signal, **given):
    generate(SESSIONS[-n_sessions:], n_tickers=n_tickers, seed=11, signal=signal).write(root / "sample")
    settings = Settings.load(root, environ={}, **given)
    with opened_run(settings, "test", at=datetime(2026, 5, 1)) as run:
        ingest_files(run.warehouse, root / "sample", load_mapping(), settings=settings, run=run)
        bring_up_to_date(run.warehouse, settings, run)
    return settings


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small")
    return market_root(
        root, n_tickers=40, n_sessions=330, signal=1.0, train_sessions=250, tree_rounds=10, lstm_epochs=1
    )


def trained(settings, at, as_of=SESSIONS[-1]):
    with opened_run(settings, "retrain", at=at) as run:
        return retrain(run.warehouse, settings, run, as_of)


def volatility_matched_auc(rows, p, windows):
    """Return the mean AUC within session and volatility bin: what is left when volatility is taken away."""
    keys = rows.keys[windows].with_columns(p=p, y=rows.label[windows], session=rows.position[windows])
    bin_of = (pl.col("atr_pct").rank("ordinal") * 20 / (pl.len() + 1)).floor().over("session")
    keys = keys.with_columns(group=pl.col("session") * 100 + bin_of.cast(pl.Int64))
    arrays = (keys[name].to_numpy() for name in ("p", "y", "group"))
    return auc_by_session(*arrays)


@pytest.mark.parametrize(("signal", "low", "high"), [(1.0, 0.535, 0.62), (0.0, 0.47, 0.525)])
def test_a_learner_finds_the_hidden_signal_and_finds_nothing_where_there_is_none(tmp_path, signal, low, high):
    settings = market_root(tmp_path, n_tickers=240, n_sessions=520, signal=signal)
    with opened_run(settings, "test", at=datetime(2026, 5, 2)) as run:
        rows = labelled_rows(run.warehouse.con, SESSIONS[-1], n_sessions=420)
    blocks = last_blocks(len(rows.sessions), validation_share=0.4, horizon=5)
    later = np.concatenate([rows.chosen(blocks.calibration), rows.chosen(blocks.judge)])
    member = LgbmMember.fit(rows.examples(rows.chosen(blocks.train), stride=5), rounds=150, seed=1, threads=2)
    found = volatility_matched_auc(rows, member.predict(rows.inputs, rows.ends[later]), later)
    assert low < found < high


def test_rows_stop_at_the_night_they_are_read_for(small):
    as_of = SESSIONS[-40]
    with opened_run(small, "test", at=datetime(2026, 5, 2)) as run:
        rows = labelled_rows(run.warehouse.con, as_of, n_sessions=200)
        known = run.warehouse.con.execute(
            "SELECT max(known_on), max(as_of) FROM label_daily WHERE as_of <= $day", {"day": rows.sessions[-1]}
        ).fetchall()[0]
    assert known == (as_of, SESSIONS[-45]), "the newest outcome is the one that became known that very night"
    assert rows.sessions[-1] == SESSIONS[-45]
    assert rows.bars.frame["as_of"].max() == SESSIONS[-45]


def test_a_retrain_stores_a_version_whose_manifest_says_how_it_came_about(small):
    done = trained(small, datetime(2026, 5, 2, 1))
    manifest = json.loads((done.version.folder / "manifest.json").read_text())
    assert sorted(manifest["files"]) == ["judged.parquet", "lgbm.txt", "lstm.safetensors", "xgb.ubj"]
    assert set(manifest["metrics"]) == {"lgbm", "xgb", "lstm", "blend", "base_rate"}
    assert manifest["seed"] == small.seed
    train, calibration, judge = (manifest["blocks"][name] for name in ("train", "calibration", "judge"))
    days = SESSIONS.index
    fold = [date.fromisoformat(block[key]) for block, key in ((train, "last_session"), (calibration, "first_session"))]
    assert days(fold[1]) - days(fold[0]) == 6, "five sessions between two blocks"
    fold = [date.fromisoformat(block[key]) for block, key in ((calibration, "last_session"), (judge, "first_session"))]
    assert days(fold[1]) - days(fold[0]) == 6


def test_the_stored_out_of_sample_probabilities_give_the_metrics_of_the_manifest(small):
    done = trained(small, datetime(2026, 5, 2, 2))
    judged = pl.read_parquet(done.version.folder / "judged.parquet")
    stated = done.version.manifest["metrics"]["blend"]["brier"]
    assert ((judged["blend"] - judged["label_5d"]) ** 2).mean() == pytest.approx(stated)
    first, last = (done.version.manifest["blocks"]["judge"][key] for key in ("first_session", "last_session"))
    assert (str(judged["as_of"].min()), str(judged["as_of"].max())) == (first, last)


def test_the_same_data_and_seed_give_the_same_files(small):
    one, two = trained(small, datetime(2026, 5, 2, 3)), trained(small, datetime(2026, 5, 2, 4))
    assert one.version.manifest["files"] == two.version.manifest["files"]
    assert one.version.manifest["training"] == two.version.manifest["training"]
    other = trained(replace(small, seed=1), datetime(2026, 5, 2, 5))
    assert other.version.manifest["files"] != one.version.manifest["files"]


def test_what_happened_after_the_night_changes_nothing_in_the_model(small, tmp_path):
    """The whole retrain, as known then: a store that ends on that night gives the same files."""
    as_of = SESSIONS[-30]
    with_future = trained(small, datetime(2026, 5, 2, 6), as_of)
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
    without_future = trained(settings, datetime(2026, 5, 2, 6), as_of)
    assert without_future.version.manifest["training"] == with_future.version.manifest["training"]
    assert without_future.version.manifest["files"] == with_future.version.manifest["files"]


def test_a_version_is_promoted_only_if_it_beats_the_base_rate_and_is_kept_either_way(small):
    registry = Registry(small.models)
    done = trained(small, datetime(2026, 5, 2, 7))
    metrics = done.version.manifest["metrics"]
    beats = metrics["blend"]["log_loss"] < metrics["base_rate"]["log_loss"]
    assert (done.refusal is None) is beats
    assert (registry.champion_version() == done.version.version) is beats
    assert done.version.version in [version.version for version in registry.versions()]


@pytest.mark.parametrize(("blend", "is_refused"), [(0.7, True), (0.6, True), (0.59, False)])
def test_a_refusal_names_both_losses(small, blend, is_refused):
    version = ModelVersion("20260502T080000Z-abcdef", small.models, {})
    metrics = {"blend": {"log_loss": blend}, "base_rate": {"log_loss": 0.6}}
    refusal = why_not_promote(replace(version, manifest={"metrics": metrics}))
    assert (refusal is not None) is is_refused
    assert refusal is None or f"{blend:.5f} out of sample is not below 0.60000" in str(refusal)


def test_too_little_history_is_refused_before_anything_is_trained(small):
    with pytest.raises(NotEnoughHistory, match="sessions with known outcomes"):
        trained(small, datetime(2026, 5, 2, 8), SESSIONS[-330 + 90])
