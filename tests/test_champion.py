"""What the champion says of a challenger's sessions: its folds' word before its night, its own after, or nothing."""

import hashlib
import json
import logging
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import polars as pl
import pytest

from factories import LAST, edit_json, flip_byte
from kstock_batch.champion import Champion
from kstock_batch.errors import ModelRefused, NoMemberScored
from kstock_batch.learners.members import MEMBER_NAMES, member_class
from kstock_batch.market.contract import HORIZON
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.training.champion import champion_probabilities
from kstock_batch.training.dataset import LabelledRows, labelled_rows


@pytest.fixture(scope="module")
def rows(_trained) -> LabelledRows:
    """What is known on the newest session: some days more than the champion knew."""
    with opened_run(Settings(root=_trained), "test", at=datetime(2024, 7, 1)) as run:
        return labelled_rows(run.warehouse.con, LAST, n_sessions=150)


@pytest.fixture
def registry(trained_root) -> Registry:
    return Registry(trained_root / "models")


def compared(registry: Registry, rows: LabelledRows) -> pl.DataFrame:
    """Return ticker, as_of and what the champion says of every window."""
    said = champion_probabilities(registry, rows, np.arange(len(rows.ends)))
    assert said is not None
    return rows.keys.select("ticker", "as_of", champion=pl.Series(said))


def as_of(version: ModelVersion) -> date:
    return date.fromisoformat(version.manifest["as_of"])


def test_before_its_night_it_says_what_its_folds_said_and_nothing_of_what_it_learnt_from(registry, rows):
    champion = registry.champion()
    judged = pl.read_parquet(champion.folder / "judged.parquet", columns=["ticker", "as_of", "blend"])
    past = compared(registry, rows).filter(pl.col("as_of") < as_of(champion))
    joined = past.join(judged, on=["ticker", "as_of"], how="left")
    known = joined["blend"].is_not_null()
    assert 0 < known.sum() < joined.height
    assert joined.filter(known)["champion"].equals(joined.filter(known)["blend"])
    assert joined.filter(~known)["champion"].is_nan().all(), "there it has seen the outcomes: it has no honest opinion"


def test_from_its_night_on_it_says_itself_what_it_says(registry, rows):
    champion = Champion.load(registry.champion())
    seen = compared(registry, rows)
    later = np.flatnonzero((seen["as_of"] >= as_of(champion.version)).to_numpy())
    nights = seen["as_of"][later].unique().sort()
    assert len(nights) == 2 and nights[0] == as_of(champion.version)
    for night in nights:  # each as on the night itself, whose level is that of its own stocks
        here = np.flatnonzero((seen["as_of"] == night).to_numpy())
        alone = champion.predict(rows.inputs, rows.ends[here])[1]
        np.testing.assert_allclose(seen["champion"].to_numpy()[here], alone, rtol=1e-12)


def test_of_sessions_whose_labels_reach_into_its_night_nobody_says_anything(registry, rows):
    """They were too new for its folds to judge and lie before its night."""
    champion, seen = registry.champion(), compared(registry, rows)
    judged_to = date.fromisoformat(champion.manifest["judged"]["last_session"])
    between = seen.filter((pl.col("as_of") > judged_to) & (pl.col("as_of") < as_of(champion)))
    assert between["as_of"].n_unique() == HORIZON - 1
    assert between["champion"].is_nan().all()


def test_a_champion_without_judged_rows_has_no_opinion_of_the_past(registry, rows, monkeypatch):
    whole = Champion.load(registry.champion())

    def unjudged(version):
        kept = {name: digest for name, digest in version.manifest["files"].items() if name != "judged.parquet"}
        return replace(whole, version=replace(version, manifest={**version.manifest, "files": kept}))

    monkeypatch.setattr("kstock_batch.training.champion.Champion.load", unjudged)
    past = compared(registry, rows).filter(pl.col("as_of") < as_of(registry.champion()))
    assert past["champion"].is_nan().all()


def test_without_a_champion_there_is_nothing_to_compare_with(rows, tmp_path):
    assert champion_probabilities(Registry(tmp_path), rows, np.arange(5)) is None


@pytest.mark.parametrize("name", ["xgb.ubj", "judged.parquet", "champion.json"])
def test_a_damaged_champion_is_no_champion_and_the_log_says_why(registry, rows, caplog, name):
    version = registry.champion()
    flip_byte((registry.folder if name == "champion.json" else version.folder) / name, at=1)
    with caplog.at_level(logging.WARNING):
        assert champion_probabilities(registry, rows, np.arange(5)) is None
    (record,) = [r for r in caplog.records if r.name == "kstock_batch.training.champion"]
    assert record.getMessage().startswith("no champion to compare with: ")
    assert name in record.getMessage()


# Nothing is loaded that was not found to be what was saved


@pytest.mark.parametrize("name", ["lgbm.txt", "xgb.ubj", "lstm.safetensors", "judged.parquet", "manifest.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "crafted", "missing"])
def test_no_loader_opens_a_file_before_every_digest_was_found_right(registry, name, damage, monkeypatch):
    path = registry.champion().folder / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        flip_byte(path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"cos\nsystem\n(S'true'\ntR.")
    opened = spied(monkeypatch)
    with pytest.raises(ModelRefused):
        Champion.load(registry.champion())
    assert opened == []


def test_a_member_whose_file_the_manifest_does_not_state_is_not_loaded(registry, monkeypatch):
    def forge(manifest):
        del manifest["files"]["xgb.ubj"]
        facts = {name: value for name, value in manifest.items() if name != "manifest_digest"}
        manifest["manifest_digest"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    edit_json(registry.champion().folder / "manifest.json", forge)
    opened = spied(monkeypatch)
    with pytest.raises(ModelRefused, match=r"has no digest of \['xgb\.ubj'\]"):
        Champion.load(registry.champion())
    assert opened == []


def test_a_sound_champion_is_loaded_from_its_three_files(registry, monkeypatch):
    opened = spied(monkeypatch)
    Champion.load(registry.champion())
    assert opened == ["lgbm.txt", "xgb.ubj", "lstm.safetensors"]


def spied(monkeypatch) -> list[str]:
    """Return the files that members' loaders open from now on."""
    opened: list[str] = []
    for member in map(member_class, MEMBER_NAMES):
        load = member.load
        monkeypatch.setattr(member, "load", lambda at, m=member, f=load: (opened.append(m.file_name), f(at))[1])
    return opened


# Libraries that are absent


def test_a_champion_names_the_members_nobody_scores_and_one_that_is_whole_names_none(registry, monkeypatch):
    assert Champion.load(registry.champion()).warning is None
    monkeypatch.setattr("kstock_batch.learners.members.is_installed", lambda library: library != "xgboost")
    partial = Champion.load(registry.champion())
    assert list(partial.members) == ["lgbm", "lstm"]
    assert partial.warning == (
        "xgb cannot be scored, because xgboost is not installed here: the blend goes on with lgbm, lstm, weights"
        " scaled up"
    )


def test_a_champion_of_which_nothing_can_be_scored_is_refused(registry, monkeypatch):
    version = registry.champion()
    monkeypatch.setattr("kstock_batch.champion.scorable", lambda names: ())
    with pytest.raises(
        NoMemberScored, match=r"none of the members \['lgbm', 'xgb', 'lstm'\] of .* no library is there"
    ):
        Champion.load(version)
