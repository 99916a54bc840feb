"""Settings: where each value comes from, and that none that cannot be used gets further."""

from __future__ import annotations

import os
from dataclasses import fields

import pytest

from factories import run, sentence
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings


def loaded(tmp_path, toml="", environ=None, **flags):
    (tmp_path / "kstock.toml").write_text(toml, encoding="utf-8")
    return Settings.load(tmp_path, environ or {}, **flags)


def test_the_file_beats_the_default_the_variable_beats_the_file_and_the_flag_beats_them_all(tmp_path):
    assert loaded(tmp_path).threads == 2
    assert loaded(tmp_path, "threads = 3").threads == 3
    assert loaded(tmp_path, "threads = 3", {"KSTOCK_THREADS": "4"}).threads == 4
    assert loaded(tmp_path, "threads = 3", {"KSTOCK_THREADS": "4"}, threads=5).threads == 5
    assert loaded(tmp_path, "threads = 3", {"KSTOCK_THREADS": "4"}, threads=None).threads == 4


def test_every_setting_can_be_given_as_a_variable_and_comes_out_with_its_type(tmp_path):
    defaults = Settings()
    texts = {name: ",".join(value) if isinstance(value, tuple) else value for name, value in vars(defaults).items()}
    given = {f"KSTOCK_{field.name.upper()}": str(texts[field.name]) for field in fields(Settings)}
    assert loaded(tmp_path, "", given) == Settings(root=tmp_path)


def test_the_root_is_where_the_file_is_found_not_what_it_says(tmp_path):
    assert loaded(tmp_path, "root = '/elsewhere'", {"KSTOCK_ROOT": "/nowhere"}).root == tmp_path


def test_a_variable_of_another_program_is_no_concern_of_ours(tmp_path):
    assert loaded(tmp_path, "", {"KSTOCKS_THREADS": "x", "STOCK_THREADS": "x"}) == Settings(root=tmp_path)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("thread = 2", "['thread']"),
        ("[store]\nthreads = 2", "['store']"),
        ("threads = 'two'", "threads = 'two'"),
        ("threads = 2.5", "threads = 2.5"),
        ("threads = true", "threads = True"),
        ("threads = 0", "threads = 0"),
        ("threads = []", "threads = []"),
        ("seed = -1", "seed = -1"),
        ("seed = 99999999999", "seed = 99999999999"),
        ("max_rejected_share = nan", "max_rejected_share = nan"),
        ("max_rejected_share = 1", "max_rejected_share = 1"),
        ("max_rejected_share = true", "max_rejected_share = True"),
        ("min_session_share = 0", "min_session_share = 0"),
        ("min_session_share = 90", "min_session_share = 90"),
        ("max_age_sessions = -1", "max_age_sessions = -1"),
        ("train_sessions = 59", "train_sessions = 59"),
        ("validation_share = 0.9", "validation_share = 0.9"),
        ("sequence_stride = 0", "sequence_stride = 0"),
        ("lstm_epochs = 0", "lstm_epochs = 0"),
        ("tree_rounds = 0", "tree_rounds = 0"),
        ("include_preferred = 'maybe'", "include_preferred = 'maybe'"),
        ("memory_limit = 'lots'", "memory_limit = lots"),
        ("memory_limit = 4", "memory_limit = 4"),
        ("memory_limit = '0GB'", "memory_limit = 0GB"),
        ("memory_limit = '-1GB'", "memory_limit = -1GB"),
        ("cutoff = '15:44'", "cutoff = 15:44"),
        ("cutoff = '24:00'", "cutoff = 24:00"),
        ("cutoff = '6 pm'", "cutoff = 6 pm"),
        ("cutoff = 18:30:00", "cutoff = 18:30:00"),
        ("calendar = ''", "calendar = "),
        ("threads = ", "kstock.toml is not TOML"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_before_anything_runs(toml, says, tmp_path):
    (tmp_path / "kstock.toml").write_text(toml, encoding="utf-8")
    result = run(tmp_path, "status")
    assert (result.exit_code, says in sentence(result)) == (2, True), result.stderr
    assert os.listdir(tmp_path) == ["kstock.toml"]


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("KSTOCK_THREAD", "2", "['thread']"),
        ("KSTOCK_THREADS", "two", "threads = 'two'"),
        ("KSTOCK_THREADS", "", "threads = ''"),
        ("KSTOCK_TRAIN_SESSIONS", "1e3", "train_sessions = '1e3'"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(variable, value, says, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, value)
    result = run(tmp_path, "status")
    assert (result.exit_code, says in sentence(result)) == (2, True), result.stderr


def test_the_names_one_may_use_are_listed_beside_the_unknown_one(tmp_path):
    with pytest.raises(ConfigError, match=r"use one of \[.*'train_sessions'.*\]"):
        loaded(tmp_path, "training_sessions = 3")


@pytest.mark.parametrize("limit", ["4GB", "512MiB", "1.5 GB", "80000000 KB", ""])
def test_a_memory_limit_is_written_as_duckdb_reads_it(limit, tmp_path):
    assert loaded(tmp_path, f"memory_limit = '{limit}'").memory_limit == limit


def test_a_settings_file_that_is_a_folder_or_no_text_is_named(tmp_path):
    (tmp_path / "kstock.toml").mkdir()
    result = run(tmp_path, "status")
    assert (result.exit_code, "kstock.toml" in sentence(result)) == (2, True)
    (tmp_path / "kstock.toml").rmdir()
    (tmp_path / "kstock.toml").write_bytes(b"threads = \xff\xfe")
    result = run(tmp_path, "status")
    assert (result.exit_code, "kstock.toml is not TOML" in sentence(result)) == (2, True)
