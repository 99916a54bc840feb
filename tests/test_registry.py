"""Model versions: named by what they hold, never half, refused when they are not what was saved."""

from __future__ import annotations

import errno
import json
import os
from datetime import datetime, timedelta

import pytest

from factories import edit_json, flip_byte
from kstock_batch.errors import DiskFull, ModelRefused, NoChampion
from kstock_batch.registry import Registry, require_fingerprint, require_intact

NOON = datetime(2024, 6, 28, 3)
FACTS = {
    "as_of": "2024-06-28",
    "fingerprint": "abc",
    "members": {"lgbm": {}},
    "training": {"first_session": "2024-01-02", "last_session": "2024-06-21", "n_rows": 10},
    "metrics": {"blend": {"auc": 0.5712345678901234, "auc_day": 0.56, "brier_skill_pct": 1.0}},
}


def write(text):
    return lambda folder: (folder / "lgbm.txt").write_text(text, encoding="utf-8")


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "models")


@pytest.fixture
def version(registry):
    added = registry.add(NOON, FACTS, write("tree"))
    registry.promote(added.version, at=NOON)
    return added


def test_a_version_is_its_files_with_a_manifest_that_reads_back_equal(registry, version):
    found = registry.get(version.version)
    assert found == version
    assert found.manifest["metrics"] == FACTS["metrics"]
    assert list(found.manifest["files"]) == ["lgbm.txt"]
    assert found.version.startswith("20240628T030000Z-")
    require_intact(found)


def test_other_bytes_are_another_version(registry, version):
    assert registry.add(NOON, FACTS, write("other tree")).version != version.version


def test_the_same_bytes_in_the_same_second_are_the_same_version(registry, version):
    assert registry.add(NOON, FACTS, write("tree")) == version
    assert len(registry.versions()) == 1


def test_versions_are_listed_newest_first(registry, version):
    later = registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    assert [v.version for v in registry.versions()] == [later.version, version.version]


def test_the_champion_is_what_was_promoted_last_and_knows_whom_it_replaced(registry, version):
    later = registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    assert registry.champion() == version
    registry.promote(later.version, at=NOON)
    assert registry.champion() == later
    assert json.loads((registry.folder / "champion.json").read_text())["previous"] == version.version


def test_without_a_champion_one_is_told_to_train_one(registry):
    assert registry.champion_version() is None
    with pytest.raises(NoChampion, match=r"no model has been promoted(.|\n)*kstock-batch retrain"):
        registry.champion()


@pytest.mark.parametrize("at", [0, None, -1])
def test_a_flipped_byte_in_a_members_file_is_refused_with_both_digests(at, registry, version):
    flip_byte(version.folder / "lgbm.txt", at)
    with pytest.raises(ModelRefused, match=r"lgbm\.txt has digest \w{12}…, its manifest says \w{12}…"):
        require_intact(registry.champion())


def test_a_missing_members_file_is_named(registry, version):
    (version.folder / "lgbm.txt").unlink()
    with pytest.raises(ModelRefused, match=r"lgbm\.txt is missing"):
        require_intact(registry.champion())


def test_a_changed_number_in_the_manifest_is_refused(registry, version):
    edit_json(version.folder / "manifest.json", lambda m: m["metrics"]["blend"].update(auc=0.6))
    with pytest.raises(ModelRefused, match=r"manifest\.json was changed"):
        require_intact(registry.champion())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "{}", '{"version": "x"}'])
def test_a_manifest_that_is_none_is_said_to_be_damaged(text, registry, version):
    (version.folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelRefused, match=r"manifest\.json is damaged"):
        registry.champion()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}"])
def test_a_damaged_pointer_is_mended_by_promoting_as_its_error_says(text, registry, version):
    (registry.folder / "champion.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelRefused, match=r"champion\.json is damaged(.|\n)*models promote"):
        registry.champion()
    registry.promote(version.version, at=NOON)
    assert registry.champion() == version


def test_a_champion_that_was_deleted_is_mended_by_promoting_another(registry, version):
    other = registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    for path in version.folder.iterdir():
        path.unlink()
    version.folder.rmdir()
    with pytest.raises(ModelRefused, match="there is no model version"):
        registry.champion()
    assert registry.promote(other.version, at=NOON) == other


def test_a_damaged_version_cannot_be_promoted_and_the_champion_stays(registry, version):
    other = registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    flip_byte(other.folder / "lgbm.txt")
    with pytest.raises(ModelRefused):
        registry.promote(other.version, at=NOON)
    assert registry.champion() == version


@pytest.mark.parametrize("name", ["../models", "", ".", "20240628T030000Z-000000", "/etc"])
def test_a_name_that_is_no_version_leads_nowhere(name, registry, version):
    with pytest.raises(ModelRefused, match="there is no model version") as caught:
        registry.get(name)
    assert version.version in str(caught.value)


def test_a_model_of_other_features_is_refused_with_both_fingerprints(version):
    with pytest.raises(ModelRefused, match="trained on feature fingerprint abc, the store has def"):
        require_fingerprint(version, "def")


def test_a_training_that_fails_leaves_no_version_and_no_folder(registry, version):
    def fail(folder):
        (folder / "lgbm.txt").write_text("half", encoding="utf-8")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(DiskFull):
        registry.add(NOON, FACTS, fail)
    assert sorted(os.listdir(registry.folder)) == sorted([version.version, "champion.json"])


def test_what_a_killed_training_left_is_neither_listed_nor_kept(registry, version):
    left = registry.folder / ".building-20240101T000000Z"
    left.mkdir()
    (left / "lgbm.txt").write_text("half", encoding="utf-8")
    assert registry.versions() == [version]
    registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    assert not left.exists()
