"""The wheel: sql/ travels inside, and what is installed from it works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what the wheel would install, and nothing of the checkout."""
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPOSITORY)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def command(installed, folder, *args):
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    # -P: the current folder is not searched, so only the wheel's package can be found (an editable install comes later)
    return subprocess.run(
        [sys.executable, "-P", "-m", "kstock_batch", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environ,
    )


def test_every_statement_travels_inside_the_wheel(installed):
    ours = {path.relative_to(REPOSITORY / "sql") for path in (REPOSITORY / "sql").rglob("*.sql")}
    shipped = {path.relative_to(installed / "kstock_batch" / "sql") for path in installed.rglob("*.sql")}
    assert shipped == ours
    assert (installed / "kstock_batch" / "ingest" / "sources" / "panel.toml").is_file()


def test_the_installed_command_works_from_any_folder(installed, tmp_path):
    demo = command(installed, tmp_path, "demo", "--tickers", "20", "--sessions", "120")
    assert demo.returncode == 0, demo.stderr
    features = command(installed, tmp_path, "features")
    assert features.returncode == 0, features.stderr
    assert (tmp_path / "warehouse" / "store.duckdb").is_file()


def test_it_was_the_wheels_package_that_ran(installed, tmp_path):
    asked = "import kstock_batch, kstock_batch.store.queries as q; print(kstock_batch.__file__, q.sql_folder())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )
    assert all(path.startswith(str(installed)) for path in done.stdout.split())
