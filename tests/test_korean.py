"""Korean: everything a person reads has it, holes agree, particles follow sounds, and nothing else changes."""

import json
import re
from collections import Counter

import pytest
from click.testing import CliRunner

from factories import LAST, SATURDAY, asked_json, copy_root, done, run
from help_said import commands, pieces
from kstock_batch.cli.app import cli
from kstock_batch.korean import catalogue
from kstock_batch.korean.catalogue import COLUMNS, FOLDER, NOUNS, WORDS, entries, said, sentences
from kstock_batch.korean.particles import chosen
from kstock_batch.korean.template import Template, holes
from kstock_batch.korean.wrapping import places
from kstock_batch.store.audits import chosen_audits
from sentences_said import missing

HANGUL = re.compile("[가-힣]")
# An English word that is no option, path, column, name in capitals, value in quotes or code.
NAMES = re.compile(
    r"`[^`]*`|'[^']*'|\"[^\"]*\"|--?[a-z][\w-]*|\S*[/_.=*<>]\S*|\b[A-Z][A-Z]+\b|\b\w*\d\w*\b|\[[a-z|-]+\]"
)


def english_left(text: str) -> list[str]:
    """Return the sentences of English in ``text``: three words in a row that are no names."""
    return re.findall(r"(?:\b[A-Za-z]{2,}\b ){2,}\b[A-Za-z]{2,}\b", NAMES.sub("·", text))


@pytest.fixture
def korean(monkeypatch):
    monkeypatch.setenv("KSTOCK_LANGUAGE", "ko")


def test_every_piece_of_help_has_its_korean():
    missing = sorted(
        {f"{where}: {piece!r}" for where, piece in pieces() if not _is_range(piece) and said(piece) == piece}
    )
    assert not missing, "write its Korean in kstock_batch/korean/help.json: " + "; ".join(missing)


def _is_range(piece: str) -> bool:
    return re.fullmatch(r"[\d.]*[<>=]*x[<>=]+[\d.]+|x[<>=]+[\d.]+", piece) is not None


@pytest.mark.parametrize("path", sorted(path for path, _ in commands()))
def test_the_help_of_a_command_is_korean_and_fits_its_terminal(korean, monkeypatch, path):
    for width in (80, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        told = CliRunner().invoke(cli, [*path.split()[1:], "--help"])
        assert told.exit_code == 0
        lines = [line for line in told.stdout.splitlines() if not line.strip().startswith("kstock-batch")]
        assert lines[0].startswith("사용법: ")
        assert not [found for line in lines[1:] for found in english_left(line) if "feature, labelled" not in line]
        assert max(map(places, lines)) <= width


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("--nope",), "오류: 그런 옵션은 없습니다: '--nope'."),
        (("modls",), "오류: 그런 명령은 없습니다: 'modls'. 혹시 'models'입니까?"),
        (("export",), "오류: 옵션이 빠졌습니다: '--out'."),
        (("ingest", "files"), "오류: 인자가 빠졌습니다: 'FOLDER'."),
        (("ingest", "files", "a", "b"), "오류: 예상하지 못한 인자가 더 있습니다 (b)"),
        (("predictions", "show", "--top", "x"), "오류: '--top'에 쓸 수 없는 값: 'x': 올바른 정수가 아닙니다."),
        (("predictions", "show", "--top", "0"), "오류: '--top'에 쓸 수 없는 값: 0: 1<=x<=5000 범위를 벗어났습니다."),
        (("sql", "x", "--format", "xml"), "가운데 하나가 아닙니다."),
        (("score", "--force=1"), "오류: 옵션 '--force'에는 값을 주지 않습니다."),
        (("score", "--as-of"), "오류: 옵션 '--as-of'에는 값이 필요합니다."),
        (("--root", "pyproject.toml", "status"), "폴더가 아니라 파일입니다: 'pyproject.toml'."),
    ],
)
def test_what_click_refuses_is_told_in_korean(korean, request, monkeypatch, args, line):
    monkeypatch.chdir(request.config.rootpath)
    told = CliRunner().invoke(cli, list(args))
    assert told.exit_code == 2
    assert line in told.stderr
    assert told.stderr.splitlines()[0].startswith(("사용법: ", "오류: ")) and not english_left(
        told.stderr.splitlines()[-1]
    )


