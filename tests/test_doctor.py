"""`doctor` and `ingest forgive`: what is ready, what is missing and would add what, what shut us out, what is left."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta

import pytest

from factories import asked_json, done, run, sentence
from kstock_batch.ingest.live import sources as live_sources
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.live.sources import ADAPTERS, make_sources, require_known, state_of
from kstock_batch.ingest.sources.live import Need
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.settings import SOURCES, Settings
from live_night import Told

NOW = datetime(2026, 6, 15, 9, 30)
NO_KEY = Need("KSTOCK_KRX_KEY is not set", "ask openapi.krx.co.kr for a key")


@pytest.fixture
def asked(monkeypatch):
    """Commands see three sources: one without its key, one ready, one ready for series."""
    chosen = [
        Told("krx", {"price": "day", "listing": "day"}, needs=[NO_KEY], adds="official prices"),
        Told("pykrx", {"price": "day", "flow": "day"}, adds="investor flows"),
        Told("fred", {"macro": "range"}, adds="VIX"),
    ]
    monkeypatch.setattr(live_sources, "make_sources", lambda *_, **__: chosen)
    for module in ("live", "doctor"):
        monkeypatch.setattr(sys.modules[f"kstock_batch.cli.{module}"], "utc_now", lambda: NOW)
    return chosen


def ask(root, source, *, times=1, shut=None):
    """Count requests of a source, and let the last one find the door shut."""
    state = state_of(Settings(root=root))
    for _ in range(times):
        with state.turn(source, Limits(min_interval_s=0), now=lambda: NOW, sleep=lambda _: None) as turn:
            pass
    if shut:
        turn.shut(shut)


def told(root):
    return {row["source"]: row for row in asked_json(root, "doctor")["sources"]}


def test_it_tells_what_is_missing_how_to_come_by_it_and_what_it_would_add(asked, tmp_path):
    result = done(tmp_path, "doctor")
    assert "krx: KSTOCK_KRX_KEY is not set\n  fix: ask openapi.krx.co.kr for a key\n" in result.stdout
    assert "official prices" in result.stdout
    assert "nobody that is ready has listing; krx would\n" in result.stdout
    assert "nobody that is ready has financial; no source in `sources` would\n" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("; 2 of 3 sources are ready")


def test_it_asks_nobody_and_makes_no_store(asked, tmp_path):
    done(tmp_path, "doctor")
    assert [source.asked for source in asked] == [[], [], []]
    assert not Settings(root=tmp_path).store.exists()


def test_it_counts_todays_calls_of_what_a_source_allows(asked, tmp_path):
    ask(tmp_path, "pykrx", times=3)
    assert (told(tmp_path)["pykrx"]["calls_today"], told(tmp_path)["fred"]["calls_today"]) == (3, 0)
    assert "3 of 5,000" in done(tmp_path, "doctor").stdout


def test_it_tells_until_when_a_source_is_shut_and_why(asked, tmp_path):
    ask(tmp_path, "pykrx", shut="a block page")
    one = told(tmp_path)["pykrx"]
    assert (one["state"], one["block"]["until"]) == ("blocked", str(NOW + timedelta(hours=24)))
    text = done(tmp_path, "doctor").stdout
    assert "pykrx: shut until 2026-06-16 18:30 in Seoul: " in text
    assert "`kstock-batch ingest forgive pykrx`" in text
    assert "nobody that is ready has flow; pykrx would\n" in text


def test_a_source_whose_calls_are_used_up_is_not_ready(asked, tmp_path, monkeypatch):
    monkeypatch.setitem(ADAPTERS, "pykrx", live_sources.Adapter("Pykrx", Limits(calls_a_day=2)))
    ask(tmp_path, "pykrx", times=2)
    assert told(tmp_path)["pykrx"]["state"] == "used up"


def test_calls_that_cannot_be_counted_count_as_used_up(asked, tmp_path):
    ask(tmp_path, "pykrx")
    file = Settings(root=tmp_path).warehouse / "sources" / "pykrx.calls.json"
    file.write_text("{", encoding="utf-8")
    import os

    os.utime(file, (NOW.timestamp() + 24 * 3600,) * 2)
    one = told(tmp_path)["pykrx"]
    assert (one["state"], one["calls_today"]) == ("used up", None)
    assert "unknown of 5,000" in done(tmp_path, "doctor").stdout


def test_forgive_ends_a_block_and_says_when_there_was_none(asked, tmp_path):
    ask(tmp_path, "pykrx", shut="a block page")
    assert done(tmp_path, "ingest", "forgive", "pykrx").stdout == "pykrx may be asked again\n"
    assert told(tmp_path)["pykrx"]["state"] == "ready"
    assert asked_json(tmp_path, "ingest", "forgive", "pykrx") == {"source": "pykrx", "was_shut": False}


def test_forgive_and_source_name_what_is_known(tmp_path):
    result = run(tmp_path, "ingest", "forgive", "naver")
    assert (result.exit_code, "naver is none of the live sources krx, pykrx" in sentence(result)) == (2, True)
    result = run(tmp_path, "ingest", "--source", "naver")
    assert (result.exit_code, "naver is none of the live sources krx, pykrx" in sentence(result)) == (2, True)
    assert not Settings(root=tmp_path).store.exists()
    require_known(Settings(root=tmp_path), SOURCES)


def test_options_of_the_night_before_a_subcommand_are_refused(tmp_path):
    result = run(tmp_path, "ingest", "--source", "krx", "forgive", "krx")
    assert (result.exit_code, "belong to the night's ingest" in sentence(result)) == (2, True)


def test_the_nights_command_tells_the_batches_the_rest_and_its_exit_code(asked, tmp_path):
    asked[1].offers = {"price": "day", "listing": "day", "flow": "day"}
    result = done(tmp_path, "ingest")
    assert "as-of 2026-06-15 with" in result.stdout.splitlines()[-1]
    assert "missing" not in result.stdout
    document = asked_json(tmp_path, "ingest")
    assert (document["as_of"], document["batches"], document["missing"]) == ("2026-06-15", [], {})


def test_the_nights_command_exits_with_3_and_what_is_missing(asked, tmp_path):
    result = run(tmp_path, "ingest")
    assert result.exit_code == 3
    assert "error: 2026-06-15 lacks listing (no source that can be asked has it)" in result.stderr
    assert "missing: listing" in result.stdout
    status = asked_json(tmp_path, "status")
    assert status["runs"][0]["status"] == "failed"


def test_the_nights_command_skips_a_closed_day(asked, tmp_path):
    result = done(tmp_path, "ingest", "--as-of", "2026-06-13")
    assert result.stdout.startswith("2026-06-13 was no session of the exchange: 0 new rows of other days")


def test_every_source_of_the_settings_has_an_adapter_and_offers_known_datasets(tmp_path):
    assert list(ADAPTERS) == list(SOURCES)
    settings = Settings(root=tmp_path)
    made = make_sources(settings, {}, state_of(settings))
    assert [source.name for source in made] == list(SOURCES)
    assert {dataset for source in made for dataset in source.offers} == set(DATASETS)
    assert [source.name for source in make_sources(settings, {}, state_of(settings), ["fred", "krx"])] == [
        "krx",
        "fred",
    ]
    assert all(source.adds and not source.n_calls for source in made)
