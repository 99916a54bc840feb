"""Training in another process: the same member to the byte, errors that arrive, nothing left behind."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kstock_batch.errors import ConfigError, KStockError, NotEnoughHistory
from kstock_batch.learners import lstm_process
from kstock_batch.learners.lstm import LstmMember
from test_inputs import problem


@pytest.fixture(scope="module")
def examples():
    return problem(signal=1.0).examples


def test_a_member_trained_apart_equals_one_trained_here_to_the_byte(examples, tmp_path):
    told_apart, told_here = [], []
    given = {"epochs": 2, "seed": 5, "threads": 1, "budget_s": 300.0}
    apart = lstm_process.fit_apart(
        examples, scratch=tmp_path / "scratch", on_epoch=lambda *what: told_apart.append(what), **given
    )
    here = LstmMember.fit(examples, on_epoch=lambda *what: told_here.append(what), **given)
    for folder, member in (("apart", apart), ("here", here)):
        (tmp_path / folder).mkdir()
        member.save(tmp_path / folder)
    names = [(tmp_path / folder / LstmMember.file_name).read_bytes() for folder in ("apart", "here")]
    assert names[0] == names[1]
    assert told_apart == told_here
    assert [epoch for epoch, _, _ in told_here] == [1, 2]
    assert list((tmp_path / "scratch").iterdir()) == [], "no arrays stay behind"


def test_offset_and_budget_go_over_too(examples, tmp_path):
    offset = np.linspace(-1, 1, len(examples.sequence_ends), dtype=np.float32)
    given = {"epochs": 2, "seed": 5, "threads": 1}
    shifted = replace(examples, sequence_offset=offset)
    apart = lstm_process.fit_apart(shifted, scratch=tmp_path, **given)
    assert apart.card() == LstmMember.fit(shifted, **given).card() != LstmMember.fit(examples, **given).card()
    hurried = lstm_process.fit_apart(shifted, scratch=tmp_path, budget_s=0.0, **given)
    assert hurried.facts["stopped_by"] == "budget"


def test_what_a_killed_run_left_is_cleared(examples, tmp_path):
    (tmp_path / "lstm-left").mkdir()
    (tmp_path / "lstm-left" / "sequence.npy").write_bytes(b"half")
    lstm_process.fit_apart(examples, scratch=tmp_path, epochs=1, seed=1, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_arrives_as_the_error_it_was(examples, tmp_path):
    one_session = replace(examples, inputs=replace(examples.inputs, session=np.zeros_like(examples.inputs.session)))
    with pytest.raises(NotEnoughHistory, match="leave no window to train on"):
        lstm_process.fit_apart(one_session, scratch=tmp_path, epochs=1, seed=1, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_keeps_its_class_and_so_its_exit_code(examples, tmp_path):
    with pytest.raises(ConfigError, match="device 'abacus' is not one"):
        lstm_process.fit_apart(examples, scratch=tmp_path, epochs=1, seed=1, threads=1, device="abacus")


def test_a_process_that_dies_is_named_with_its_last_words(examples, tmp_path):
    broken = replace(examples, sequence_ends=examples.sequence_ends + 10**9)
    with pytest.raises(KStockError, match=r"exit status 1: IndexError"):
        lstm_process.fit_apart(broken, scratch=tmp_path, epochs=1, seed=1, threads=1, stop_early=False)


def test_the_training_process_never_loads_the_tree_libraries():
    import subprocess
    import sys

    asked = (
        "import sys, kstock_batch.learners.lstm_process, kstock_batch.learners.lstm_training;"
        "print(sorted({'lightgbm', 'xgboost'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout.strip() == "[]"
