"""Outcomes: what matured is judged once it is known, and again when it changes; a verdict that luck does not give."""

import json
import re
from datetime import date, datetime, timedelta
from math import log

import numpy as np
import polars as pl
import pytest

from factories import asked_json, copy_root, done, opened, read_folder, store_rows, write_folder
from hand_store import hand_store, prices, put, weekdays
from kstock_batch.judging.drift import DriftLimits, judge_drift, sessions_judged
from kstock_batch.judging.drift_verdict import newest_verdict, verdict_of
from kstock_batch.judging.metrics import skill
from kstock_batch.judging.outcomes import judge_due_sessions
from kstock_batch.judging.verdicts import give_verdict
from kstock_batch.learners.calibration import sigmoid
from kstock_batch.registry import Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import recorded_run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import insert_rows

DAYS = weekdays(date(2024, 1, 1), 100)
NOON = datetime(2024, 6, 28, 3)
FOUR = {"000010": (0.8, 1), "000020": (0.6, 0), "000030": (0.4, 1), "000040": (0.2, 0)}


WRITTEN = (
    *("prediction", "label_daily", "floor_prediction", "outcome_due", "early_return", "scorecard", "scorecard_decile"),
    *("model_promise", "drift", "audit_result", "raw_price", "price_action"),
)


@pytest.fixture(scope="module")
def _hand(tmp_path_factory):
    with hand_store(tmp_path_factory.mktemp("hand"), DAYS) as warehouse:
        yield warehouse


@pytest.fixture
def hand(_hand):
    """A store of a calendar and nothing else; making one anew takes half a second."""
    for table in WRITTEN:
        _hand.con.execute(f"DELETE FROM {table}")
    return _hand


def predict(warehouse, day, said, *, version="model-1", floor=0.5, base=0.25, known_on=None, fwd=0.0):
    """Put a session's predictions, as ticker -> (probability, outcome or None), with its mark."""
    keys = {"ticker": list(said), "as_of": [day] * len(said)}
    n = len(said)
    row = {
        **keys,
        "probability": [p for p, _ in said.values()],
        "rank": list(range(1, n + 1)),
        **{name: [0.5] * n for name in ("signal", "lift", "percentile")},
        "base_rate": [base] * n,
        "score_bonus": [0] * n,
        **{name: ["x"] * n for name in ("label", "fingerprint", "run_id")},
        "model_version": [version] * n,
        "scored_at": [NOON] * n,
    }
    insert_rows(warehouse.con, "prediction", pl.DataFrame(row), order="ticker")
    known = {ticker: outcome for ticker, (_, outcome) in said.items() if outcome is not None}
    labels = pl.DataFrame(
        {"ticker": list(known), "as_of": [day] * len(known), "forward_return": [fwd] * len(known)}
        | {"label_5d": list(known.values()), "is_delisted": [False] * len(known)}
        | {"known_on": [known_on or day + timedelta(days=7)] * len(known)},
        schema_overrides={"ticker": pl.String, "label_5d": pl.UInt8, "is_delisted": pl.Boolean},
    )
    insert_rows(warehouse.con, "label_daily", labels, order="ticker")
    if floor is not None:
        floors = pl.DataFrame({**keys, "atr_pct": np.arange(float(n)), "volatility": np.full(n, floor)})
        insert_rows(warehouse.con, "floor_prediction", floors, order="ticker")
    mark(warehouse, day)


def mark(warehouse, day):
    warehouse.con.execute("INSERT INTO outcome_due VALUES ($day, 'test')", {"day": day})


def judge(warehouse, known_through=DAYS[-1]):
    with recorded_run(warehouse, "score", at=NOON) as run:
        return judge_due_sessions(warehouse, run, known_through=known_through, basis="adjusted")


def asked(warehouse, statement, **params):
    return warehouse.con.execute(statement, params).fetchall()


def cards(warehouse, columns="*"):
    return asked(warehouse, f"SELECT {columns} FROM scorecard ORDER BY as_of")


# The scorecard of a session


