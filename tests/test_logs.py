"""Logs: a person reads sentences, and only who asks for lines of JSON gets them."""

import json
import logging

import pytest

from factories import done, flip_byte
from kstock_batch import console, logs
from kstock_batch.settings import Settings

LOG = logging.getLogger("kstock_batch.of_the_test")


@pytest.fixture
def configured():
    """Give the loggers back as they were."""
    ours = logging.getLogger("kstock_batch")
    before = (ours.handlers, ours.level, ours.propagate)
    yield lambda verbose: logs.configure(verbose=verbose, tell=console.note)
    ours.handlers, ours.propagate = before[0], before[2]
    ours.setLevel(before[1])


def test_a_warning_is_told_as_a_sentence_without_a_secret_or_what_moves_the_cursor(configured, capsys, monkeypatch):
    monkeypatch.setenv("OF_THE_TEST_TOKEN", "hunter22")
    configured(False)
    LOG.warning("odd\x1b[2J: %s", "hunter22")
    LOG.warning("%s: %s", "it", OSError("not yours"))
    LOG.info("stage done")
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "warning: odd\\x1b[2J: ***\nwarning: it: not yours\n")


def test_who_asks_for_it_gets_each_stage_and_each_warning_as_a_line_of_json(configured, capsys):
    configured(True)
    LOG.warning("it is %s", "odd")
    LOG.info("stage done", extra={"rows": 7})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [("WARNING", "it is odd"), ("INFO", "stage done")]
    assert lines[1]["rows"] == 7


def test_a_pipe_that_was_closed_does_not_end_the_night(configured, capsys, monkeypatch):
    def closed(line):
        raise BrokenPipeError("nobody reads")

    monkeypatch.setattr(logging, "raiseExceptions", False)
    logs.configure(verbose=False, tell=closed)
    LOG.warning("it is odd")
    assert capsys.readouterr().err == ""


def test_a_publication_that_cannot_be_carried_on_is_told_in_one_line_that_a_person_reads(trained_root):
    flip_byte(Settings(root=trained_root).published, at=12_300)
    night = done(trained_root, "score")
    (line,) = [line for line in night.stderr.splitlines() if "carried on" in line]
    assert line.startswith("warning: the last publication cannot be carried on, a new one is built from nothing: ")
    assert not [line for line in night.stderr.splitlines() if line.startswith("{")]
    assert done(trained_root, "score").stderr == ""
