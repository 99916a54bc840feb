"""Roots and folders that many tests share: built once, copied for each test that changes them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import (
    FIRST_STEPS,
    LAST,
    TINY,
    FirstNight,
    asked_json,
    copy_root,
    disk_of,
    done,
    sample_frames,
    sessions_between,
    until,
    write_folder,
)
from kstock_batch import console
from warm_process import WarmProcess

os.environ["LC_ALL"] = "C.UTF-8"  # tests read English, whoever runs them; child processes inherit it
# Two workers share two cores: a thread that waits for the others of its loop lets go of its core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
REAL_PANEL = Path(__file__).parents[2] / "shared" / "krx"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what talks to a live source, unless it was asked for by `-m network`."""
    if "network" in (config.getoption("markexpr") or ""):
        return
    for item in items:
        if item.get_closest_marker("network"):
            item.add_marker(pytest.mark.skip(reason="it talks to a live source: run it with `pytest -m network`"))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A KSTOCK_* variable of whoever runs the tests must not change them."""
    for name in [name for name in os.environ if name.startswith("KSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(console, "_language", "en")  # what a command of an earlier test spoke


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hand-made source folder: four stocks, 100 sessions."""
    return write_folder(tmp_path / "source")


@pytest.fixture(scope="session")
def _ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ingested")
    done(root, "ingest", "files", write_folder(root / "source"))
    return root


@pytest.fixture
def root(_ingested: Path, tmp_path: Path) -> Path:
    """A root into which the hand-made folder (its ``source``) has been ingested."""
    return copy_root(_ingested, tmp_path / "root")


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    (root / "kstock.toml").write_text(TINY, encoding="utf-8")
    frames, days = sample_frames(), sessions_between(LAST.replace(month=5), LAST)
    write_folder(root / "next", frames)
    done(root, "ingest", "files", write_folder(root / "source", until(frames, days[-2])))
    done(root, "retrain", "--as-of", days[-8])
    done(root, "score", "--as-of", days[-3])
    return root


@pytest.fixture
def trained_root(_trained: Path, tmp_path: Path) -> Path:
    """A root of 40 stocks with a champion and one publication, as-of the session before its newest.

    ``source`` was ingested; ``next`` holds one more session. The champion learnt from what was known seven
    sessions before the last of ``next``.
    """
    return copy_root(_trained, tmp_path / "root")


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory, _trained: Path) -> Path:
    """A root whose champion has scored eight sessions, some of them judged; tests read it."""
    root = copy_root(_trained, tmp_path_factory.mktemp("judged") / "root")
    done(root, "ingest", "files", root / "next")
    newest = asked_json(root, "sql", "--store", "SELECT max(session) AS day FROM raw_price")[0]["day"]
    learnt = asked_json(root, "models", "show")["as_of"]
    done(root, "score", "--from", learnt, "--as-of", newest, "--accept-degraded")
    return root


@pytest.fixture(scope="session")
def _learnt(tmp_path_factory: pytest.TempPathFactory) -> FirstNight:
    root = tmp_path_factory.mktemp("learnt")
    (root / "kstock.toml").write_text(TINY, encoding="utf-8")
    return FirstNight(root, {step: done(root, *step).output for step in FIRST_STEPS[:2]})


@pytest.fixture(scope="session")
def first_night(_learnt: FirstNight, tmp_path_factory: pytest.TempPathFactory) -> FirstNight:
    """The first steps of the tutorial; what goes on from them copies the root."""
    root, night = copy_root(_learnt.root, tmp_path_factory.mktemp("first") / "root"), FIRST_STEPS[2]
    told = {step: text.replace(str(_learnt.root), str(root)) for step, text in _learnt.told.items()}
    return FirstNight(root, {**told, night: done(root, *night).output})


@pytest.fixture(scope="session")
def walked(_learnt: FirstNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root on which the demo was walked from nothing to a publication; tests ask it and change nothing."""
    root = copy_root(_learnt.root, tmp_path_factory.mktemp("walk") / "root")
    done(root, "features")
    done(root, "score")
    return root


@pytest.fixture(scope="session")
def real_panel() -> Path:
    """The real KRX panel, where it lies beside the checkout."""
    if not REAL_PANEL.is_dir():
        pytest.skip(f"the real KRX panel is not at {REAL_PANEL}")
    return REAL_PANEL


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmProcess]:
    """A process that has imported everything and runs commands in forks of its own, which may be killed."""
    with WarmProcess(tmp_path_factory.mktemp("warm")) as process:
        yield process


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB that a test may fill."""
    with disk_of("64m", tmp_path / "disk") as folder:
        yield folder
