"""What a command must not import: a night of a second or two has no time for libraries it does not use."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest


def imported_by(statement: str) -> set[str]:
    """Return the top-level modules a fresh process has imported after ``statement``."""
    told = f"import json, sys\n{statement}\nprint(json.dumps([name for name in sys.modules if sys.modules[name]]))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_a_night_judges_and_a_status_tells_without_the_slow_parts_of_scipy():
    modules = "[name for name in sys.modules if name.startswith('scipy.')]"
    told = f"import sys, kstock_batch.serving.{{}}\nprint({modules})"
    for module in ("night.night", "monitor"):
        slow = ("scipy.special", "scipy.stats", "scipy.optimize")
        done = subprocess.run([sys.executable, "-c", told.format(module)], capture_output=True, text=True, check=True)
        assert not [name for name in slow if f"'{name}'" in done.stdout], module


def test_the_members_are_read_without_the_slow_parts_of_scipy():
    modules = "[name for name in sys.modules if name.startswith('scipy.') and sys.modules[name]]"
    read = "from kstock_batch.learners.members import member_class\nfor name in ('lgbm', 'xgb'): member_class(name)"
    told = f"import sys\n{read}\nprint({modules})"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "'scipy.sparse'" in done.stdout  # which LightGBM insists on
    assert "'scipy.special'" not in done.stdout


def test_the_command_line_starts_without_any_library_of_the_models_the_data_or_the_tables():
    heavy = {"numpy", "polars", "duckdb", "scipy", "lightgbm", "xgboost", "rich"}
    assert not imported_by("import kstock_batch.cli.app") & heavy


def test_who_reads_english_does_not_wait_for_the_korean_catalogue():
    help_shown = "from kstock_batch.cli.app import cli\ncli(['--help'], standalone_mode=False)"
    told = f"import sys\n{help_shown}\nprint([name for name in sys.modules if 'korean' in name])"
    for language, names in (("en", "[]"), ("ko", "['kstock_batch.korean'")):
        environ = {**os.environ, "KSTOCK_LANGUAGE": language}
        done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, env=environ)
        assert done.stdout.splitlines()[-1].startswith(names)


@pytest.mark.parametrize("name", ["lgbm", "xgb", "lstm"])
def test_a_member_is_read_without_what_only_training_or_others_need(name):
    unused = {"sklearn", "pandas", "torch"}
    assert all(find_spec(library) for library in unused)  # they are here to be imported
    found = imported_by(f"from kstock_batch.learners.members import member_class\nmember_class({name!r})")
    assert "kstock_batch" in found
    assert not found & unused


def test_who_needs_scikit_learn_after_us_finds_it():
    kept = "from kstock_batch.learners.members import member_class\nmember_class('lgbm')\nimport pandas, sklearn"
    assert {"pandas", "sklearn", "lightgbm"} <= imported_by(kept)
