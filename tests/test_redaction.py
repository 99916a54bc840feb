"""Secrets of the environment are in no log line, no error, no ledger row and no document."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from datetime import datetime

import click
import pytest

from kstock_batch import console, logs
from kstock_batch.cli.group import Root
from kstock_batch.errors import DataNotReady
from kstock_batch.logs import JsonLines
from kstock_batch.redaction import redacted, redacted_values
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.store.warehouse import Warehouse

SECRET = "hunter2-hunter2"
URI = f"postgresql://kim:{SECRET}@db.example:5432/stocks"


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("DB_PW", SECRET)


@pytest.mark.parametrize(
    "name",
    [
        "API_KEY",
        "KSTOCK_POSTGRES_PW",
        "db_password",
        "GITHUB_TOKEN",
        "TOKEN",
        "AWS_SECRET",
        "X_PASSPHRASE",
        "A_CREDENTIALS",
    ],
)
def test_the_value_of_a_variable_with_such_a_name_is_masked(name):
    assert redacted(f"login with {SECRET} failed", {name: SECRET}) == "login with *** failed"


@pytest.mark.parametrize("name", ["KEYBOARD", "MONKEY", "TOKENIZER", "PATH", "PWD", "HOME"])
def test_the_value_of_any_other_variable_is_not(name):
    assert redacted(f"in {SECRET}", {name: SECRET}) == f"in {SECRET}"


@pytest.mark.parametrize("name", ["KSTOCK_POSTGRES_URI", "DATABASE_URL", "PG_DSN"])
@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (URI, "postgresql://kim:***@db.example:5432/stocks"),
        (f"postgresql://{SECRET}@h/d?password={SECRET}&x=1", "postgresql://***@h/d?password=***&x=1"),
        (f"host=h user=kim password={SECRET} dbname=d", "host=h user=kim password=*** dbname=d"),
        (f"host=h password='{SECRET}'", "host=h password='***'"),
        ("postgresql://kim:abc@h/d", "postgresql://kim:***@h/d"),
    ],
)
def test_the_password_in_an_address_is_masked_and_the_rest_is_told(name, address, shown):
    assert redacted(f"cannot reach {address}: refused", {name: address}) == f"cannot reach {shown}: refused"


@pytest.mark.parametrize(
    ("written", "password"),
    [(SECRET, SECRET), ("p%40ss%2Fword", "p@ss/word"), ("p@ss/word", "p@ss/word"), ("p@ss:word!", "p@ss:word!")],
)
def test_a_library_that_prints_the_password_alone_is_masked_too(written, password):
    environ = {"A_URI": f"postgresql://kim:{written}@h/d?a=b@c"}
    told = redacted(f"FATAL: {password} or {written} is wrong", environ)
    assert (password in told, written in told) == (False, False)


def test_an_address_without_a_password_is_told():
    assert redacted("at http://h/d?a=b", {"A_URL": "http://h/d?a=b"}) == "at http://h/d?a=b"


def test_of_two_secrets_one_within_the_other_neither_is_left():
    assert redacted("abcdefghi", {"A_KEY": "abcdef", "B_KEY": "abcdefghi"}) == "***"


@pytest.mark.parametrize("value", ["", "1", "yes", "12345"])
def test_what_is_too_short_to_be_a_secret_spoils_no_text(value):
    assert redacted("12345 yes 1", {"USE_TOKEN": value}) == "12345 yes 1"


def test_texts_are_masked_wherever_they_stand_and_numbers_stay_numbers():
    value = {"a": [SECRET, {"b": (f"x{SECRET}", 7)}], "n": 123456, "none": None, "flag": True}
    masked = {"a": ["***", {"b": ["x***", 7]}], "n": 123456, "none": None, "flag": True}
    assert redacted_values(value, {"A_KEY": SECRET, "B_KEY": "123456"}) == masked


# Where texts leave


def test_a_log_line_holds_no_secret():
    try:
        raise ValueError(f"bad {SECRET}")
    except ValueError:
        caught = sys.exc_info()
    record = logging.LogRecord("kstock_batch", logging.INFO, __file__, 1, "connect %s", (SECRET,), caught)
    record.address, record.error, record.steps = f"at {SECRET}", DataNotReady(SECRET, fix="wait"), [SECRET]
    line = JsonLines().format(record)
    assert SECRET not in line
    assert json.loads(line) | {"message": "connect ***", "address": "at ***", "steps": ["***"]} == json.loads(line)


def test_the_ledger_holds_no_secret(tmp_path):
    settings = Settings(root=tmp_path)
    with pytest.raises(DataNotReady), opened_run(settings, "publish", at=datetime(2024, 7, 1)):
        raise DataNotReady(f"no reply from {SECRET}", fix=f"check {SECRET}")
    with opened_run(settings, "publish", at=datetime(2024, 7, 2)) as run:
        run.summary = f"sent to {SECRET}"
    with Warehouse.read(settings) as warehouse:
        rows = warehouse.con.execute("SELECT error, summary FROM run ORDER BY started_at").fetchall()
    assert rows == [("no reply from ***\n  fix: check ***", None), (None, "sent to ***")]


def test_what_is_printed_holds_no_secret(capsys):
    console.document({"error": SECRET, "runs": [{"told": SECRET}], "other": DataNotReady(SECRET, fix="wait")})
    console.result(f"sent to {SECRET}")
    console.note(f"warning: {SECRET}")
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert (told.out.count("***"), told.err.count("***")) == (4, 1)


def test_an_error_that_ends_a_command_holds_no_secret(capsys):
    @click.group(cls=Root, sections={})
    def program():
        pass

    @program.command()
    def fail():
        raise DataNotReady(f"no reply from {SECRET}", fix="wait")

    assert program.main(["fail"], standalone_mode=False) == 3
    assert capsys.readouterr().err == "error: no reply from ***\n  fix: wait\n"


def test_a_traceback_holds_no_secret(capsys):
    try:
        raise RuntimeError(f"driver said {SECRET}") from ValueError(SECRET)
    except RuntimeError as error:
        logs.show_traceback(type(error), error, error.__traceback__)
    told = capsys.readouterr().err
    assert (SECRET in told, told.count("***"), told.splitlines()[-1]) == (False, 2, "RuntimeError: driver said ***")


def test_the_program_shows_its_tracebacks_that_way(monkeypatch):
    code = (
        "import kstock_batch.cli.app as app, kstock_batch.cli as cli, os\n"
        "def fail():\n    raise RuntimeError('driver said ' + os.environ['DB_PW'])\n"
        "app.cli = fail\n"
        "cli.main()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, "RuntimeError: driver said ***")
    assert SECRET not in ended.stderr


# What is printed is text and nothing else


def test_no_text_of_a_table_is_taken_for_markup_or_moves_the_cursor(capsys):
    odd = {"[b]": "[/x]", "emoji": ":smile:", "esc": "\x1b[31mred\x1b]0;title\x07", "back": "a\rb\x9b2J"}
    console.table("answer", [odd])
    told = capsys.readouterr().out
    assert not set("\x1b\x07\r\x9b") & set(told)
    assert all(text in told for text in ("[b]", "[/x]", ":smile:", r"\x1b[31mred\x1b]0;title\x07", r"a\x0db\x9b2J"))


def test_no_line_moves_the_cursor(capsys):
    console.note("error: \x1b[2J\n  fix: none")
    console.result("done\x1b[0m")
    told = capsys.readouterr()
    assert (told.err, told.out) == ("error: \\x1b[2J\n  fix: none\n", "done\\x1b[0m\n")