def test_a_session_is_scored_as_worked_out_by_hand(hand):
    predict(hand, DAYS[0], FOUR)
    assert judge(hand) == 4
    names = ("n_predictions", "n", "n_hits", "probability_sum", "log_loss_sum", "brier_sum", "base_log_loss_sum")
    more = ("base_brier_sum", "floor_log_loss_sum", "floor_brier_sum", "auc")
    found = dict(zip((*names, *more), cards(hand, ", ".join((*names, *more)))[0], strict=True))
    assert found == pytest.approx(
        {"n_predictions": 4, "n": 4, "n_hits": 2, "probability_sum": 2.0, "auc": 3 / 4}
        | {"log_loss_sum": -2 * (log(0.8) + log(0.4)), "brier_sum": 0.04 + 0.36 + 0.36 + 0.04}
        | {"base_log_loss_sum": -2 * (log(0.25) + log(0.75)), "base_brier_sum": 2 * 0.75**2 + 2 * 0.25**2}
        | {"floor_log_loss_sum": 4 * log(2), "floor_brier_sum": 1.0}
    )
    assert asked(hand, "SELECT decile, n, n_hits, probability_sum FROM scorecard_decile ORDER BY decile") == [
        (1, 1, 0, 0.2),
        (3, 1, 1, 0.4),
        (6, 1, 0, 0.6),
        (8, 1, 1, 0.8),
    ]
    assert asked(hand, "FROM outcome_due") == []


def test_a_prediction_without_an_outcome_counts_as_a_prediction_only(hand):
    predict(hand, DAYS[0], FOUR | {"000050": (0.9, None)})
    judge(hand)
    assert cards(hand, "n_predictions, n, n_hits") == [(5, 4, 2)]


def test_a_session_of_one_outcome_has_no_auc_and_all_the_rest(hand):
    predict(hand, DAYS[0], {ticker: (p, 0) for ticker, (p, _) in FOUR.items()})
    judge(hand)
    assert cards(hand, "n_hits, auc, auc_vol_sum, n_auc_vol") == [(0, None, 0.0, 0)]
    told = asked(hand, "SELECT hit_rate, lift, auc_day, auc_day_vol FROM running_scorecard WHERE span = 'all'")
    assert set(told) == {(0.0, None, None, None)}


def test_a_night_that_kept_no_floor_is_judged_without_one(hand):
    predict(hand, DAYS[0], FOUR, floor=None)
    predict(hand, DAYS[1], FOUR)
    judge(hand)
    assert [floor is None for (floor,) in cards(hand, "floor_brier_sum")] == [True, False]
    told = asked(hand, "SELECT brier_skill_vol_pct, brier_skill_pct FROM running_scorecard WHERE span = 'all'")
    assert told[0] == pytest.approx((100 * (1 - 0.8 / 1.0), 100 * (1 - 0.8 / 1.25)))


def test_nothing_due_is_nothing_judged(hand):
    assert judge(hand) == 0
    assert (cards(hand), asked(hand, "FROM running_scorecard"), asked(hand, "FROM running_decile")) == ([], [], [])


def test_a_session_whose_predictions_are_gone_has_no_scorecard(hand):
    predict(hand, DAYS[0], FOUR)
    hand.con.execute("DELETE FROM prediction")
    assert judge(hand) == 0
    assert (cards(hand), asked(hand, "FROM outcome_due")) == ([], [])


# When a session is judged


def test_a_prediction_whose_outcome_is_not_known_yet_is_never_judged(hand):
    predict(hand, DAYS[0], FOUR, known_on=DAYS[5])
    assert judge(hand, known_through=DAYS[4]) == 0
    assert (cards(hand), asked(hand, "FROM early_return")) == ([], [])
    assert asked(hand, "SELECT as_of FROM outcome_due") == [(DAYS[0],)]
    predict(hand, DAYS[1], FOUR, known_on=DAYS[6])
    assert judge(hand, known_through=DAYS[5]) == 4
    assert cards(hand, "as_of") == [(DAYS[0],)]
    assert asked(hand, "SELECT as_of FROM outcome_due") == [(DAYS[1],)]


def test_of_two_labels_of_a_session_only_the_one_that_is_known_is_judged(hand):
    predict(hand, DAYS[0], FOUR, known_on=DAYS[5])
    hand.con.execute("UPDATE label_daily SET known_on = $day WHERE ticker = '000010'", {"day": DAYS[9]})
    assert judge(hand, known_through=DAYS[5]) == 0
    assert judge(hand, known_through=DAYS[9]) == 4


def test_a_corrected_label_is_judged_anew_and_replaces_what_was_said(hand):
    predict(hand, DAYS[0], FOUR)
    judge(hand)
    before = cards(hand, "* EXCLUDE (run_id, judged_at)")
    mark(hand, DAYS[0])
    judge(hand)
    assert cards(hand, "* EXCLUDE (run_id, judged_at)") == before
    hand.con.execute("UPDATE label_daily SET label_5d = 1 WHERE ticker = '000020'")
    judge(hand)
    assert cards(hand, "* EXCLUDE (run_id, judged_at)") == before, "nobody marked it"
    mark(hand, DAYS[0])
    judge(hand)
    assert cards(hand, "n_hits, auc") == [(3, 1.0)]
    assert asked(hand, "SELECT sum(n), sum(n_hits) FROM scorecard_decile") == [(4, 3)]


