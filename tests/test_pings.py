"""Pings: a monitor hears how a job goes, and nothing it does or fails to do is felt by the job."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kstock_batch.errors import ChallengerRefused, DataNotReady
from kstock_batch.operating import pings
from kstock_batch.operating.pings import pinged

PATH = "/a-secret-of-ours"


@contextmanager
def monitor(answer=200, wait_s=0.0):
    """Yield (address, what was heard as (path, text)) of a monitor on this machine."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            heard.append((self.path.removeprefix(PATH), text))
            time.sleep(wait_s)
            self.send_response(answer)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # closing waits for them: no socket is left to the next test
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{PATH}", heard
    server.shutdown()
    server.server_close()


def ending(address, body, job="nightly"):
    """Run a job under a monitor; return (what it raised, what a person was warned of)."""
    warnings = []
    try:
        with pinged(job, warnings.append, {f"KSTOCK_PING_{job.upper()}_URL": address}) as tell:
            body(tell)
    except BaseException as error:
        return error, warnings
    return None, warnings


def failing(error):
    def body(_):
        raise error

    return body


def test_a_job_that_goes_well_is_heard_to_begin_and_to_end_with_what_it_says():
    with monitor() as (address, heard):
        assert ending(address, lambda tell: tell("scored 5 stocks")) == (None, [])
    assert heard == [("/start", ""), ("", "scored 5 stocks")]


def test_a_job_that_fails_is_heard_with_its_exit_code_and_sentence():
    with monitor() as (address, heard):
        error, warnings = ending(address, failing(DataNotReady("half of KOSDAQ is missing", fix="wait")))
    assert (type(error), warnings) == (DataNotReady, [])
    assert heard[1] == ("/3", "half of KOSDAQ is missing\n  fix: wait")


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), KeyboardInterrupt(), SystemExit(1)])
def test_what_nobody_foresaw_is_a_failure_too(error):
    with monitor() as (address, heard):
        assert ending(address, failing(error))[0] is error
    assert heard[1][0] == "/fail"


def test_a_gate_that_refuses_has_done_its_work():
    with monitor() as (address, heard):
        ending(address, failing(ChallengerRefused("it is worse", fix="nothing")), job="retrain")
    assert heard[1] == ("", "it is worse\n  fix: nothing")


def test_without_an_address_nobody_is_told():
    with pinged("nightly", pytest.fail, {}) as tell:
        tell("well")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "nonsense", "file:///etc/passwd", "http://", "http://[::"])
def test_an_address_that_answers_nothing_is_a_warning_that_does_not_name_it(address):
    error, warnings = ending(address + PATH, lambda tell: None)
    assert error is None
    assert len(warnings) == 2
    assert all("the monitor of nightly (KSTOCK_PING_NIGHTLY_URL) could not be told: " in told for told in warnings)
    assert not [told for told in warnings if PATH in told]


def test_a_monitor_that_answers_no_is_a_warning():
    with monitor(answer=404) as (address, _):
        error, warnings = ending(address, lambda tell: None)
    assert (error, len(warnings)) == (None, 2)
    assert "404" in warnings[0]


def test_a_monitor_that_hangs_holds_no_job_for_long(monkeypatch):
    monkeypatch.setattr(pings, "PATIENCE_S", 0.2)
    began = time.monotonic()
    with monitor(wait_s=1) as (address, _):
        assert ending(address, lambda tell: None)[0] is None
        assert time.monotonic() - began < 0.9


def test_a_name_server_that_hangs_holds_no_job_for_long(monkeypatch):
    """No timeout of a connection covers the question which machine a name is."""
    monkeypatch.setattr(pings, "PATIENCE_S", 0.2)

    def hang(*_, **__):
        time.sleep(1)
        raise OSError("no name")

    monkeypatch.setattr(pings.urllib.request, "urlopen", hang)
    began = time.monotonic()
    assert ending("http://example.invalid", lambda tell: None)[0] is None
    assert time.monotonic() - began < 0.9


def test_no_secret_leaves_with_a_ping(monkeypatch):
    monkeypatch.setenv("KRX_PW", "a-password-of-ours")
    with monitor() as (address, heard):
        ending(address, lambda tell: tell("logged in with a-password-of-ours"))
    assert heard[1] == ("", "logged in with ***")


def test_a_long_text_is_cut():
    with monitor() as (address, heard):
        ending(address, lambda tell: tell(json.dumps("x" * 50_000)))
    assert len(heard[1][1]) == pings.LONGEST_TOLD
