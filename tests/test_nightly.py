"""The whole night in one command: what is missing is told and remembered, and keeps nothing from being scored."""

import shutil

import pytest

from factories import asked_json, done, run, store_rows
from kstock_batch.cli import live
from kstock_batch.errors import DataNotReady, SourceBlocked
from kstock_batch.operating import pings
from kstock_batch.settings import Settings
from kstock_batch.store.lock import release_lock, take_lock


class Ready:
    """A live source of which only the name is asked here."""

    name = "pykrx"

    def needs(self):
        return []


class Lacking(Ready):
    def needs(self):
        return ["a key"]


class Asked:
    """What a night says of itself."""

    summary = "2,600 new rows"

    def document(self):
        return {"n_new": 2600}

    def remarks(self):
        return ["flow is provisional"]


@pytest.fixture
def heard(monkeypatch):
    """What the monitor hears."""
    heard = []
    monkeypatch.setenv("KSTOCK_PING_NIGHTLY_URL", "http://monitor.example/1")
    monkeypatch.setattr(pings, "_send", lambda address, path, text, *_: heard.append((path, text)))
    return heard


def sources(monkeypatch, *these):
    monkeypatch.setattr(live, "sources_of", lambda *_: list(these))


def ending(monkeypatch, error=None):
    """Have the ingest end like this; return what it was asked with."""
    asked = []

    def ask(settings, ready, as_of, tell):
        asked.append([source.name for source in ready])
        tell(Asked(), 1.5)
        if error:
            raise error

    monkeypatch.setattr(live, "ask_for_the_night", ask)
    return asked


def newest(root):
    return store_rows(root, "SELECT max(as_of) FROM prediction")


def with_a_new_session(root):
    """Ingest one more session; return the newest that is scored before."""
    done(root, "ingest", "files", root / "next")
    return newest(root)


def test_the_night_is_asked_for_then_scored_and_the_monitor_hears_both_ends(trained_root, monkeypatch, heard):
    before = with_a_new_session(trained_root)
    sources(monkeypatch, Ready(), Lacking())
    asked = ending(monkeypatch)
    result = done(trained_root, "nightly")
    assert asked == [["pykrx"]]
    assert newest(trained_root) > before
    assert result.stdout.splitlines()[0] == "2,600 new rows in 1.5 s"
    assert "flow is provisional" in result.stderr
    assert [path for path, _ in heard] == ["/start", ""]
    assert heard[1][1].startswith("scored ")


def test_prices_that_are_missing_keep_no_whole_session_from_being_scored(trained_root, monkeypatch, heard):
    before = with_a_new_session(trained_root)
    sources(monkeypatch, Ready())
    ending(monkeypatch, DataNotReady("price of tonight is missing", fix="run it again later"))
    result = run(trained_root, "nightly")
    assert result.exit_code == 3
    assert "warning: price of tonight is missing; what is whole is scored all the same" in result.stderr
    assert "error: price of tonight is missing" in result.stderr
    assert newest(trained_root) > before
    assert heard[-1] == ("/3", "price of tonight is missing\n  fix: run it again later")
    assert run(trained_root, "nightly").exit_code == 3  # and a rerun scores nothing again
    assert len(asked_json(trained_root, "runs", "list", "--command", "score", "--failed")) == 0


def test_a_source_that_has_shut_us_out_is_the_end_that_is_told(trained_root, monkeypatch, heard):
    sources(monkeypatch, Ready())
    ending(monkeypatch, SourceBlocked("pykrx has shut us out", fix="wait"))
    assert run(trained_root, "nightly").exit_code == 23
    assert heard[-1][0] == "/23"


def test_without_a_source_that_is_ready_what_is_stored_is_scored(trained_root, monkeypatch):
    before = with_a_new_session(trained_root)
    sources(monkeypatch, Lacking())
    result = done(trained_root, "nightly")
    assert "no live source is ready (`kstock-batch doctor` says why): what is stored is scored" in result.stderr
    assert newest(trained_root) > before


def test_one_document_tells_both(trained_root, monkeypatch):
    sources(monkeypatch, Ready())
    ending(monkeypatch)
    told = asked_json(trained_root, "nightly")
    assert told["ingest"] == {"n_new": 2600, "seconds": 1.5}
    assert told["score"]["as_of"]
    sources(monkeypatch)
    assert asked_json(trained_root, "nightly")["ingest"] is None


def test_a_night_beside_another_does_nothing(trained_root, heard):
    lock = take_lock(Settings(root=trained_root).store.with_suffix(".lock"))
    try:
        assert run(trained_root, "nightly").exit_code == 6
    finally:
        release_lock(lock, is_writer=True)
    assert heard[-1][0] == "/6"


def test_a_retrain_is_heard_of_too(trained_root, monkeypatch):
    heard = []
    monkeypatch.setenv("KSTOCK_PING_RETRAIN_URL", "http://monitor.example/2")
    monkeypatch.setattr(pings, "_send", lambda address, path, text, *_: heard.append((path, text)))
    learnt = asked_json(trained_root, "models", "show")["as_of"]
    shutil.rmtree(trained_root / "models")
    done(trained_root, "retrain", "--as-of", learnt)
    assert [path for path, _ in heard] == ["/start", ""]
    assert " is champion" in heard[1][1]