def test_a_session_scored_again_by_another_model_is_that_models(hand):
    predict(hand, DAYS[0], FOUR)
    judge(hand)
    hand.con.execute("UPDATE prediction SET model_version = 'model-2'")
    mark(hand, DAYS[0])
    judge(hand)
    assert cards(hand, "as_of, model_version") == [(DAYS[0], "model-2")]


def test_a_session_whose_outcomes_are_gone_has_no_scorecard_any_more(hand):
    predict(hand, DAYS[0], FOUR)
    judge(hand)
    hand.con.execute("DELETE FROM label_daily")
    mark(hand, DAYS[0])
    judge(hand)
    assert (cards(hand), asked(hand, "FROM scorecard_decile")) == ([], [])


def test_a_failure_in_the_middle_changes_nothing(hand, monkeypatch):
    predict(hand, DAYS[0], FOUR)
    judge(hand)
    mark(hand, DAYS[0])
    hand.con.execute("UPDATE label_daily SET label_5d = 0")
    before = cards(hand)
    monkeypatch.setattr("kstock_batch.judging.outcomes.scorecards", lambda judged: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        judge(hand)
    assert cards(hand) == before
    assert asked(hand, "SELECT as_of FROM outcome_due") == [(DAYS[0],)]


def test_a_store_of_before_outcomes_has_all_its_sessions_due(tmp_path):
    from kstock_batch.store import migrations
    from kstock_batch.store import warehouse as store

    steps = migrations._migrations()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "_migrations", lambda: steps[:3])
        patch.setattr(store, "install_catalogue", lambda con: None)  # today's views need today's columns
        with hand_store(tmp_path, DAYS[:3]) as warehouse:
            warehouse.con.execute(
                "INSERT INTO prediction SELECT as_of, 'a', 0.5, 0.5, 'x', 0, 0.2, 1, 1, 1, NULL, NULL, NULL, 'm', 'f',"
                " 'r', now()::TIMESTAMP, '[]' FROM (VALUES (DATE '2024-01-01'), (DATE '2024-01-02')) AS day (as_of)"
            )
    with opened_again(tmp_path) as warehouse:
        assert asked(warehouse, "SELECT as_of FROM outcome_due ORDER BY ALL") == [(DAYS[0],), (DAYS[1],)]


def opened_again(root):
    from kstock_batch.store.warehouse import Warehouse

    return Warehouse.open(Settings(root=root))


# Before the horizon


def test_returns_after_one_and_three_sessions_stand_beside_the_prediction(hand):
    put(hand, "raw_price", prices("000010", DAYS[:6], [100, 101, 102, 99, 100, 103]))
    put(hand, "raw_price", prices("000020", DAYS[:6], [100, None, -100, 110, 100, 103]))  # no row, then a halt
    put(hand, "raw_price", prices("000030", DAYS[1:6], [100, 101, 102, 99, 100]))  # nothing to measure from
    predict(hand, DAYS[0], FOUR)
    judge(hand)
    found = asked(hand, "SELECT ticker, return_1d, return_3d FROM judged_prediction ORDER BY ticker")
    assert {ticker: values for ticker, *values in found} == {
        "000010": pytest.approx([0.01, -0.01]),
        "000020": pytest.approx([0.0, 0.10]),
        "000030": [None, None],
        "000040": [None, None],
    }
    told = asked(
        hand, "SELECT decile, return_1d_pct, return_3d_pct FROM running_decile WHERE span = 'all' ORDER BY ALL"
    )
    assert next(row for row in told if row[0] == 8) == pytest.approx((8, 1.0, -1.0))
    assert next(row[1:] for row in told if row[0] == 1) == (None, None)


def test_a_split_is_no_return(hand):
    rows = [row | {"price_basis": "raw"} for row in prices("000010", DAYS[:6], [100, 50, 51, 52, 53, 54])]
    put(hand, "raw_price", rows)
    action = {"ticker": "000010", "session": DAYS[1], "factor": 0.5, "cumulative": 0.5, "evidence": "stated"}
    insert_rows(hand.con, "price_action", pl.DataFrame([action]), order="1")
    predict(hand, DAYS[0], FOUR)
    with recorded_run(hand, "score", at=NOON) as run:
        judge_due_sessions(hand, run, known_through=DAYS[-1], basis="raw")
    assert asked(hand, "SELECT return_1d, return_3d FROM early_return") == [pytest.approx((0.0, 0.04))]


# Running scorecards


