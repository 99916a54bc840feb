"""Damage to files: flipped bytes, logs that belong to others, what is missing, what cannot be written.

It is named in one sentence, what is damaged is never published from, and the bot keeps the last good publication.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from factories import copy_root, done, everything, flip_byte, run, sentence, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.errors import NoPublication
from kstock_batch.files import sha256
from kstock_batch.registry import Registry
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.settings import Settings

BLOCKS_START, BLOCK = 3 * 4096, 1 << 18  # of a DuckDB file: three headers, then blocks that carry a checksum each
LOOKED_AT = 12  # blocks of the store, evenly spread: a night on each takes half a second


@pytest.fixture
def root(trained_root):
    settings = (trained_root / "kstock.toml").read_text(encoding="utf-8")
    (trained_root / "kstock.toml").write_text(f"{settings}max_age_sessions = 100000\n", encoding="utf-8")  # of 2024
    return trained_root


@pytest.fixture
def published(root):
    return Settings(root=root).published


def reader(root):
    return PredictionReader(Settings(root=root).published, None)


def alerts(root):
    """Return what `check` says, which must fail."""
    found = run(root, "check")
    assert found.exit_code == 18, found.stdout
    return found.stdout


# Flipped bytes


def test_a_night_on_a_store_with_a_flipped_bit_is_refused_or_publishes_what_it_would_have(root, tmp_path):
    store, file = Settings(root=root).store, sha256(Settings(root=root).published)
    done(copy_root(root, tmp_path / "sound"), "score")
    wanted = [row.probability for row in reader(tmp_path / "sound").top(5000)]
    n_blocks, n_refused = (store.stat().st_size - BLOCKS_START) // BLOCK, 0
    for number in range(0, n_blocks, n_blocks // LOOKED_AT):
        victim = copy_root(root, tmp_path / "victim")
        flip_byte(Settings(root=victim).store, BLOCKS_START + number * BLOCK + 5_000)
        result = run(victim, "score")
        assert result.exit_code in (0, 9), (number, result.stderr)
        if result.exit_code:
            n_refused += 1
            error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
            assert f"{Settings(root=victim).store} cannot be read: Corrupt database file" in error, number
            assert sha256(Settings(root=victim).published) == file, number
        else:
            assert [row.probability for row in reader(victim).top(5000)] == wanted, number
        shutil.rmtree(victim)
    assert n_refused > LOOKED_AT / 2


def test_a_flipped_bit_anywhere_in_the_publication_fails_the_check_and_the_next_night_mends_it(root, published):
    done(root, "score")
    done(root, "check")
    whole = published.read_bytes()
    for at in (100, 5_000, *range(BLOCKS_START + 100, len(whole), 2 * BLOCK)):  # every second block
        published.unlink()  # the generation kept is another name of it
        published.write_bytes(whole)
        flip_byte(published, at)
        said = alerts(root)
        assert f"fail: the publication cannot be read: {published} cannot be used: " in said or (
            f"fail: the publication is damaged: {published} is not what " in said
        ), at
    assert "is damaged" in said, "no block was looked at that a reader of the newest session does not touch"
    done(root, "score")
    done(root, "check")
    assert len(reader(root).top(5000)) > 30


def test_damage_of_the_file_and_its_kept_second_name_is_damage(root, published):
    done(root, "score")
    flip_byte(published, published.stat().st_size - BLOCK // 2)
    assert published.samefile(Generations(published).newest_first()[0].path)
    assert "its bytes have changed since" in alerts(root)


def test_a_flipped_bit_in_any_file_of_the_champion_stops_the_night(root, published):
    folder, file, before = Registry(root / "models").champion().folder, sha256(published), everything(root)
    names = sorted(path.name for path in folder.iterdir())
    assert {"manifest.json", "lgbm.txt", "xgb.ubj", "lstm.safetensors"} < set(names)
    for name in names:
        whole = (folder / name).read_bytes()
        flip_byte(folder / name)
        refused = run(root, "score")
        assert refused.exit_code == 10, name
        assert name in sentence(refused)
        assert "fail: there is no model to score with: " in alerts(root)
        (folder / name).write_bytes(whole)
    assert (sha256(published), everything(root)) == (file, before)
    done(root, "score")


# What is missing


def test_a_missing_file_of_the_champion_stops_the_night_and_is_named(root, published):
    folder, file = Registry(root / "models").champion().folder, sha256(published)
    for name in sorted(path.name for path in folder.iterdir()):
        (folder / name).rename(root / "aside")
        refused = run(root, "score")
        assert refused.exit_code == 10, name
        assert (name if name != "manifest.json" else "there is no model version") in sentence(refused)
        (root / "aside").rename(folder / name)
    assert sha256(published) == file
    done(root, "score")


def test_a_missing_champion_stops_the_night_and_leaves_the_publication(root, published):
    file = sha256(published)
    (root / "models" / "champion.json").unlink()
    refused = run(root, "score")
    assert (refused.exit_code, "no model has been promoted" in sentence(refused)) == (11, True)
    assert "fail: there is no model to score with: no model has been promoted" in alerts(root)
    assert sha256(published) == file
    assert reader(root).top(1)


# Logs that belong to others

WRITER = """
import duckdb, os, sys
con = duckdb.connect(sys.argv[1])
con.execute("SET checkpoint_threshold = '1TB'")
con.execute("DELETE FROM prediction")
os._exit(1)
"""


def log_of_a_killed_writer(path: Path) -> Path:
    """Have another program delete all predictions of a database and end before they leave its log."""
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False)
    log = Path(f"{path}.wal")
    assert log.exists()
    return log


def test_a_store_with_the_log_of_an_older_copy_is_refused_and_told_which_file_is_wrong(root, published):
    store = Settings(root=root).store
    log = log_of_a_killed_writer(store)
    stale = log.read_bytes()
    log.unlink()
    done(root, "score")
    n = store_rows(root, "SELECT count(*) FROM prediction")
    file = sha256(published)
    log.write_bytes(stale)
    refused = run(root, "score", "--force")
    assert refused.exit_code == 9
    assert f"move {store.name}.wal away" in sentence(refused)
    assert f"fail: the store cannot be read: {store}" in alerts(root)
    assert sha256(published) == file
    log.unlink()
    done(root, "check")
    assert store_rows(root, "SELECT count(*) FROM prediction") == n


def test_a_log_beside_the_publication_is_not_played_into_what_the_bot_reads(root, published):
    following = reader(root)
    wanted = following.top(5000)
    copy = shutil.copy(published, root / published.name)  # nobody can open what a reader holds
    log = log_of_a_killed_writer(copy).rename(published.with_name(f"{published.name}.wal"))
    assert following.top(5000) == wanted
    with pytest.raises(NoPublication, match="another program has opened it for writing"):
        reader(root).top()
    assert f"{log.name} lies beside it" in alerts(root)
    done(root, "score")
    assert not log.exists()
    assert len(following.top(5000)) > 30
    done(root, "check")


def test_a_night_with_nothing_to_do_removes_a_log_that_says_nothing(root, published):
    done(root, "score")
    log = Path(f"{published}.wal")
    log.write_bytes(b"no log at all")
    assert "published again" in done(root, "score").stdout
    assert not log.exists()
    done(root, "check")


# Folders that cannot be written

INGEST, FEATURES, SCORE, RETRAIN = ("ingest", "files", "next"), ("features",), ("score", "--force"), ("retrain",)
BACK, PROMOTE = ("predictions", "rollback"), ("models", "promote", "champion")


@pytest.fixture
def read_only(small_disk, root):
    """Return how to put a folder of a copied root on a disk that cannot be written; it is made whole again after."""
    if os.geteuid():
        pytest.skip("a disk can be remounted by root alone")

    def made(name):
        copy = copy_root(root, small_disk.parent / "copy")
        folder = copy / name
        shutil.copytree(folder, small_disk, dirs_exist_ok=True)
        if name:
            shutil.rmtree(folder)
            folder.symlink_to(small_disk)
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        return copy if name else small_disk

    yield made
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("", {INGEST: 9, FEATURES: 9, SCORE: 9, RETRAIN: 9, BACK: 16, PROMOTE: 10}),
        ("warehouse", {INGEST: 9, FEATURES: 9, SCORE: 9, RETRAIN: 9, BACK: 16}),
        ("warehouse/serving", {SCORE: 16, BACK: 16}),
        ("models", {RETRAIN: 10, PROMOTE: 10}),
    ],
    ids=["everything", "the store", "the publication", "the models"],
)
def test_a_folder_that_cannot_be_written_is_named_and_can_be_read(name, refused, read_only):
    root = read_only(name)
    before, file = everything(root)["raw_price"], sha256(Settings(root=root).published)
    meant = {"next": str(root / "next"), "champion": Registry(root / "models").champion().version}
    for command, code in refused.items():
        result = run(root, *(meant.get(word, word) for word in command))
        told = sentence(result)
        assert result.exit_code == code, (command, told)
        assert "Read-only file system" in told, command
        assert str(root / name) in told, command
    assert sha256(Settings(root=root).published) == file
    assert everything(root)["raw_price"] == before
    for asking in (("predictions", "show"), ("status",), ("sql", "SELECT 1"), ("sql", "--store", "SELECT 1")):
        done(root, *asking)


def test_a_retrain_notices_before_it_trains_that_it_could_not_store_what_it_trained(read_only, monkeypatch):
    root = read_only("models")
    monkeypatch.setattr("kstock_batch.training.retrain.train", lambda *_: pytest.fail("it trained"))
    assert run(root, "retrain").exit_code == 10
