import ast
import math
from pathlib import Path

import pytest

import kstock_batch.bot
from kstock_batch.bot.results import (
    PredictionResult,
    format_ml_prediction,
    score_bonus,
    should_recommend,
    signal_label,
)


@pytest.mark.parametrize(
    ("probability", "label"),
    [
        (1.0, "STRONG_BUY"),
        (0.80, "STRONG_BUY"),
        (0.7999999, "BUY"),
        (0.65, "BUY"),
        (0.6499999, "NEUTRAL"),
        (0.50, "NEUTRAL"),
        (0.4999999, "AVOID"),
        (0.0, "AVOID"),
    ],
)
def test_an_edge_belongs_to_the_label_above_it(probability, label):
    assert signal_label(probability) == label


@pytest.mark.parametrize(
    ("probability", "bonus"),
    [
        (1.0, 15),
        (0.80, 15),
        (0.7999999, 10),
        (0.70, 10),
        (0.6999999, 5),
        (0.60, 5),
        (0.5999999, 0),
        (0.50, 0),
        (0.4999999, -10),
        (0.0, -10),
    ],
)
def test_an_edge_belongs_to_the_bonus_above_it(probability, bonus):
    assert score_bonus(probability) == bonus


@pytest.mark.parametrize(
    ("strategy", "lowest"),
    [("A", 0.60), ("D", 0.60), ("F", 0.65), ("G", 0.65)],
)
def test_strategies_with_a_threshold_take_what_reaches_it(strategy, lowest):
    assert should_recommend(strategy, lowest)
    assert not should_recommend(strategy, lowest - 1e-9)


@pytest.mark.parametrize("strategy", ["B", "C", "E", "H", "", "a", "AB"])
def test_every_other_code_passes(strategy):
    assert should_recommend(strategy, 0.0)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            PredictionResult(0.85, "STRONG_BUY", [("rsi", 0.25), ("volume_ratio", 0.181), ("vix", -0.126)]),
            "[>>>>>>>>--] 85.0%  ML: 강한 매수 신호\n"
            "  ML 점수 보정: +15점\n"
            "  주요 근거: rsi(0.25), volume_ratio(0.18), vix(-0.13)",
        ),
        (PredictionResult(0.70, "BUY", []), "[>>>>>>>---] 70.0%  ML: 매수 우호\n  ML 점수 보정: +10점"),
        (PredictionResult(0.61, "NEUTRAL", []), "[>>>>>>----] 61.0%  ML: 중립\n  ML 점수 보정: +5점"),
        (PredictionResult(0.55, "NEUTRAL", []), "[>>>>>>----] 55.0%  ML: 중립"),
        (
            PredictionResult(0.55, "NEUTRAL", [("rsi", 0.1)]),
            "[>>>>>>----] 55.0%  ML: 중립\n  주요 근거: rsi(0.10)",
        ),
        (PredictionResult(0.35, "AVOID", []), "[>>>>------] 35.0%  ML: 비추천\n  ML 점수 보정: -10점"),
        (PredictionResult(0.0, "AVOID", []), "[----------] 0.0%  ML: 비추천\n  ML 점수 보정: -10점"),
        (PredictionResult(1.0, "STRONG_BUY", []), "[>>>>>>>>>>] 100.0%  ML: 강한 매수 신호\n  ML 점수 보정: +15점"),
    ],
)
def test_the_message_is_the_bots_byte_for_byte(result, message):
    assert format_ml_prediction(result).encode() == message.encode()


@pytest.mark.parametrize(
    ("probability", "filled"),
    [
        *((0.0, 0), (0.04999, 0), (0.05, 0), (0.0500001, 1), (0.1, 1), (0.15, 2), (0.25, 2), (0.35, 4), (0.45, 4)),
        *((0.5, 5), (0.55, 6), (0.65, 6), (0.75, 8), (0.85, 8), (0.9499, 9), (0.95, 10), (0.951, 10), (1.0, 10)),
    ],
)
def test_the_bar_rounds_as_python_rounds(probability, filled):
    """A half goes to the even number, and 0.55 is more than a half in binary."""
    result = PredictionResult(probability, signal_label(probability))
    assert format_ml_prediction(result)[:13] == "[" + ">" * filled + "-" * (10 - filled) + "] "


@pytest.mark.parametrize(
    ("probability", "percent"),
    [(0.0, "0.0%"), (0.00049, "0.0%"), (0.0005, "0.1%"), (0.12345, "12.3%"), (0.8125, "81.2%"), (0.9996, "100.0%")],
)
def test_the_percentage_has_one_decimal_and_two_spaces_after_it(probability, percent):
    line = format_ml_prediction(PredictionResult(probability, signal_label(probability))).splitlines()[0]
    assert line[13:].split("  ")[0] == percent
    assert line.count("  ") == 1


@pytest.mark.parametrize("edge", [0.80, 0.70, 0.65, 0.60, 0.50])
def test_no_float_lies_between_an_edge_and_what_is_below_it(edge):
    below = math.nextafter(edge, 0)
    assert (signal_label(edge), score_bonus(edge)) != (signal_label(below), score_bonus(below))
    assert should_recommend("A", edge) == (edge >= 0.60)
    assert should_recommend("G", edge) == (edge >= 0.65)
    assert should_recommend("D", below) == (edge > 0.60)
    assert should_recommend("F", below) == (edge > 0.65)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.255, "0.26"), (0.125, "0.12"), (-0.005, "-0.01"), (0.0, "0.00"), (-1.5, "-1.50"), (3, "3.00")],
)
def test_a_contribution_has_two_decimals(value, shown):
    result = PredictionResult(0.55, "NEUTRAL", [("rsi", value), ("vix", 0.1)])
    assert format_ml_prediction(result).splitlines()[1:] == [f"  주요 근거: rsi({shown}), vix(0.10)"]


def test_the_label_that_is_shown_is_the_results_own():
    assert (
        format_ml_prediction(PredictionResult(0.9, "AVOID")) == "[>>>>>>>>>-] 90.0%  ML: 비추천\n  ML 점수 보정: +15점"
    )


def test_a_result_is_made_by_position_and_not_explained_unless_told():
    first, second = PredictionResult(0.7, "BUY"), PredictionResult(0.7, "BUY")
    assert (first.probability, first.label, first.shap_top3) == (0.7, "BUY", [])
    assert first == second == PredictionResult(probability=0.7, label="BUY", shap_top3=[])
    assert first.shap_top3 is not second.shap_top3


@pytest.mark.parametrize("path", sorted(Path(kstock_batch.bot.__file__).parent.glob("*.py")), ids=lambda p: p.stem)
def test_the_bots_modules_keep_to_the_syntax_of_python_3_9(path):
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
