"""`kstock-batch explain`: the numbers are those of the night, they add up, and what cannot be explained is said."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from factories import asked_json, done, run, sentence, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.champion import Champion
from kstock_batch.cli.explain import HALF, sign_bar
from kstock_batch.learners.calibration import logit
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.registry import Registry
from kstock_batch.serving.questions.explain import _largest
from kstock_batch.settings import Settings

REPOSITORY = Path(__file__).parents[1]


def stored(root):
    """Return the session scored and its rows by ticker, as the bot reads them."""
    rows = PredictionReader(Settings(root=root).published, None).top(5000)
    return rows[0].as_of, {row.ticker: row for row in rows}


def change_store(root, statement):
    con = duckdb.connect(str(Settings(root=root).store))
    con.execute(statement)
    con.close()


def calibration_of(root):
    return CalibratedBlend.from_manifest(Registry(root / "models").champion().manifest)


# The numbers


def test_a_scored_stock_is_told_as_it_is_stored_with_the_same_three_columns(trained_root):
    as_of, rows = stored(trained_root)
    for ticker in (min(rows, key=lambda t: rows[t].rank), max(rows, key=lambda t: rows[t].rank)):
        told, row = asked_json(trained_root, "explain", ticker, "--as-of", as_of), rows[ticker]
        assert (told["ticker"], told["as_of"], told["model_version"]) == (ticker, str(as_of), row.model_version)
        for name in ("probability", "signal", "label", "rank", "lgbm", "xgb", "lstm", "percentile"):
            assert told[name] == pytest.approx(getattr(row, name), abs=1e-12), name
        assert told["n_scored"] == len(rows)
        assert told["stored"] == {"probability": row.probability, "model_version": row.model_version}
        assert told["against_stored"] == "as stored"
        first = [(term["column"], round(term["adds"], 4)) for term in told["reasons"]["trees"]["terms"][:3]]
        assert first == list(row.shap_top3)


def test_the_terms_add_up_to_the_standing_the_members_give(trained_root):
    as_of, rows = stored(trained_root)
    weights = calibration_of(trained_root).weights
    level = {name: np.mean([logit(getattr(row, name)) for row in rows.values()]) for name in ("lgbm", "xgb", "lstm")}
    for ticker in list(rows)[::9]:
        told = asked_json(trained_root, "explain", ticker, "--as-of", as_of)
        standing = {name: float(logit(told[name]) - level[name]) for name in level}
        trees, lstm = told["reasons"]["trees"], told["reasons"]["lstm"]
        of_trees = (weights["lgbm"] * standing["lgbm"] + weights["xgb"] * standing["xgb"]) / (
            weights["lgbm"] + weights["xgb"]
        )
        assert trees["total"] == pytest.approx(of_trees, abs=1e-5)
        for told_sum in (trees, lstm["columns"]):
            largest = [abs(term["adds"]) for term in told_sum["terms"]]
            assert largest == sorted(largest, reverse=True) and len(largest) == 10
            shown = sum(term["adds"] for term in told_sum["terms"])
            assert shown + told_sum["others"] == pytest.approx(told_sum["total"], abs=1e-9)
        assert lstm["standing"] == pytest.approx(standing["lstm"], abs=1e-9)
        assert lstm["columns"]["total"] + lstm["offset"] == pytest.approx(standing["lstm"], abs=1e-9)


def test_what_all_stocks_share_in_the_lstm_is_the_same_for_each(trained_root):
    as_of, rows = stored(trained_root)
    told = [asked_json(trained_root, "explain", ticker, "--as-of", as_of) for ticker in list(rows)[:3]]
    offsets = [one["reasons"]["lstm"]["offset"] for one in told]
    assert offsets == pytest.approx([offsets[0]] * 3, abs=1e-3)  # the gradients leave 1e-4 of raw log-odds over


def test_the_lstms_bars_are_the_stocks_last_twenty_sessions_oldest_first(trained_root):
    as_of, rows = stored(trained_root)
    ticker = min(rows)
    bars = asked_json(trained_root, "explain", ticker, "--as-of", as_of)["reasons"]["lstm"]["bars"]
    days = store_rows(
        trained_root,
        f"SELECT as_of FROM feature_daily WHERE ticker = '{ticker}' AND as_of <= DATE '{as_of}' ORDER BY as_of",
    )
    assert [bar["session"] for bar in bars] == [str(day) for (day,) in days[-20:]]
    assert sum(bar["attention"] for bar in bars) == pytest.approx(1)
    told = asked_json(trained_root, "explain", ticker, "--as-of", as_of)["reasons"]["lstm"]["columns"]["total"]
    assert sum(bar["adds"] for bar in bars) == pytest.approx(told, abs=1e-9)


def test_the_default_session_is_the_newest_that_can_be_scored_and_it_says_that_it_is_not_yet(trained_root):
    as_of, rows = stored(trained_root)
    newest = store_rows(trained_root, "SELECT max(as_of) FROM feature_daily WHERE is_scoreable")[0][0]
    assert newest > as_of
    told = asked_json(trained_root, "explain", min(rows))
    assert (told["as_of"], told["stored"]) == (str(newest), None)
    assert told["against_stored"] == f"not scored yet: `kstock-batch score --as-of {newest}` does"


def test_a_stored_probability_that_differs_is_named_with_its_reason(trained_root):
    as_of, rows = stored(trained_root)
    ticker = min(rows)
    change_store(trained_root, "UPDATE prediction SET probability = 0.1234")
    told = asked_json(trained_root, "explain", ticker, "--as-of", as_of)["against_stored"]
    assert "the stored 0.1234 differs" in told and f"score --as-of {as_of} --force" in told
    change_store(trained_root, "UPDATE prediction SET model_version = 'another'")
    assert "is of model another" in asked_json(trained_root, "explain", ticker, "--as-of", as_of)["against_stored"]


def test_the_largest_terms_are_so_by_size_whatever_their_sign_and_an_unknown_value_is_none():
    names, values = [f"c{n}" for n in range(12)], np.arange(12, dtype=np.float32)
    values[11] = np.nan
    adds = np.array([0.0, *(0.1 * n for n in range(1, 11)), -5.0])
    told = _largest(names, values, adds)
    assert [term.column for term in told.terms] == ["c11", *(f"c{n}" for n in range(10, 1, -1))]
    assert (told.terms[0].value, told.terms[0].adds, told.terms[1].value) == (None, -5.0, 10.0)
    assert (told.n_others, told.others, told.total) == (2, pytest.approx(0.1), pytest.approx(0.5))


# What a person sees


def test_a_person_sees_the_columns_the_bars_and_the_sums(trained_root):
    as_of, rows = stored(trained_root)
    ticker = min(rows, key=lambda t: rows[t].rank)
    shown = done(trained_root, "explain", ticker, "--as-of", as_of)
    assert shown.stderr == ""
    for words in ("other columns", "together", "the same for every stock", "above the session's level", "|++++++++++"):
        assert words in shown.stdout
    last = shown.stdout.splitlines()[-1]
    assert last.startswith(f"{ticker} ") and f"as-of {as_of}" in last
    assert last.endswith(f"rank 1 of {len(rows)}, as stored")


def test_a_bar_grows_from_its_middle_and_never_beyond_its_half():
    assert sign_bar(1.0, 1.0) == " " * HALF + "|" + "+" * HALF
    assert sign_bar(-0.5, 1.0) == "     -----|"
    assert sign_bar(-3.0, 1.0) == "-" * HALF + "|"
    assert sign_bar(0.0, 0.0) == " " * HALF + "|"


def test_nothing_is_written_and_torch_is_not_imported(trained_root):
    _, rows = stored(trained_root)
    store, published = Settings(root=trained_root).store, Settings(root=trained_root).published
    before = store.read_bytes(), published.read_bytes()
    asked = (
        "import sys\nfrom kstock_batch.cli.app import cli\n"
        f"cli(['--root', {str(trained_root)!r}, 'explain', {min(rows)!r}, '--json'], standalone_mode=False)\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    with_reader = PredictionReader(published, None)
    with_reader.top(1)  # the bot holds the publication open meanwhile
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    with_reader.close()
    assert ran.stderr.strip() == "False"
    assert json.loads(ran.stdout)["ticker"] == min(rows)
    assert (store.read_bytes(), published.read_bytes()) == before


# What cannot be explained


def refused(root, code, *args):
    """Return the one sentence of a command that must fail with ``code``."""
    failed = run(root, "explain", *args)
    assert failed.exit_code == code, failed.stderr
    assert failed.stdout == ""
    return sentence(failed)


def test_a_stock_nobody_knows_and_a_session_that_was_none(trained_root):
    _, rows = stored(trained_root)
    assert "knows no stock 999999" in refused(trained_root, 3, "999999")
    assert "2024-06-22 was no session" in refused(trained_root, 3, min(rows), "--as-of", "2024-06-22")
    assert "is outside the stored prices" in refused(trained_root, 3, min(rows), "--as-of", "2031-01-02")


def test_a_stock_that_is_not_scoreable_in_that_session_says_why(trained_root):
    as_of, rows = stored(trained_root)
    one, two, three, *_ = sorted(rows)
    there = f"as_of = DATE '{as_of}' AND ticker"
    change_store(
        trained_root, f"UPDATE feature_daily SET is_scoreable = false, bars_available = 41 WHERE {there} = '{one}'"
    )
    change_store(trained_root, f"UPDATE feature_daily SET is_scoreable = false WHERE {there} = '{two}'")
    change_store(trained_root, f"DELETE FROM feature_daily WHERE {there} = '{three}'")
    assert f"has 41 bars by {as_of}, 60 are needed" in refused(trained_root, 3, one, "--as-of", as_of)
    assert f"is not scoreable on {as_of}" in refused(trained_root, 3, two, "--as-of", as_of)
    told = refused(trained_root, 3, three, "--as-of", as_of)
    assert f"has no bar on {as_of}" in told and "use --as-of 2024-06-25" in told


def test_a_session_whose_features_are_not_computed_says_so(trained_root):
    _, rows = stored(trained_root)
    newest = store_rows(trained_root, "SELECT max(as_of) FROM feature_daily")[0][0]
    change_store(trained_root, f"DELETE FROM feature_daily WHERE as_of = DATE '{newest}'")
    told = refused(trained_root, 3, min(rows), "--as-of", newest)
    assert f"features of {newest} are not computed yet" in told and "kstock-batch features" in told


def test_a_model_does_not_explain_sessions_whose_outcome_it_has_seen(trained_root):
    _, rows = stored(trained_root)
    known = Registry(trained_root / "models").champion().manifest["as_of"]
    days = [str(day) for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")]
    told = refused(trained_root, 10, min(rows), "--as-of", days[days.index(known) - 1])
    assert f"trained on outcomes known by {known}" in told


def test_without_a_champion_or_a_store_there_is_nothing_to_explain(trained_root, tmp_path):
    (trained_root / "models" / "champion.json").unlink()
    assert "no model has been promoted" in refused(trained_root, 11, "005930")
    assert "there is no store" in refused(tmp_path / "empty", 3, "005930")


def test_a_champion_without_an_lstm_or_without_weight_on_its_trees_explains_the_rest(trained_root, monkeypatch):
    as_of, rows = stored(trained_root)
    args = ("explain", min(rows), "--as-of", as_of, "--json")
    load, calibration = Champion.load.__func__, calibration_of(trained_root)

    def without_lstm(cls, version):
        whole = load(cls, version)
        return replace(whole, members={name: one for name, one in whole.members.items() if name != "lstm"})

    monkeypatch.setattr(Champion, "calibration", replace(calibration, weights={"lgbm": 0.0, "xgb": 0.0, "lstm": 1.0}))
    told = done(trained_root, *args)
    assert json.loads(told.stdout)["reasons"]["trees"] is None and json.loads(told.stdout)["reasons"]["lstm"]
    assert "no tree has weight in the blend" in told.stderr
    monkeypatch.undo()

    monkeypatch.setattr(Champion, "load", classmethod(without_lstm))
    told = done(trained_root, *args)
    assert json.loads(told.stdout)["reasons"]["lstm"] is None and json.loads(told.stdout)["reasons"]["trees"]
    assert "has no LSTM" in told.stderr
    shown = done(trained_root, *args[:-1])
    assert "its bars" not in shown.stdout and "the trees" in shown.stdout
