"""The two tree members, asked the same questions."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kstock_batch.errors import ModelRefused
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.boosting import STOP_PATIENCE, BoostingRecipe, Progress
from kstock_batch.learners.calibration import loss_in_sessions, parts, session_offset
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.xgb import XgbMember
from test_inputs import problem


@pytest.fixture(scope="module", params=[LgbmMember, XgbMember], ids=lambda kind: kind.name)
def kind(request):
    return request.param


# Steps and leaves for a few thousand rows and 40 rounds; both libraries know these names.
QUICK = {"learning_rate": 0.1, "lambda": 1.0}


def fit(kind, examples, rounds=40, seed=1, validation=None, **given):
    recipe = BoostingRecipe(rounds, seed=seed, threads=1, parameters=QUICK, **given)
    return kind.fit(examples, recipe, validation)


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
    told, card = loaded.card(), member.card()
    assert {name: card[name] for name in told if name != "stopped_by"} == told, "how it was trained the manifest says"


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
    assert (card["rounds"], card["stopped_by"], card["learns_level"]) == (40, "rounds", False)
    assert card["parameters"]["learning_rate"] == 0.1
    assert max(card["gain_share"], key=card["gain_share"].get).startswith("return_3m_pct")
    assert sum(card["gain_share"].values()) == pytest.approx(1, abs=0.01)


# When to stop


@pytest.fixture(scope="module")
def halves():
    """Much to memorise and little to learn, and a later block that says when memorising begins."""
    rows = problem(signal=0.5)
    later = Examples(rows.examples.inputs, rows.later_ends, rows.later_label, rows.later_ends, rows.later_label)
    return rows.examples, later


@pytest.fixture(scope="module")
def stopped(kind, halves):
    return fit(kind, halves[0], 300, validation=halves[1])


def test_a_later_block_finds_fewer_rounds_and_only_those_are_kept(kind, halves, stopped, tmp_path):
    assert 0 < stopped.rounds < 300 - STOP_PATIENCE
    assert stopped.card()["stopped_by"] == "patience"
    stopped.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert loaded.rounds == stopped.rounds
    inputs, ends = halves[0].inputs, halves[1].ends
    np.testing.assert_array_equal(loaded.margin(inputs, ends), stopped.margin(inputs, ends))


def test_the_rounds_kept_are_those_with_the_least_loss_in_sessions(kind, halves, stopped):
    """And as many rounds without a block are the same model: what a retrain on everything relies on."""
    examples, later = halves
    session = later.inputs.session[later.ends]

    def loss(member):
        return loss_in_sessions(member.margin(later.inputs, later.ends), later.label, session)

    same = fit(kind, examples, stopped.rounds)
    np.testing.assert_allclose(
        same.margin(later.inputs, later.ends), stopped.margin(later.inputs, later.ends), atol=1e-5
    )
    assert stopped.card()["validation_loss"] == pytest.approx(loss(stopped), abs=2e-5)
    for rounds in {1, max(1, stopped.rounds // 2), stopped.rounds + 1, stopped.rounds + STOP_PATIENCE}:
        assert loss(stopped) <= loss(fit(kind, examples, rounds)) + 1e-6


def test_a_boosting_that_ends_before_its_patience_keeps_the_best_rounds_too(kind, halves, stopped):
    ended = fit(kind, halves[0], stopped.rounds + STOP_PATIENCE // 2, validation=halves[1])
    assert ended.card()["stopped_by"] == "rounds"
    assert ended.rounds == stopped.rounds


def test_the_offset_of_the_later_block_is_no_part_of_what_is_saved(kind, halves):
    examples, later = (
        replace(part, offset=session_offset(part.label, part.inputs.session[part.ends]).astype(np.float32))
        for part in halves
    )
    member = fit(kind, examples, 300, validation=later)
    session = later.inputs.session[later.ends]
    margin = member.margin(later.inputs, later.ends)
    assert member.card()["validation_loss"] == pytest.approx(loss_in_sessions(margin, later.label, session), abs=1e-4)
    found = loss_in_sessions(margin + later.offset, later.label, session)
    assert member.card()["validation_loss"] == pytest.approx(found, abs=2e-5)


def test_a_budget_ends_the_boosting_with_the_rounds_it_has(kind, planted):
    member = fit(kind, planted.examples, 100_000, budget_s=0.2)
    assert 0 < member.rounds < 100_000
    assert member.card()["stopped_by"] == "budget"
    assert planted.auc(member.margin(planted.examples.inputs, planted.later_ends)) > 0.6


def test_a_budget_that_is_spent_still_leaves_a_model(kind, planted):
    assert fit(kind, planted.examples, 50, budget_s=0.0).rounds == 1


def test_patience_counts_from_the_best_round():
    progress = Progress(BoostingRecipe(1000, seed=1, threads=1))
    losses = [1.0, 0.9, 0.95, 0.8, *[0.85] * STOP_PATIENCE]
    ended = next(n for n, loss in enumerate(losses, start=1) if progress.seen(n, loss))
    assert (ended, progress.best_round, progress.stopped_by) == (4 + STOP_PATIENCE, 4, "patience")
    assert progress.facts() == {"stopped_by": "patience", "validation_loss": 0.8}


# What a day's luck teaches


@pytest.fixture(scope="module")
def lucky_days():
    """Whole days rise or fall, and ``weather`` differs from day to day: of a stock's standing nothing can be known."""
    rng = np.random.default_rng(2)
    session = np.repeat(np.arange(60), 80)
    luck = rng.normal(0, 1.5, 60)[session]
    label = (rng.random(len(session)) < 1 / (1 + np.exp(1 - luck))).astype(np.float32)
    tabular = np.column_stack([luck + rng.normal(0, 0.3, len(session)), np.zeros(len(session))]).astype(np.float32)
    inputs = Inputs(tabular, ("weather", "code"), ("code",), np.zeros((len(session), 30), np.float32), session)
    ends = np.arange(len(session))
    return Examples(inputs, ends, label, ends, label, offset=session_offset(label, session).astype(np.float32))


