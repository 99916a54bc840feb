"""Nights after the clock was set back by an hour or a day: what was entered later counts as later all the same."""

from datetime import datetime, timedelta

import pytest

from factories import asked_json, changed, done, everything, run, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.settings import Settings

NOON = datetime(2030, 1, 4, 12)


@pytest.fixture(params=[timedelta(hours=1), timedelta(days=1)], ids=["an hour", "a day"])
def back(request):
    return request.param


@pytest.fixture
def clock(monkeypatch):
    """Set what every command takes for the time."""

    def set_to(now):
        for module in ("data", "features", "nightly", "questions", "check"):
            monkeypatch.setattr(f"kstock_batch.cli.{module}.utc_now", lambda: now)

    return set_to


@pytest.fixture
def root(trained_root):
    settings = (trained_root / "kstock.toml").read_text(encoding="utf-8")
    (trained_root / "kstock.toml").write_text(f"{settings}max_age_sessions = 100000\n", encoding="utf-8")  # of 2024
    return trained_root


def newest(root):
    return asked_json(root, "predictions", "show", "--top", 1)[0]["as_of"]


def test_a_night_after_it_is_published_over_the_one_before_and_read(root, clock, back):
    reader = PredictionReader(Settings(root=root).published, None)
    clock(NOON)
    done(root, "score")
    first, generation = newest(root), Generations(Settings(root=root).published).current()
    assert str(reader.top(1)[0].as_of) == first
    clock(NOON - back)
    done(root, "ingest", "files", root / "next")
    done(root, "score")
    kept = Generations(Settings(root=root).published)
    assert newest(root) > first
    assert str(reader.top(1)[0].as_of) == newest(root)
    assert kept.current() == kept.newest_first()[0]
    assert kept.newest_first()[1] == generation
    assert done(root, "score").stdout.startswith("already scored as-of")
    done(root, "check")


def test_a_night_that_fails_after_it_is_not_hidden_by_one_that_did_not(root, clock, back):
    clock(NOON)
    done(root, "score")
    clock(NOON - back)
    assert run(root, "score", "--as-of", "1999-01-04").exit_code == 3
    assert run(root, "check").exit_code == 18
    assert [ran["status"] for ran in asked_json(root, "status")["runs"][:2]] == ["failed", "done"]
    done(root, "score", "--force")
    told = asked_json(root, "sql", "SELECT status FROM run")  # what is published tells them in the same order
    assert [row["status"] for row in told][-2:] == ["done", "failed"]
    done(root, "check")


def test_what_was_corrected_after_it_stands(root, clock, back, tmp_path):
    names = ("feature_daily", "label_daily")
    clock(NOON - 2 * back)
    done(root, "features", "--rebuild")
    before = everything(root)
    clock(NOON)
    done(root, "ingest", "files", changed(root / "source", tmp_path / "changed"), "--retroactive")
    done(root, "features")
    assert everything(root)["feature_daily"] != before["feature_daily"]
    clock(NOON - back)
    done(root, "ingest", "files", root / "source", "--retroactive")
    done(root, "features")
    assert [everything(root)[name] for name in names] == [before[name] for name in names]


def test_sessions_that_matured_are_judged_once_although_it_was_set_back(root, clock, back):
    clock(NOON)
    done(root, "score")
    clock(NOON - back)
    done(root, "ingest", "files", root / "next")
    done(root, "score", "--from", "2024-06-19")
    cards = store_rows(root, "SELECT as_of, n, log_loss_sum FROM scorecard ORDER BY as_of")
    assert len(cards) >= 2
    assert store_rows(root, "SELECT count(*) FROM outcome_due SEMI JOIN scorecard USING (as_of)") == [(0,)]
    done(root, "score", "--force")
    assert store_rows(root, "SELECT as_of, n, log_loss_sum FROM scorecard ORDER BY as_of") == cards