@pytest.fixture(scope="module")
def many():
    """Thirty sessions of 40 stocks as one table, two models one after the other."""
    rng = np.random.default_rng(3)
    n = 30 * 40
    session = np.repeat(np.arange(30), 40)
    p = rng.uniform(0.05, 0.6, n)
    return pl.DataFrame(
        {
            "session": session,
            "ticker": [f"{i % 40:06d}" for i in range(n)],
            "p": p,
            "y": (rng.uniform(size=n) < p).astype(np.uint8),
            "atr": rng.gamma(4, 1, n),
            "vol": rng.uniform(0.1, 0.5, n),
        }
    )


@pytest.fixture(scope="module")
def judged(tmp_path_factory, many):
    with hand_store(tmp_path_factory.mktemp("judged"), DAYS) as warehouse:
        for (number,), part in many.partition_by("session", as_dict=True).items():
            day, version = DAYS[number], "model-1" if number < 22 else "model-2"
            said = dict(zip(part["ticker"], zip(part["p"], part["y"], strict=True), strict=True))
            predict(warehouse, day, said, version=version, floor=None)
            floors = part.select("ticker", as_of=pl.lit(day), atr_pct="atr", volatility="vol")
            insert_rows(warehouse.con, "floor_prediction", floors, order="ticker")
        warehouse.con.execute(
            "INSERT INTO model_promise VALUES ('model-2', 140, 0.47, 0.48, 4.7, 1.2, 0.64, 0.58, 2.1)"
        )
        judge(warehouse)
        yield warehouse


@pytest.mark.parametrize(
    ("version", "span", "first", "last"),
    [
        ("every version", "all", 0, 30),
        ("every version", "last 20", 10, 30),
        ("every version", "last 60", 0, 30),
        ("model-1", "last 20", 2, 22),
        ("model-1", "all", 0, 22),
        ("model-2", "last 20", 22, 30),
    ],
)
def test_a_running_scorecard_is_the_skill_table_of_its_rows(judged, many, version, span, first, last):
    rows = many.filter(pl.col("session").is_between(first, last, closed="left"))
    p, y, vol, atr, session = (rows[name].cast(pl.Float64).to_numpy() for name in ("p", "y", "vol", "atr", "session"))
    wanted = skill(p, y, session.astype(np.int64), 0.25, atr_pct=atr, volatility=vol)
    query = "SELECT * FROM running_scorecard WHERE model_version = $version AND span = $span"
    (found,) = judged.con.sql(query, params={"version": version, "span": span}).pl().to_dicts()
    told = ("log_loss", "brier_skill_pct", "brier_skill_vol_pct", "auc_day", "auc_day_vol", "lift")
    assert {name: found[name] for name in told} == pytest.approx({name: getattr(wanted, name) for name in told})
    assert (found["n_sessions"], found["n"]) == (last - first, rows.height)
    assert (found["first_session"], found["last_session"]) == (DAYS[first], DAYS[last - 1])
    assert found["hit_rate"] == pytest.approx(y.mean())
    assert found["forecast"] == pytest.approx(p.mean())


def test_hit_rates_by_decile_add_up_to_all_predictions(judged, many):
    query = (
        "SELECT decile, n, forecast, hit_rate FROM running_decile WHERE model_version LIKE 'every%' AND span = 'all'"
    )
    found = judged.con.sql(f"{query} ORDER BY decile").pl()
    assert found["decile"].to_list() == list(range(1, 11))
    assert found["n"].to_list() == [120] * 10
    assert found["forecast"].is_sorted()
    assert (found["n"] * found["hit_rate"]).sum() == pytest.approx(many["y"].sum())
    error = (found["n"] * (found["forecast"] - found["hit_rate"]).abs()).sum() / 1200
    told = asked(
        judged, "SELECT decile_error_pct FROM running_scorecard WHERE span = 'all' AND model_version LIKE 'e%'"
    )
    assert told[0][0] == pytest.approx(100 * error)


def test_a_promise_stands_beside_what_was_kept_of_it(judged):
    told = "SELECT promised_auc_day, promised_log_loss, promised_floor_log_loss FROM running_scorecard"
    assert asked(judged, f"{told} WHERE model_version = 'model-2' AND span = 'all'") == [
        pytest.approx((0.64, 0.47, 0.48))
    ]
    assert asked(judged, f"{told} WHERE model_version = 'model-1' AND span = 'all'") == [(None, None, None)]


# The verdict