def test_every_sentence_that_the_code_can_say_has_its_korean():
    lacking = list(missing(sentences()))
    assert not lacking, "write its Korean in kstock_batch/korean/, or what is no speech in UNSAID: " + "; ".join(
        lacking
    )


def test_what_an_audit_looks_for_is_told_in_korean():
    assert not [audit.what for audit in chosen_audits(()) if said(audit.what) == audit.what]


@pytest.mark.parametrize(
    ("word", "pair", "form"),
    [
        *[("주식", ("은", "는"), "은"), ("회사", ("은", "는"), "는"), ("서울", ("으로", "로"), "로")],
        *[("005930", ("이", "가"), "이"), ("3", ("을", "를"), "을"), ("2", ("을", "를"), "를")],
        *[
            ("1", ("으로", "로"), "로"),
            ("2024-06-02", ("은", "는"), "은"),
            ("`model`", ("이", "가"), "이"),
            ("KRX", ("이", "가"), "가"),
        ],
        *[("LSTM", ("과", "와"), "과"), ("20 %", ("을", "를"), "를")],
        *[("(파일)", ("으로", "로"), "로"), ("", ("을", "를"), "를")],
    ],
)
def test_a_particle_follows_the_sound_of_what_stands_before_it(word, pair, form):
    assert chosen(word, *pair) == form


def test_a_sentence_with_holes_is_found_by_what_it_says_and_its_particles_agree():
    template = Template("{name} is {days} old", "{name}[은/는] {days} 지났습니다")
    filled = template.filled({**(template.match("x.duckdb is 3 days old") or {}), "days": "3일"})
    assert filled == "x.duckdb는 3일 지났습니다"
    assert template.match("x.duckdb is young") is None


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.json")))
def test_the_holes_of_both_languages_agree_and_every_entry_is_korean(name):
    for english, korean in entries(name).items():
        assert name != NOUNS or holes(korean) == ["n"]
        assert name == NOUNS or Counter(holes(english)) == Counter(holes(korean)), english
        assert max(Counter(holes(english)).values(), default=1) == 1, f"a hole named twice: {english}"
        assert HANGUL.search(korean) or not english_left(english), english


def test_no_sentence_is_told_twice_and_no_two_columns_share_a_head():
    files = [path.name for path in FOLDER.glob("*.json") if path.name not in (COLUMNS, NOUNS, WORDS)]
    bare = [re.sub(r"\{\w+\}", "{}", english) for name in files for english in entries(name)]
    assert not [english for english, n in Counter(bare).items() if n > 1]
    assert not [head for head, n in Counter(entries(COLUMNS).values()).items() if n > 1]
    assert len(sentences()) == len(bare)


def test_files_of_the_catalogue_are_as_json_writes_them():
    for path in FOLDER.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert text == json.dumps(json.loads(text), ensure_ascii=False, indent=0) + "\n", path.name


# What a person may see in many places: names of libraries and models, units, signs.
NAMELESS = {"#", "", "- | +", "MB", "lgbm", "xgb", "lstm"}

