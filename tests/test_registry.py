"""Model versions: named by what they hold, never half, refused when they are not what was saved."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from datetime import datetime, timedelta

import pytest

from factories import edit_json, flip_byte
from kstock_batch.errors import DiskFull, ModelRefused, NoChampion
from kstock_batch.files import sha256
from kstock_batch.registry import Registry, require_fingerprint, require_intact, require_stated

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


# Rolling back and pruning


@pytest.fixture
def five(registry):
    """Five versions, promoted one after the other; oldest first."""
    names = [registry.add(NOON + timedelta(days=n), FACTS, write(f"tree {n}")).version for n in range(5)]
    for name in names:
        registry.promote(name, at=NOON)
    return names


def roll_back(registry, to=None):
    return registry.rollback(to, at=NOON, fingerprint="abc").version


def test_rolling_back_walks_further_back_and_never_to_and_fro(registry, five):
    assert [roll_back(registry) for _ in range(4)] == five[3::-1]
    assert registry.champion().version == five[0]
    with pytest.raises(ModelRefused, match=f"no predecessor of champion {five[0]} is left"):
        roll_back(registry)


def test_a_promotion_after_a_rollback_goes_on_from_there(registry, five):
    roll_back(registry)
    registry.promote(five[4], at=NOON)
    assert registry.pointer().history == (five[3], five[2], five[1], five[0])
    assert roll_back(registry) == five[3]


def test_promoting_the_champion_again_gives_it_no_predecessor_that_is_itself(registry, five):
    registry.promote(five[4], at=NOON)
    assert roll_back(registry) == five[3]


def test_one_may_roll_back_to_a_version_by_name_and_go_on_from_there(registry, five):
    other = registry.add(NOON + timedelta(days=2, hours=1), FACTS, write("never promoted")).version
    assert roll_back(registry, other) == other
    assert roll_back(registry) == five[2], "the newest that served before it was made"
    registry.promote(five[4], at=NOON)
    assert roll_back(registry, five[1]) == five[1]
    assert roll_back(registry) == five[0]


def test_rolling_back_passes_over_versions_that_were_deleted(registry, five):
    shutil.rmtree(registry.folder / five[3])
    assert roll_back(registry) == five[2]


def test_a_version_promoted_twice_stands_in_the_history_once(registry, five):
    registry.promote(five[1], at=NOON)
    assert registry.pointer().history == (five[4], five[3], five[2], five[0])


def test_a_pointer_without_a_history_knows_one_predecessor(registry, five):
    def as_before(pointer):
        del pointer["history"], pointer["rolled_back_from"]

    edit_json(registry.folder / "champion.json", as_before)
    assert roll_back(registry) == five[3]
    with pytest.raises(ModelRefused, match="no predecessor"):
        roll_back(registry)


def test_the_history_is_short(registry):
    for n in range(25):
        registry.promote(registry.add(NOON + timedelta(days=n), FACTS, write("tree")).version, at=NOON)
    assert len(registry.pointer().history) == 20


@pytest.mark.parametrize("break_it", [lambda folder: flip_byte(folder / "lgbm.txt"), None])
def test_a_version_that_could_not_serve_is_not_rolled_back_to_and_the_champion_stays(break_it, registry, five):
    if break_it:
        break_it(registry.folder / five[3])
    with pytest.raises(ModelRefused, match=r"not what was saved: lgbm\.txt" if break_it else "fingerprint abc"):
        registry.rollback(at=NOON, fingerprint="abc" if break_it else "other")
    assert registry.champion().version == five[4]
    if break_it:
        assert roll_back(registry, five[2]) == five[2], "one further back may still be named"


def test_a_damaged_champion_can_be_rolled_back_from(registry, five):
    (registry.folder / five[4] / "manifest.json").write_text("{")
    assert roll_back(registry) == five[3]


@pytest.mark.parametrize("to", ["20200101T000000Z-abcdef", "../models", "/etc"])
def test_what_is_no_version_is_not_rolled_back_to(to, registry, five):
    with pytest.raises(ModelRefused, match="there is no model version"):
        roll_back(registry, to)


def test_the_champion_is_not_rolled_back_to(registry, five):
    with pytest.raises(ModelRefused, match=f"{five[4]} is the champion already"):
        roll_back(registry, five[4])


def test_without_a_champion_there_is_nothing_to_roll_back(registry):
    with pytest.raises(NoChampion):
        roll_back(registry)


def prune(registry, keep):
    gone = registry.prunable(keep=keep, fingerprint="abc")
    registry.prune(gone)
    return gone


def test_pruning_keeps_the_newest_the_champion_and_a_predecessor_to_roll_back_to(registry, five):
    assert prune(registry, 1) == five[2::-1]
    assert [v.version for v in registry.versions()] == five[:2:-1]
    assert sorted(os.listdir(registry.folder)) == [*five[3:], "champion.json"]
    assert roll_back(registry) == five[3]


def test_pruning_keeps_an_old_champion_and_what_it_was_rolled_back_from(registry, five):
    roll_back(registry, five[1])
    later = [registry.add(NOON + timedelta(days=9 + n), FACTS, write("tree")).version for n in range(2)]
    assert prune(registry, 2) == [five[3], five[2]]
    assert [v.version for v in registry.versions()] == [*later[::-1], five[4], five[1], five[0]]


@pytest.mark.parametrize("damaged", [True, False])
def test_a_predecessor_that_could_not_serve_protects_the_next_one(damaged, registry, five):
    if damaged:
        flip_byte(registry.folder / five[3] / "lgbm.txt")
        assert prune(registry, 1) == [five[1], five[0]]
    else:
        assert registry.prunable(keep=1, fingerprint="other") == [], "none of them could be rolled back to"


def test_fewer_versions_than_are_to_be_kept_all_stay(registry, five):
    assert prune(registry, 5) == prune(registry, 9) == []
    (registry.folder / five[0] / "manifest.json").write_text("{")
    assert prune(registry, 5) == [], "a damaged one is no reason to keep fewer"


def test_versions_are_pruned_that_were_never_promoted(registry):
    names = [registry.add(NOON + timedelta(days=n), FACTS, write("tree")).version for n in range(3)]
    assert prune(registry, 2) == names[:1]


def test_nothing_is_pruned_while_it_is_unknown_which_version_serves(registry, five):
    (registry.folder / "champion.json").write_text("{")
    with pytest.raises(ModelRefused, match=r"champion\.json is damaged"):
        registry.prunable(keep=1, fingerprint="abc")


def test_a_version_is_whole_or_gone_while_it_is_deleted(registry, five, monkeypatch):
    """A prune killed while it deletes: the half version is hidden, and the next prune or retrain clears it."""
    seen = []

    def killed(folder, **_):
        seen.append([v.version for v in registry.versions()])
        (folder / "lgbm.txt").unlink()
        raise KeyboardInterrupt

    gone = registry.prunable(keep=3, fingerprint="abc")
    with monkeypatch.context() as patch:
        patch.setattr("kstock_batch.registry.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            registry.prune(gone)
    assert seen == [five[:1:-1]]
    assert registry.damaged() == {}
    prune(registry, 3)
    assert sorted(os.listdir(registry.folder)) == [*five[2:], "champion.json"]


# Nothing leads out of the folder


@pytest.mark.parametrize(
    "name",
    ["../{}", "./{}", "{}/", "{}/../{}", "{}\n", "{}\x00", " {}", "{}/manifest.json", "..", "~", "C:{}", "２{}"],
)
def test_a_name_that_is_nearly_a_versions_leads_nowhere(name, registry, version):
    odd = name.replace("{}", version.version)
    shutil.copytree(version.folder, registry.folder / f"{version.version}\n")  # what $ in a pattern would let pass
    assert ([found.version for found in registry.versions()], registry.damaged()) == ([version.version], {})
    for ask in (registry.get, lambda odd: registry.promote(odd, at=NOON)):
        with pytest.raises(ModelRefused, match="there is no model version"):
            ask(odd)
    edit_json(registry.folder / "champion.json", lambda pointer: pointer.update(version=odd, history=[odd]))
    with pytest.raises(ModelRefused, match="there is no model version"):
        registry.champion()
    with pytest.raises(ModelRefused, match="there is no model version"):
        roll_back(registry, odd + " ")


def test_a_version_that_is_a_link_is_refused_wherever_it_is_named(registry, version, tmp_path):
    outside = tmp_path / "outside"
    os.rename(version.folder, outside)
    version.folder.symlink_to(outside)
    for ask in (registry.champion, lambda: registry.promote(version.version, at=NOON)):
        with pytest.raises(ModelRefused, match=f"{version.version} is a link(.|\n)*move what it points to"):
            ask()
    assert registry.versions() == []
    assert list(registry.damaged()) == [version.version]


def test_a_linked_version_is_pruned_as_a_link_and_what_it_points_to_stays(registry, five, tmp_path):
    outside = tmp_path / "outside"
    os.rename(registry.folder / five[0], outside)
    (registry.folder / five[0]).symlink_to(outside)
    assert five[0] in prune(registry, 2)
    assert sorted(os.listdir(outside)) == ["lgbm.txt", "manifest.json"]
    assert sorted(os.listdir(registry.folder)) == [*five[3:], "champion.json"]


@pytest.mark.parametrize("name", ["lgbm.txt", "manifest.json"])
def test_a_file_of_a_version_that_is_a_link_is_refused(name, registry, version, tmp_path):
    outside = tmp_path / "outside"
    os.rename(version.folder / name, outside)
    (version.folder / name).symlink_to(outside)
    with pytest.raises(ModelRefused, match=r"manifest\.json is a link|'lgbm\.txt' is no file of its folder"):
        require_intact(registry.champion())


def resealed(version, change):
    """Change a manifest as somebody would who knows how its digest is made."""

    def forge(manifest):
        change(manifest)
        facts = {name: value for name, value in manifest.items() if name != "manifest_digest"}
        manifest["manifest_digest"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    edit_json(version.folder / "manifest.json", forge)


@pytest.mark.parametrize("name", ["../secret", "../../secret", "{}/secret", "/{}/secret", "..", ".", "", "a/b"])
def test_a_file_that_a_manifest_names_outside_its_folder_is_not_opened(name, registry, version, tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("of somebody else", encoding="utf-8")
    (registry.folder / "secret").write_text("of somebody else", encoding="utf-8")
    named = name.replace("{}", str(tmp_path).strip("/"))
    digest = sha256(tmp_path / "secret")
    resealed(version, lambda manifest: manifest["files"].update({named: digest}))
    opened = []
    monkeypatch.setattr("kstock_batch.registry.sha256", lambda path: opened.append(path.name) or sha256(path))
    with pytest.raises(ModelRefused, match=r"is no file of its folder|'?\.\.'? is missing"):
        require_intact(registry.champion())
    assert opened == ["lgbm.txt"]


def test_a_file_whose_name_no_system_has_is_missing(registry, version):
    resealed(version, lambda manifest: manifest["files"].update({"a\x00b": "0"}))
    with pytest.raises(ModelRefused, match="is missing"):
        require_intact(registry.champion())


def test_the_manifest_of_another_version_is_refused(registry, version):
    other = registry.add(NOON + timedelta(days=1), FACTS, write("tree"))
    shutil.copy(other.folder / "manifest.json", version.folder / "manifest.json")
    with pytest.raises(ModelRefused, match=rf"manifest\.json is that of '{other.version}'"):
        require_intact(registry.champion())


def test_a_file_to_be_loaded_must_have_a_digest(version):
    require_stated(version, "lgbm.txt")
    with pytest.raises(ModelRefused, match=r"its manifest has no digest of \['xgb\.ubj'\]"):
        require_stated(version, "lgbm.txt", "xgb.ubj")


@pytest.mark.parametrize("files", [[], ["lgbm.txt"], {"lgbm.txt": 7}, {"lgbm.txt": None}, "lgbm.txt", 7, None])
def test_files_without_digests_are_no_manifest(files, registry, version):
    resealed(version, lambda manifest: manifest.update(files=files))
    with pytest.raises(ModelRefused, match=r"is damaged|has no digest of"):
        require_stated(registry.champion(), "lgbm.txt")


@pytest.mark.parametrize("name", ["champion.json", "{}/manifest.json"])
def test_json_nested_too_deeply_is_damage_and_no_traceback(name, registry, version):
    (registry.folder / name.replace("{}", version.version)).write_text("[" * 200_000)
    with pytest.raises(ModelRefused, match="is damaged"):
        registry.champion()