def card_rows(n=60, *, version="model-1", seed=1, loss=0.0, auc=0.0, brier=0.0, **changed):
    """Return scorecards of a model that keeps its promise but for noise, and but for what is added to each session."""
    rng = np.random.default_rng(seed)
    noise, moods = rng.normal(0, 1, n), rng.uniform(0.4, 0.6, n)
    return pl.DataFrame(
        {
            "as_of": DAYS[:n],
            "model_version": [version] * n,
            "n": [1000] * n,
            "log_loss_sum": 1000 * (moods - 0.01 + loss + 0.005 * noise),
            "floor_log_loss_sum": 1000 * moods,
            "brier_sum": 1000 * (0.16 + brier + 0.002 * noise),
            "base_brier_sum": [170.0] * n,
            "floor_brier_sum": [164.0] * n,
            "auc": 0.6 + auc + 0.03 * rng.normal(0, 1, n),
            "promised_gain": [0.01] * n,
            "promised_auc": [0.6] * n,
            "n_promised": [140] * n,
        }
    ).with_columns(**changed)


def forecasts(cards, *, steep=1.0, shift=0.0, seed=4):
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(cards.height), 300)
    odds = rng.normal(-1.2, 0.6, day.size)
    said = sigmoid(-1.2 + steep * (odds + 1.2) + shift)
    y = (rng.uniform(size=day.size) < sigmoid(odds)).astype(np.uint8)
    return pl.DataFrame({"as_of": cards["as_of"][day], "probability": said, "label_5d": y})


def verdict(cards, *, rows=None, warned=()):
    chosen = sessions_judged(cards, "model-1", DriftLimits())
    told = forecasts(chosen) if rows is None else rows
    return judge_drift(
        DAYS[-1], "model-1", chosen, told.filter(pl.lit(bool(chosen.height))), list(warned), limits=DriftLimits()
    )


def states(found):
    return {check.name: check.state for check in found.checks if check.state != "ok"}


def test_a_model_that_is_what_it_promised_is_ok():
    found = verdict(card_rows())
    assert found.state == "ok"
    assert len(found.checks) == 6
    assert found.sentence == f"model-1 is ok on 60 matured sessions, {DAYS[0]} … {DAYS[59]}"


@pytest.mark.parametrize("seed", range(20))
def test_luck_is_no_drift(seed):
    assert verdict(card_rows(seed=seed), rows=forecasts(card_rows(), seed=seed)).state != "drifted"


@pytest.mark.parametrize(
    ("changed", "name", "says"),
    [
        ({"loss": 0.02}, "log_loss_promised", "its log-loss below the volatility floor is 0.0"),
        ({"auc": -0.1}, "auc_promised", "its AUC within the session is 0."),
        ({"brier": 0.02}, "brier_over_base", "its Brier score is 0.0"),
        ({"brier": 0.006}, "brier_over_floor", "worse than the volatility floor's"),
    ],
)
def test_a_model_that_is_worse_than_it_should_be_has_drifted_and_the_verdict_says_by_how_much(changed, name, says):
    found = verdict(card_rows(**changed))
    assert states(found)[name] == "drifted"
    assert found.state == "drifted"
    assert says in found.sentence
    assert "drifted from 0.998 on" in found.sentence


def test_a_model_that_is_somewhat_worse_is_watched():
    found = verdict(card_rows(auc=-0.011))
    assert states(found) == {"auc_promised": "watch"}
    assert found.state == "watch"
    assert "watch from 0.98 on" in found.sentence


@pytest.mark.parametrize(("steep", "shift", "name"), [(3, 0, "calibration_error_pct"), (1, 1, "mean_error_pct")])
def test_probabilities_that_do_not_come_true_have_drifted(steep, shift, name):
    cards = card_rows()
    found = verdict(cards, rows=forecasts(cards, steep=steep, shift=shift))
    assert states(found)[name] == "drifted"


@pytest.mark.parametrize(
    ("warned", "state"),
    [([0] * 5, "ok"), ([1, 1, 1, 1, 0], "ok"), ([1] * 5, "watch"), ([6, 0, 0, 0, 0], "watch"), ([7] * 5, "drifted")],
)
def test_features_that_lie_otherwise_for_a_week_are_told(warned, state):
    assert verdict(card_rows(), warned=warned).state == state


def test_too_few_matured_sessions_are_no_verdict_but_the_features_are_looked_at():
    found = verdict(card_rows(19, auc=-0.3))
    assert (found.state, found.n_sessions, found.checks) == ("ok", 0, ())
    assert found.sentence == "model-1 is ok on too few matured sessions to judge by"
    assert verdict(card_rows(20, auc=-0.3)).state == "drifted"
    assert verdict(card_rows(0), warned=[20] * 5).state == "drifted"


