"""What was said of a stock before, and what came true: each outcome once it is known, none before."""

from datetime import date

import pytest

from factories import asked_json, done, run
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.cli.explain import strip
from kstock_batch.serving.questions.history import History
from kstock_batch.settings import Settings
from small_store import FRIDAY, MONDAY, THURSDAY, TUESDAY, predict, small_store


def outcome(warehouse, ticker, as_of, forward_return):
    warehouse.con.execute(
        "INSERT INTO label_daily BY NAME SELECT $ticker AS ticker, $as_of AS as_of, $r AS forward_return,"
        " ($r >= 0.03)::UTINYINT AS label_5d, false AS is_delisted, $as_of AS known_on",
        {"ticker": ticker, "as_of": as_of, "r": forward_return},
    )


@pytest.fixture
def warehouse(tmp_path):
    with small_store(tmp_path) as opened:
        for day, signal in ((MONDAY, 0.8), (TUESDAY, 0.4), (THURSDAY, 0.6), (FRIDAY, 0.5)):
            predict(opened, day, {"005930": signal, "000660": 0.9})
        outcome(opened, "005930", MONDAY, 0.04)
        outcome(opened, "005930", TUESDAY, 0.02)
        outcome(opened, "000660", THURSDAY, 0.09)  # another stock's
        yield opened


def test_each_prediction_is_told_once_with_what_came_true_of_this_stock(warehouse):
    told = History.of(warehouse.con, "005930", FRIDAY, 60).past
    assert [(one.as_of, one.probability, one.rose) for one in told] == [
        (MONDAY, 0.4, True),
        (TUESDAY, 0.2, False),
        (THURSDAY, 0.3, None),
        (FRIDAY, 0.25, None),
    ]
    assert [one.forward_return for one in told] == [0.04, 0.02, None, None]
    assert {one.rank for one in told} == {2}


def test_the_sentence_counts_the_judged_alone(warehouse):
    history = History.of(warehouse.con, "005930", FRIDAY, 60)
    assert history.sentence == "4 predictions, 2 judged: 1 rose (50.0%), 30.0% were forecast"
    assert History.of(warehouse.con, "000660", TUESDAY, 60).sentence == "2 predictions, none judged yet"


def test_the_newest_are_kept_and_none_after_the_session_asked_for(warehouse):
    assert [one.as_of for one in History.of(warehouse.con, "005930", THURSDAY, 2).past] == [TUESDAY, THURSDAY]
    assert History.of(warehouse.con, "005930", FRIDAY, 0).past == ()
    assert History.of(warehouse.con, "999999", FRIDAY, 60).past == ()


def test_a_strip_has_a_block_a_prediction_as_high_as_it_is():
    assert strip([0.0, 0.124, 0.126, 0.5, 0.99, 1.0]) == "▁▁▂▅██"


def test_explain_tells_it_in_the_terminal_and_as_json_and_not_when_it_is_not_wanted(trained_root):
    best = PredictionReader(Settings(root=trained_root).published, None).top(1)[0]
    asked = ("explain", best.ticker, "--as-of", best.as_of)
    (past,) = asked_json(trained_root, *asked)["history"]
    assert (past["as_of"], past["probability"], past["rank"]) == (str(best.as_of), best.probability, 1)
    shown = done(trained_root, *asked).stdout
    told = "came true    +" if past["rose"] else "came true    ·" if past["rose"] is False else "came true    ?"
    assert told in shown and f"{best.as_of} … {best.as_of}; + rose, · did not, ? not known yet: 1 prediction" in shown
    assert "came true" not in done(trained_root, *asked, "--history", 0).stdout
    assert "0<=x<=5000" in run(trained_root, *asked, "--history", -1).stderr
    assert date.fromisoformat(past["as_of"]) == best.as_of