QUIETLY_RIGHT = (
    *(
        ("status",),
        ("predictions", "show", "--top", 3),
        ("predictions", "show", "--ticker", "STOCK"),
        ("explain", "STOCK"),
    ),
    *(("predictions", "generations"), ("audit",), ("audit", "--list"), ("audit", "--history"), ("models", "list")),
    *(("models", "show"), ("runs", "list"), ("features", "list"), ("features", "describe", "rsi"), ("config", "show")),
    *(("upgrade", "--dry-run"), ("retrain", "--dry-run"), ("models", "prune", "--keep", 9), ("backtest", "list")),
    *(("schedule", "install", "--dry-run", "--kind", "cron"), ("summary",)),
)
REFUSED = (
    *(("check",), ("explain", "999999"), ("explain", "STOCK", "--as-of", "2020-01-02"), ("models", "show", "x")),
    *(("models", "promote", "x"), ("backtest", "show"), ("backtest", "compare", "x", "y"), ("backtest", "remove", "x")),
    *(
        ("sql", "DELETE FROM latest"),
        ("sql", "SELECT 1; SELECT 2"),
        ("runs", "show", "zz"),
        ("features", "describe", "zz"),
    ),
    *(("audit", "zz"), ("audit", "--as-of", "2020-01-02"), ("export", "--out", "x", "--from", "2025-01-01")),
    *(("score", "--as-of", "2024-06-29"), ("ingest", "--source", "zz")),
    *(("features", "--as-known-at", "2019-01-02T18:30"), ("predictions", "rollback", "--to", "zz"), ("backtest",)),
    *(
        ("features", "--rebuild", "--as-known-at", f"{LAST}T18:30"),
        ("upgrade", "--restore", "zz"),
        ("models", "rollback"),
    ),
    *(
        ("--verbose", "--quiet", "status"),
        ("backtest", "--from", "x"),
        ("backtest", "--from", "2024-01", "--refit", "x"),
    ),
    *(("sql", "SELECT 1", "--format", "parquet"), ("sql", "SELECT 1", "--out", "x.foo"), ("tune", "--show")),
    *(
        ("ingest", "forgive", "zz"),
        ("ingest", "--source", "krx"),
        ("ingest", "files", "nowhere"),
        ("score", "--as-of", "x"),
    ),
)
IN_AN_EMPTY_FOLDER = (
    *(
        ("check",),
        ("score",),
        ("features",),
        ("retrain",),
        ("sql", "SELECT 1"),
        ("sql", "--store", "SELECT 1"),
        ("report",),
    ),
    *(("models", "show"), ("models", "rollback"), ("explain", "005930"), ("predictions", "rollback"), ("audit",)),
)


def left_in_english(root, args) -> list[str]:
    """Return what a command says in English where it should say nothing in English."""
    told = run(root, *args)
    # what a message or a scheduler is given is shown as it is given
    lines = [
        line for line in f"{told.stdout}\n{told.stderr}".splitlines() if not line.startswith(("사용법", "도움말", "#"))
    ]
    return [f"{args}: {line}" for line in lines if english_left(line)]


def test_what_is_told_on_the_way_and_what_is_refused_is_told_in_korean(judged, tmp_path, korean, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    unknown = set()
    known = catalogue.head
    monkeypatch.setattr(
        catalogue, "head", lambda column: (unknown.add(column) if known(column) == column else None, known(column))[1]
    )
    stock = asked_json(judged, "predictions", "show", "--top", 1)[0]["ticker"]
    root = copy_root(judged, tmp_path / "root")
    commands_run = [tuple(stock if arg == "STOCK" else arg for arg in args) for args in (*QUIETLY_RIGHT, *REFUSED)]
    left = [line for args in commands_run for line in left_in_english(root, args)]
    (tmp_path / "empty").mkdir()
    left += [line for args in IN_AN_EMPTY_FOLDER for line in left_in_english(tmp_path / "empty", args)]
    assert not left, left
    assert not unknown - NAMELESS, f"heads without Korean in kstock_batch/korean/columns.json: {unknown - NAMELESS}"


def test_json_and_exit_codes_and_what_is_stored_are_the_same_in_both_languages(judged, monkeypatch):
    told = {}
    for language in ("en", "ko"):
        monkeypatch.setenv("KSTOCK_LANGUAGE", language)
        refused = run(judged, "score", "--as-of", SATURDAY)
        told[language] = (
            asked_json(judged, "predictions", "show"),
            asked_json(judged, "audit", "--list"),
            refused.exit_code,
        )
    assert told["en"] == told["ko"]
    told = asked_json(judged, "runs", "list")[0]
    assert not HANGUL.search(str(told["told"])), "the ledger is read by programs: it stays English"


def test_the_rows_of_a_question_keep_the_names_they_were_asked_by(judged, korean):
    answer = done(judged, "sql", "SELECT ticker, probability FROM latest LIMIT 1").stdout
    assert "ticker" in answer and "probability" in answer