def test_a_champion_is_judged_by_its_own_sessions_once_there_are_enough():
    bad, good = card_rows(40, version="model-0", auc=-0.2), card_rows(60).tail(20)
    assert verdict(pl.concat([bad, good])).n_sessions == 20
    assert verdict(pl.concat([bad, good])).state == "ok"
    young = verdict(pl.concat([bad, good.head(19)]))
    assert (young.n_sessions, young.state != "ok") == (59, True)


def test_a_promise_of_a_few_sessions_is_held_against_nobody():
    cards = card_rows(auc=-0.02)
    assert states(verdict(cards)) == {"auc_promised": "drifted"}
    assert states(verdict(cards.with_columns(n_promised=pl.lit(5)))) == {}


def test_nights_without_floor_and_promise_are_judged_by_the_rest():
    unknown = pl.lit(None, dtype=pl.Float64)
    names = ("floor_log_loss_sum", "floor_brier_sum", "promised_gain", "promised_auc")
    found = verdict(card_rows(**dict.fromkeys(names, unknown)))
    assert [check.name for check in found.checks] == ["brier_over_base", "calibration_error_pct", "mean_error_pct"]


def test_a_model_that_never_errs_otherwise_is_judged_without_a_warning():
    same = card_rows().with_columns(auc=pl.lit(0.5))
    assert states(verdict(same))["auc_promised"] == "drifted"


def test_a_night_knows_no_outcome_of_later(judged):
    with recorded_run(judged, "score", at=NOON) as run:
        early = give_verdict(judged, run, as_of=DAYS[25], model_version="model-1")
        late = give_verdict(judged, run, as_of=DAYS[-1], model_version="model-2")
    assert (early.n_sessions, early.last_session) == (21, DAYS[20])  # DAYS[21] is known seven days later
    assert (late.n_sessions, late.last_session) == (30, DAYS[29])
    assert newest_verdict(judged.con, DAYS[24]) is None
    assert newest_verdict(judged.con, DAYS[26]) == early
    assert newest_verdict(judged.con, DAYS[-1]) == late


def test_a_night_that_runs_twice_gives_one_verdict_and_it_can_be_read_back(judged):
    with recorded_run(judged, "score", at=NOON) as run:
        first = give_verdict(judged, run, as_of=DAYS[-1], model_version="model-2")
        assert give_verdict(judged, run, as_of=DAYS[-1], model_version="model-2") == first
    (row,) = judged.con.sql("FROM drift WHERE as_of = $day", params={"day": DAYS[-1]}).pl().to_dicts()
    assert verdict_of(row) == first
    assert (row["state"], row["sentence"]) == (first.state, first.sentence)


def test_a_night_scored_again_later_keeps_the_verdict_that_it_could_know(judged):
    with recorded_run(judged, "score", at=NOON) as run:
        judged.con.execute("DELETE FROM drift WHERE as_of > $day", {"day": DAYS[25]})
        early = give_verdict(judged, run, as_of=DAYS[25], model_version="model-1")
        give_verdict(judged, run, as_of=DAYS[-1], model_version="model-2")
        give_verdict(judged, run, as_of=DAYS[25], model_version="model-2")
    assert newest_verdict(judged.con, DAYS[26]) == early


def test_a_degraded_session_says_nothing_about_the_model(hand):
    for day in DAYS[:3]:
        predict(hand, day, FOUR)
    judge(hand)
    hand.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = $day", {"day": DAYS[1]})
    served = Query.load("judging/served_card").frame(hand.con, as_of=DAYS[-1], n=60)
    assert served["as_of"].to_list() == [DAYS[2], DAYS[0]]


def test_a_degraded_session_counts_in_no_running_scorecard_until_it_is_scored_soundly(hand):
    wrong = {ticker: (p, 1 - outcome) for ticker, (p, outcome) in FOUR.items()}
    for day, said in zip(DAYS[:3], (FOUR, wrong, FOUR), strict=True):
        predict(hand, day, said)
    judge(hand)
    spans = "SELECT DISTINCT n_sessions, first_session, last_session, n, auc_day FROM running_scorecard"
    deciles = "SELECT DISTINCT n_sessions FROM running_decile"
    assert asked(hand, spans) == [(3, DAYS[0], DAYS[2], 12, pytest.approx((0.75 + 0.25 + 0.75) / 3))]
    hand.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = $day", {"day": DAYS[1]})
    assert asked(hand, spans) == [(2, DAYS[0], DAYS[2], 8, 0.75)]
    assert asked(hand, deciles) == [(2,)]
    hand.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = $day", {"day": DAYS[2]})
    assert asked(hand, spans) == [(1, DAYS[0], DAYS[0], 4, 0.75)]
    hand.con.execute("UPDATE prediction SET degraded_why = NULL")
    assert asked(hand, deciles) == [(3,)]


