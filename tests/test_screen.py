"""What a person sees: tables in terminals of several widths and in a pipe, and the language."""

import re

import pytest

from factories import done
from kstock_batch import console
from kstock_batch.cli.language import chosen_language
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings

ROWS = [
    {
        "ticker": "005930",
        "name": "삼성전자",
        "probability": 0.3125,
        "rank": 1,
        "why": "the volume of five sessions is high",
    },
    {"ticker": "000660", "name": "SK하이닉스", "probability": 0.25, "rank": 2731, "why": None},
]
WHOLE = 58  # the columns side by side, the text of the last one wrapped


def printed(capsys) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.fixture
def terminal(monkeypatch):
    """Make stdout a terminal of so many columns."""

    def of(width: int) -> None:
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(width))

    return of


@pytest.mark.parametrize("width", [30, 40, WHOLE - 1])
def test_a_table_that_does_not_fit_is_told_row_by_row_with_every_value_whole(terminal, capsys, width):
    terminal(width)
    console.table("predictions", ROWS)
    told = printed(capsys)
    assert told[:2] == ["predictions", ""]
    cells = [line.split() for line in told]
    for cell in (["ticker", "005930"], ["name", "SK하이닉스"], ["rank", "2,731"], ["why", "–"]):
        assert cell in cells, told
    assert told[-1] == "" != told[-2]  # what follows is apart from it


@pytest.mark.parametrize("width", [WHOLE, 160])
def test_a_table_that_fits_has_a_line_a_row(terminal, capsys, width):
    terminal(width)
    console.table("predictions", ROWS)
    told = printed(capsys)
    assert list(ROWS[0]) in [line.split() for line in told]
    assert any({"000660", "SK하이닉스", "0.2500", "2,731"} <= set(line.split()) for line in told)


def test_rows_with_units_of_their_own_show_decimals_of_their_own(capsys):
    rows = [{"metric": "log_loss", "value": -0.00010}, {"metric": "top_excess_bp", "value": -10.76}]
    for by_row, told in ((False, ["-0.00", "-10.76"]), (True, ["-0.00010", "-10.76"])):
        console.table("differences", rows, decimals=5, by_row=by_row)
        assert [line.split()[1] for line in printed(capsys) if line.strip().startswith(("log_", "top_"))] == told


def test_two_columns_stay_a_table_however_narrow(terminal, capsys):
    terminal(20)
    console.table("facts", [{"fact": "as_of", "value": "a sentence of more than twenty-four letters"}])
    assert ["fact", "value"] in [line.split() for line in printed(capsys)]


def test_a_pipe_has_whole_lines_and_no_colour(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    console.table("predictions", ROWS)
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert any("005930" in line and "the volume of five sessions is high" in line for line in told.splitlines())


def test_summary_speaks_the_language_of_the_settings_unless_told_another(trained_root, monkeypatch):
    monkeypatch.setenv("KSTOCK_LANGUAGE", "ko")
    assert "KRX 예측" in done(trained_root, "summary").stdout
    assert "KRX 예측" not in done(trained_root, "summary", "--language", "en").stdout
    monkeypatch.setenv("KSTOCK_LANGUAGE", "en")
    assert "KRX 예측" not in done(trained_root, "summary").stdout


def test_a_language_nobody_speaks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KSTOCK_LANGUAGE", "fr")
    with pytest.raises(ConfigError, match="language = fr is out of range\n  fix: write auto, en or ko"):
        Settings.load(tmp_path)


@pytest.mark.parametrize(
    "locale_name, language", [("ko_KR", "ko"), ("Korean_Korea", "ko"), ("de_DE", "en"), (None, "en")]
)
def test_auto_is_the_language_of_the_locale_where_we_speak_it(monkeypatch, locale_name, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("locale.getlocale", lambda: (locale_name, "UTF-8"))
    assert chosen_language(Settings()) == language


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_progress_bar_shows_its_times_whole_whatever_it_works_at_and_vanishes(terminal, capsys, width):
    terminal(width)
    with console.progress("ingest", total=1200) as advance:
        advance("market_investor_net.parquet → raw_market_flow [red]시장 수급[/red]" * 2, steps=600)
    told = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", capsys.readouterr().err)
    (drawn, *_) = [line for line in told.splitlines() if "ingest: mark" in line]
    assert re.search(r"━╸? +600/1200 0:00:0\d -:--:--$", drawn.rstrip())
    assert "[red]" in drawn or width < 160
    assert told.splitlines()[-1] == ""


def test_there_is_no_progress_bar_in_a_pipe(capsys):
    with console.progress("ingest", total=12) as advance:
        advance("prices.parquet", steps=9)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "variables, language",
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LC_ALL": "C.UTF-8", "LANG": "ko_KR.UTF-8"}, "en"),
        ({"LC_MESSAGES": "ko"}, "ko"),
    ],
)
def test_the_locale_is_what_the_variables_name_though_the_machine_lacks_it(monkeypatch, variables, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("locale.getlocale", lambda: (None, None))
    assert chosen_language(Settings()) == language
