"""The two tree members, asked the same questions."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kstock_batch.errors import ModelRefused
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.xgb import XgbMember
from test_inputs import problem


@pytest.fixture(scope="module", params=[LgbmMember, XgbMember], ids=lambda kind: kind.name)
def kind(request):
    return request.param


def fit(kind, examples, rounds=40, seed=1):
    return kind.fit(examples, rounds=rounds, seed=seed, threads=1)


@pytest.fixture(scope="module")
def planted():
    return problem(signal=1.5)


@pytest.fixture(scope="module")
def member(kind, planted):
    return fit(kind, planted.examples)


def test_a_planted_signal_is_found_in_later_sessions(planted, member):
    assert planted.auc(member.predict(planted.examples.inputs, planted.later_ends)) > 0.7


def test_noise_is_not_predicted(kind):
    noise = problem(signal=0.0)
    p = fit(kind, noise.examples).predict(noise.examples.inputs, noise.later_ends)
    assert abs(noise.auc(p) - 0.5) < 0.06


def test_probabilities_keep_the_base_rate(planted, member):
    p = member.predict(planted.examples.inputs, planted.examples.ends)
    assert p.dtype == np.float64 and p.shape == planted.examples.ends.shape
    assert p.mean() == pytest.approx(planted.examples.label.mean(), abs=0.02)


def test_renumbering_the_sectors_changes_no_prediction(kind):
    base = problem(signal=0.0)
    inputs, at = base.examples.inputs, base.examples.inputs.tabular_names.index("sector_encoded")
    code = inputs.tabular[:, at].astype(int)
    told = replace(base.examples, label=(code % 2)[base.examples.ends].astype(np.float32))
    renumbered = replace(inputs, tabular=inputs.tabular.copy())
    renumbered.tabular[:, at] = np.random.default_rng(0).permutation(30)[code]

    before = fit(kind, told).predict(inputs, base.later_ends)
    after = fit(kind, replace(told, inputs=renumbered)).predict(renumbered, base.later_ends)

    np.testing.assert_allclose(after, before, atol=1e-6)
    assert before.max() - before.min() > 0.3


def test_what_was_saved_predicts_the_same_after_loading(kind, planted, member, tmp_path):
    member.save(tmp_path)
    loaded = kind.load(tmp_path)
    inputs = planted.examples.inputs
    expected = member.predict(inputs, planted.later_ends)
    np.testing.assert_array_equal(loaded.predict(inputs, planted.later_ends), expected)
    assert loaded.card() == member.card()


def test_the_same_data_and_seed_give_the_same_bytes(kind, planted, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        fit(kind, planted.examples, rounds=10).save(folder)
    assert (tmp_path / "one" / kind.file_name).read_bytes() == (tmp_path / "two" / kind.file_name).read_bytes()


def test_another_seed_gives_another_model(kind, planted, member):
    other = fit(kind, planted.examples, seed=2)
    inputs, ends = planted.examples.inputs, planted.later_ends
    assert (member.predict(inputs, ends) != other.predict(inputs, ends)).any()


def test_rows_with_nothing_known_are_still_scored(planted, member):
    inputs = planted.examples.inputs
    blank = replace(inputs, tabular=np.full_like(inputs.tabular, np.nan))
    p = member.predict(blank, planted.later_ends[:3])
    assert ((p > 0) & (p < 1)).all()


def test_a_sector_code_added_after_training_is_scored(planted, member):
    inputs = planted.examples.inputs
    tabular = inputs.tabular.copy()
    tabular[:, inputs.tabular_names.index("sector_encoded")] = 77
    p = member.predict(replace(inputs, tabular=tabular), planted.later_ends)
    assert np.isfinite(p).all()


def test_no_rows_give_no_predictions(planted, member):
    assert member.predict(planted.examples.inputs, np.empty(0, dtype=np.int64)).shape == (0,)


def test_other_columns_than_it_learnt_are_refused(kind, planted, member):
    inputs = replace(planted.examples.inputs, tabular_names=("momentum", *planted.examples.inputs.tabular_names[1:]))
    with pytest.raises(
        ModelRefused, match=rf"{kind.file_name} learnt other columns: missing \['rsi'\], unknown \['momentum'\]"
    ):
        member.predict(inputs, planted.later_ends)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\xff\xfe\x00"])
def test_a_file_that_is_no_model_is_refused_by_name(kind, content, tmp_path):
    if content is not None:
        (tmp_path / kind.file_name).write_bytes(content)
    with pytest.raises(ModelRefused, match=rf"{kind.file_name} cannot be read"):
        kind.load(tmp_path)


def test_a_model_cut_in_half_is_refused_by_name(kind, member, tmp_path):
    member.save(tmp_path)
    path = tmp_path / kind.file_name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelRefused, match=rf"{kind.file_name} cannot be read"):
        kind.load(tmp_path)


def test_the_card_is_json_and_names_the_column_that_mattered(member):
    card = member.card()
    assert json.loads(json.dumps(card)) == card
    assert card["rounds"] == 40
    assert max(card["gain_share"], key=card["gain_share"].get) == "return_3m_pct"
    assert sum(card["gain_share"].values()) == pytest.approx(1, abs=0.01)