def test_a_judged_prediction_says_whether_its_session_was_degraded(hand):
    predict(hand, DAYS[0], FOUR)
    predict(hand, DAYS[1], FOUR)
    hand.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = $day", {"day": DAYS[1]})
    told = asked(hand, "SELECT as_of, degraded_why, count(*) FROM judged_prediction GROUP BY ALL ORDER BY ALL")
    assert told == [(DAYS[0], None, 4), (DAYS[1], "freshness", 4)]


def test_the_audits_of_a_degraded_session_are_not_held_against_the_model(hand):
    for day in DAYS[:3]:
        predict(hand, day, FOUR)
        hand.con.execute(
            "INSERT INTO audit_result VALUES ($day, 'feature_daily_drift', 'warn', 1, '[]', 'r', $noon)",
            {"day": day, "noon": NOON},
        )
    hand.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE as_of = $day", {"day": DAYS[1]})
    warned = Query.load("judging/warned_feature").frame(hand.con, as_of=DAYS[-1], n=5)
    assert warned["as_of"].to_list() == [DAYS[2], DAYS[0]]


def test_the_audits_of_five_sessions_are_counted(hand):
    for day, n in zip(DAYS[:7], (9, 9, 1, 2, 3, 4, 26), strict=True):
        hand.con.execute(
            "INSERT INTO audit_result VALUES ($day, 'feature_daily_drift', 'warn', $n, '[]', 'r', $noon),"
            " ($day, 'source_freshness', 'warn', 99, '[]', 'r', $noon)",
            {"day": day, "n": n, "noon": NOON},
        )
    with recorded_run(hand, "score", at=NOON) as run:
        found = give_verdict(hand, run, as_of=DAYS[5], model_version="m")
    assert [check.value for check in found.checks] == pytest.approx([100 * (9 + 1 + 2 + 3 + 4) / (26 * 5)])


# Whole nights


