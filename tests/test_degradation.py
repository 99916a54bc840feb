"""Environments that really lack a library: what can be done without it is done, and said once.

Each environment is a folder of links to whatever is installed here but the library; Python runs without its site.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from factories import store_rows
from kstock_batch.learners.calibration import Calibrator, logit
from kstock_batch.learners.ensemble import blend
from kstock_batch.registry import ModelVersion, Registry, require_intact

REPOSITORY = Path(__file__).parents[1]
MEMBER_OF = {"lightgbm": "lgbm", "xgboost": "xgb", "torch": "lstm"}
REFUSED_BY_THE_GATE = 15


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Return the variables of an environment without some libraries."""

    def without(*libraries: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("without")
        for site in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(site).iterdir():
                name = entry.name.replace("-", ".").split(".")[0].lower()
                if not any(name in (library, f"{library}_cpu", "kstock_batch") for library in libraries):
                    (folder / entry.name).symlink_to(entry)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KSTOCK"))}
        environ = {**kept, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(folder)])}
        for library in MEMBER_OF:
            tried = in_python(
                environ, "-c", f"from importlib.util import find_spec as f; print(f({library!r}) is None)"
            )
            assert tried.stdout.strip() == str(library in libraries), tried.stderr
        for library in libraries:
            tried = in_python(environ, "-c", f"import {library}")
            assert f"ModuleNotFoundError: No module named '{library}'" in tried.stderr
        return environ

    return without


def in_python(environ: dict[str, str], *args: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-S", *map(str, args)],
        capture_output=True,
        text=True,
        env=environ,
        cwd=REPOSITORY,
        check=False,
    )


def command(environ: dict[str, str], root: Path, *args: object) -> "subprocess.CompletedProcess[str]":
    return in_python(environ, "-m", "kstock_batch", "--root", root, *args)


# Retrain


@pytest.mark.parametrize(
    "absent",
    [("torch",), ("torch", "lightgbm"), ("torch", "xgboost"), ("lightgbm", "xgboost")],
    ids=lambda libraries: "without " + " and ".join(libraries),
)
def test_a_retrain_goes_on_with_the_members_whose_library_is_there(absent, environment, trained_root):
    quick = "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 20\ntree_stride = 1\n"
    (trained_root / "kstock.toml").write_text(f"{quick}lstm_epochs = 1\nsequence_stride = 40\nthreads = 1\n")
    before = Registry(trained_root / "models").champion().version
    left = [name for library, name in MEMBER_OF.items() if library not in absent]

    ended = command(environment(*absent), trained_root, "retrain")

    version = newest(trained_root)
    assert version.version != before
    require_intact(version)
    serves = Registry(trained_root / "models").champion().version
    if ended.returncode == REFUSED_BY_THE_GATE:  # a member alone may be no better than a floor: that is no failure
        assert f"{version.version} was stored but not promoted" in ended.stderr
        assert (serves, version.manifest["gate"]["passed"]) == (before, False)
    else:
        assert (ended.returncode, serves, version.manifest["gate"]["passed"]) == (0, version.version, True), (
            ended.stderr
        )
    assert list(version.manifest["members"]) == left
    assert sorted(version.manifest["files"]) == sorted(
        ["judged.parquet", *(facts["file"] for facts in version.manifest["members"].values())]
    )
    assert sum(version.manifest["weights"].values()) == pytest.approx(1)
    assert version.manifest["level"] == next((name for name in ("xgb", "lgbm") if name in left), None)
    gone = ", ".join(name for name in ("lgbm", "xgb", "lstm") if name not in left)
    assert ended.stderr.count(f"warning: {gone} cannot be trained, because {', '.join(sorted(absent))}") == 1
    assert ended.stderr.count("warning: ") == 1
    assert "Traceback" not in ended.stderr


def newest(root: Path) -> ModelVersion:
    return Registry(root / "models").versions()[0]


def test_without_any_library_a_retrain_says_what_to_install(environment, trained_root):
    ended = command(environment("torch", "lightgbm", "xgboost"), trained_root, "retrain")
    assert ended.returncode == 1, ended.stderr
    assert "lightgbm, xgboost and torch are all absent" in ended.stderr
    assert "pip install lightgbm" in ended.stderr
    assert len(Registry(trained_root / "models").versions()) == 1


# Score


def scored(environ: dict[str, str], root: Path) -> tuple[pl.DataFrame, pl.DataFrame, str]:
    """Return the predictions of the same night as they were and as they are now, and what was said."""
    columns = ("ticker", "probability", "lgbm", "xgb", "lstm")
    statement = f"SELECT {', '.join(columns)} FROM prediction ORDER BY ticker"
    ((as_of,),) = store_rows(root, "SELECT max(as_of) FROM prediction")
    before = store_rows(root, statement)
    ended = command(environ, root, "score", "--as-of", as_of, "--force")
    assert ended.returncode == 0, ended.stderr
    floats = dict.fromkeys(columns[1:], pl.Float64)
    old, new = (
        pl.DataFrame(r, columns, orient="row", schema_overrides=floats) for r in (before, store_rows(root, statement))
    )
    assert old["ticker"].equals(new["ticker"])
    return old, new, ended.stderr


def test_without_torch_a_night_is_scored_the_same_to_the_bit_and_nothing_is_said(environment, trained_root):
    before, after, said = scored(environment("torch"), trained_root)
    assert after.equals(before)
    assert "warning" not in said


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_without_a_tree_library_its_member_is_absent_and_the_others_are_scaled_up(library, environment, trained_root):
    manifest = Registry(trained_root / "models").champion().manifest
    gone = MEMBER_OF[library]
    before, after, said = scored(environment(library), trained_root)

    assert before[gone].null_count() == 0
    assert after[gone].null_count() == after.height
    here = {name: after[name].to_numpy() for name in ("lgbm", "xgb", "lstm") if name != gone}
    mean = blend(here, manifest["weights"])
    expected = Calibrator.from_json(manifest["blend_calibrator"]).apply(logit(mean))
    np.testing.assert_allclose(after["probability"].to_numpy(), expected, rtol=1e-9)
    if gone != manifest["level"]:
        for name, p in here.items():
            np.testing.assert_array_equal(p, before[name].to_numpy())
    else:  # the volatility model says how likely rises are that night; where stocks stand is the members' as before
        for name, p in here.items():
            old, new = (values - values.mean() for values in (logit(before[name].to_numpy()), logit(p)))
            np.testing.assert_allclose(new, old, atol=1e-9)
        assert abs(logit(after["probability"].to_numpy()).mean() - logit(before["probability"].to_numpy()).mean()) < 1
    assert said.count(f"warning: {gone} cannot be scored, because {library} is not installed here") == 1
    assert said.count("warning: ") == 1
