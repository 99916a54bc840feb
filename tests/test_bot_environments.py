"""Environments as the bot's may be: an interpreter of its own, one version of duckdb, this package and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from small_store import MONDAY, THURSDAY, TUESDAY, predict, publish_now, small_store

PACKAGE = Path(__file__).parents[1] / "kstock_batch"
SAMSUNG, HYNIX = "005930", "000660"
# 1.4 is the last DuckDB for Python 3.9, which the bot is allowed to have.
ENVIRONMENTS = [("3.9", "1.4"), (None, "1.4"), (None, "1.5"), (None, "2")]

ASKED = """
import os, shutil, sys, threading
import duckdb
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.bot.results import format_ml_prediction
from kstock_batch.errors import NoPublication

first, second, path = sys.argv[1:]

def put(source):
    shutil.copyfile(source, path + ".beside")
    os.replace(path + ".beside", path)

reader = PredictionReader(path, None)
try:
    reader.latest("005930")
except NoPublication as error:
    print("absent:", error.exit_code)
put(first)
print(format_ml_prediction(reader.latest("005930").result).splitlines()[0])
print(reader.latest("999999"), len(reader.top()), len(reader.history("005930")), reader.status().publication.as_of)
put(second)
print([(row.ticker, row.rank, row.shap_top3) for row in reader.session(reader.status().publication.as_of)])
with open(path + ".half", "wb") as file:
    file.write(open(first, "rb").read()[:9000])
os.replace(path + ".half", path)
print(reader.latest("000660").as_of, "cannot be used" in reader.status().problem)

wrong, over = [], threading.Event()

def hammer():
    try:
        while not over.is_set():
            days = {row.as_of for row in reader.top()}
            assert len(days) == 1, days
    except BaseException as error:
        wrong.append(repr(error))

threads = [threading.Thread(target=hammer) for _ in range(3)]
for thread in threads:
    thread.start()
for number in range(20):
    put((first, second)[number % 2])
over.set()
for thread in threads:
    thread.join()
print(wrong, reader.latest("000660").as_of)
loaded = set(sys.modules)
print("duckdb", duckdb.__version__.rsplit(".", 1)[0] if duckdb.__version__[0] == "1" else duckdb.__version__[0])
print(sys.version_info[:2])
print(sorted(name for name in loaded if name.startswith("kstock_batch")))
print({"numpy", "pandas", "pyarrow", "polars", "torch"} & loaded)
"""


@pytest.fixture(scope="module")
def publications(tmp_path_factory):
    """Two publications; the second is of a later session."""
    root = tmp_path_factory.mktemp("published")
    with small_store(root) as warehouse:
        predict(warehouse, MONDAY, {SAMSUNG: 0.52, HYNIX: 0.71})
        predict(warehouse, TUESDAY, {SAMSUNG: 0.83, HYNIX: 0.64, "00088K": 0.2})
        publish_now(warehouse, root / "first.duckdb")
        predict(warehouse, THURSDAY, {SAMSUNG: 0.4, HYNIX: 0.9})
        warehouse.con.execute(
            """UPDATE prediction SET shap_top3 = '[["rsi", 0.25]]' WHERE ticker = $hynix""", {"hynix": HYNIX}
        )
        publish_now(warehouse, root / "second.duckdb")
    return root / "first.duckdb", root / "second.duckdb"


def interpreter(version):
    """Return a Python of ``version`` (None = ours), or skip the test, saying that there is none."""
    if version is None:
        return sys.executable
    homes = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for candidate in (f"python{version}", *map(str, homes)):
        try:
            tried = subprocess.run([candidate, "-c", "import ssl, venv"], capture_output=True, check=False)
        except FileNotFoundError:
            continue
        if tried.returncode == 0:
            return candidate
    return pytest.skip(f"there is no Python {version} on this machine")


def environment(folder, python, duckdb_version):
    """Make a virtual environment of duckdb and this package, and return its interpreter."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    version = site.parent.name.removeprefix("python")
    wanted = ["--target", str(site), "--python-version", version, "--only-binary=:all:", f"duckdb=={duckdb_version}.*"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *wanted]
    got = subprocess.run(pip, capture_output=True, text=True, check=False)
    if got.returncode:
        pytest.skip(f"pip cannot get duckdb {duckdb_version} for Python {version} here: {got.stderr.splitlines()[-1]}")
    (site / PACKAGE.name).symlink_to(PACKAGE)
    return folder / "bin" / "python"


@pytest.mark.parametrize(("python", "duckdb_version"), ENVIRONMENTS)
def test_the_reader_works_where_there_is_nothing_but_duckdb(publications, tmp_path, python, duckdb_version):
    bare = environment(tmp_path / "venv", interpreter(python), duckdb_version)
    command = [str(bare), "-I", "-X", "utf8", "-c", ASKED, *map(str, publications), str(tmp_path / "it's here.duckdb")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, check=False)
    assert done.stderr == ""
    *told, library, interpreter_version, ours, others = done.stdout.splitlines()
    assert told == [
        "absent: 13",
        "[>>>>>>>>--] 83.0%  ML: 강한 매수 신호",
        "None 3 2 2024-06-25",
        "[('000660', 1, (('rsi', 0.25),)), ('005930', 2, ())]",
        "2024-06-27 True",
        "[] 2024-06-27",
    ]
    assert library == f"duckdb {duckdb_version}"
    assert python is None or interpreter_version == f"({python.replace('.', ', ')})"
    assert ours == str(
        [
            *(
                "kstock_batch",
                "kstock_batch.bot",
                "kstock_batch.bot.collector",
                "kstock_batch.bot.publication",
                "kstock_batch.bot.reader",
            ),
            *("kstock_batch.bot.results", "kstock_batch.errors", "kstock_batch.quoting", "kstock_batch.wording"),
        ]
    )
    assert others == "set()"