@pytest.fixture(scope="module")
def _scored(_trained, tmp_path_factory):
    root = copy_root(_trained, tmp_path_factory.mktemp("scored"))
    days = [day for (day,) in store_rows(root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")]
    done(root, "score", "--from", days[-7])
    return root, days


@pytest.fixture
def scored(_scored, tmp_path):
    """A root on which seven sessions were scored, two of which have matured, and its sessions."""
    return copy_root(_scored[0], tmp_path / "root"), _scored[1]


def test_a_night_judges_what_matured_and_publishes_it(scored):
    root, days = scored
    assert store_rows(root, "SELECT as_of FROM scorecard ORDER BY 1") == [(days[-7],), (days[-6],)]
    assert store_rows(root, "SELECT DISTINCT as_of FROM outcome_due ORDER BY 1") == [(day,) for day in days[-5:]]
    told = "SELECT {} FROM judged_prediction AS j WHERE as_of = DATE '{}'"
    ((n, hits, loss),) = store_rows(
        root,
        told.format(
            "count(*), sum(label_5d), -sum(ln(CASE label_5d WHEN 1 THEN probability ELSE 1 - probability END))",
            days[-7],
        ),
    )
    kept = f"SELECT n, n_hits, log_loss_sum FROM scorecard WHERE as_of = DATE '{days[-7]}'"
    assert store_rows(root, kept) == [(n, hits, pytest.approx(loss))]
    with opened(Settings(root=root).published) as con:
        assert con.execute("SELECT as_of, n FROM scorecard").fetchall()[1] == (days[-7], n)
        assert (
            con.execute("SELECT n_sessions, auc_day IS NOT NULL FROM running_scorecard").fetchall() == [(2, True)] * 8
        )
        assert con.execute("SELECT as_of, state, n_sessions FROM drift").fetchall()[0] == (days[-1], "ok", 0)
        assert con.execute("SELECT count(*) FROM running_decile").fetchall() == [(80,)]


def test_the_floor_of_the_night_is_the_versions_own_and_its_promise_that_of_its_manifest(scored):
    root, days = scored
    manifest = Registry(root / "models").champion().manifest
    floor = manifest["floors"]["volatility"]
    rows = store_rows(
        root,
        "SELECT f.volatility, f.atr_pct, d.atr_pct, d.bb_bandwidth FROM floor_prediction AS f JOIN feature_daily AS d"
        f" ON d.ticker = f.ticker AND d.as_of = f.as_of WHERE f.as_of = DATE '{days[-1]}'",
    )
    assert len(rows) == store_rows(root, f"SELECT count(*) FROM prediction WHERE as_of = DATE '{days[-1]}'")[0][0]
    for said, kept, atr_pct, bandwidth in rows:
        x = (np.log1p(np.array([atr_pct, bandwidth])) - floor["mean"]) / floor["std"]
        assert said == pytest.approx(float(sigmoid(np.clip(x, -4, 4) @ floor["weights"] + floor["intercept"])))
        assert kept == pytest.approx(atr_pct)
    (promise,) = store_rows(root, "SELECT auc_day, log_loss, floor_log_loss, n_sessions FROM model_promise")
    of = manifest["metrics"]
    assert promise == (
        *(of["blend"][name] for name in ("auc_day", "log_loss")),
        of["volatility"]["log_loss"],
        manifest["judged"]["n_sessions"],
    )


def test_a_night_that_changes_nothing_judges_nothing_anew(scored):
    root, days = scored
    before = store_rows(root, "FROM scorecard ORDER BY as_of")
    done(root, "score", "--as-of", days[-1])
    assert store_rows(root, "FROM scorecard ORDER BY as_of") == before


def test_a_session_scored_by_force_is_judged_anew(scored):
    root, days = scored
    before = dict(store_rows(root, "SELECT as_of, run_id FROM scorecard"))
    done(root, "score", "--from", days[-7], "--as-of", days[-7], "--force")
    after = dict(store_rows(root, "SELECT as_of, run_id FROM scorecard"))
    assert {day: before[day] == after[day] for day in after} == {days[-7]: False, days[-6]: True}


def test_a_price_corrected_by_a_later_ingest_is_judged_anew(scored, tmp_path):
    root, days = scored
    ticker = store_rows(root, f"SELECT min(ticker) FROM prediction WHERE as_of = DATE '{days[-7]}'")[0][0]
    before = store_rows(root, f"SELECT n, n_hits FROM scorecard WHERE as_of = DATE '{days[-7]}'")[0]
    label = f"SELECT label_5d FROM label_daily WHERE ticker = '{ticker}' AND as_of = DATE '{days[-7]}'"
    was = store_rows(root, label)[0][0]
    frames = read_folder(root / "source")
    is_it = (pl.col("ticker") == ticker) & (pl.col("date") == days[-2])
    by = 0.7 if was else 1.4
    moved = {name: pl.when(is_it).then(pl.col(name) * by).otherwise(name) for name in ("open", "high", "low", "close")}
    write_folder(root / "source", frames, prices=frames["prices"].with_columns(**moved))
    done(root, "ingest", "files", root / "source")
    done(root, "score", "--as-of", days[-1])
    assert store_rows(root, label)[0][0] == 1 - was
    after = store_rows(root, f"SELECT n, n_hits FROM scorecard WHERE as_of = DATE '{days[-7]}'")[0]
    assert after == (before[0], before[1] + 1 - 2 * was)


def test_a_retrain_says_that_the_champion_had_drifted_but_knows_no_verdict_of_later(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.fitting.trainable", lambda: ("lgbm", "xgb"))  # the LSTM takes its time
    monkeypatch.setattr("kstock_batch.training.retrain.refusal_of", lambda version, verdict: None)
    days = [day for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")]
    check = {"name": "auc_promised", "state": "drifted", "value": 1.0, "watch": 0.98, "drifted": 0.998}
    with opened_again(trained_root) as warehouse:
        warehouse.con.execute("DELETE FROM drift")
        for day, sentence in ((days[-3], "its AUC fell"), (days[-1], "a later night")):
            warehouse.con.execute(
                "INSERT INTO drift VALUES ($day, 'old', 'drifted', '', 30, $day, $day, $checks, 'r', $noon)",
                {"day": day, "checks": json.dumps([check | {"sentence": sentence}]), "noon": NOON},
            )
    told = done(trained_root, "retrain", "--as-of", days[-2])
    occasion = f"old is drifted on 30 matured sessions, {days[-3]} … {days[-3]}: its AUC fell"
    assert f"retrained while {occasion}" in told.stderr
    last = told.stdout.splitlines()[-1]
    assert re.fullmatch(rf"trained \S+ on [\d,]+ windows as-of {days[-2]} in \d+ s; it is champion", last)
    summary = store_rows(trained_root, "SELECT summary FROM run WHERE command = 'retrain' ORDER BY started_at DESC")[0][
        0
    ]
    assert summary.endswith(f"is champion; retrained while {occasion}")
    drift = asked_json(trained_root, "models", "show")["drift"]
    assert drift == {"as_of": str(days[-3]), "state": "drifted", "sentence": occasion}
    assert f"trained knowing that {occasion}" in done(trained_root, "models", "show").stdout