def slope_inside_sessions(member, examples) -> float:
    """Return by how much the margin rises with the weather among the stocks of a session."""
    x, margin = examples.inputs.tabular[:, 0].astype(float), member.margin(examples.inputs, examples.ends)
    standing, weather = (parts(values, examples.inputs.session)[1] for values in (margin, x))
    return float((standing * weather).sum() / (weather**2).sum())


def test_a_days_luck_teaches_nothing_about_a_stock(kind, lucky_days):
    pooled, standing = (
        slope_inside_sessions(fit(kind, lucky_days, learns_level=level), lucky_days) for level in (True, False)
    )
    assert pooled > 0.6, "the pooled one takes the weather for where a stock stands"
    assert abs(standing) < 0.1 * pooled


def test_who_learns_the_level_follows_the_days_and_who_learns_the_standing_does_not(kind, lucky_days):
    level, standing = (
        parts(
            fit(kind, lucky_days, learns_level=level).margin(lucky_days.inputs, lucky_days.ends),
            lucky_days.inputs.session,
        )[0]
        for level in (True, False)
    )
    assert np.corrcoef(level, lucky_days.offset)[0, 1] > 0.9
    assert np.std(standing) < 0.25 * np.std(level)


def test_who_learns_the_level_takes_no_note_of_offsets(kind, lucky_days):
    with_offset = fit(kind, lucky_days, 10, learns_level=True)
    without = fit(kind, replace(lucky_days, offset=None), 10)
    inputs, ends = lucky_days.inputs, lucky_days.ends
    np.testing.assert_array_equal(with_offset.margin(inputs, ends), without.margin(inputs, ends))
    assert with_offset.card()["learns_level"]


def test_an_offset_moves_what_is_learnt_and_never_what_is_said(kind, lucky_days):
    """What it says has the mean rate once: neither left out nor counted twice."""
    member = fit(kind, lucky_days, 150)
    margin = member.margin(lucky_days.inputs, lucky_days.ends)
    assert abs(margin.mean() - np.log(lucky_days.label.mean() / (1 - lucky_days.label.mean()))) < 0.3
