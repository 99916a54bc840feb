"""The search for parameters: the defaults first, nothing lost by a kill, nothing written that is not proven better."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from factories import LAST, asked_json, run, sentence, sessions_between
from kstock_batch.errors import ConfigError
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.learners import lstm_process
from kstock_batch.learners.lstm_recipe import Recipe
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run
from kstock_batch.training import fitting, study, tune
from kstock_batch.training.material import material_of, n_learnt, study_facts, study_name
from kstock_batch.training.retrain import retrain
from kstock_batch.training.search_space import SPACES, own_values
from kstock_batch.training.tuned import FILE_NAME, tuned_parameters, write_tuned
from kstock_batch.training.tuning_report import Found

TOML = "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 6\n"
GOOD = {"num_leaves": 9, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    root = tmp_path_factory.mktemp("market")
    (root / "kstock.toml").write_text(TOML, encoding="utf-8")
    days = sessions_between(LAST - timedelta(days=440), LAST)[-220:]
    generate(days, n_tickers=24, seed=7, signal=3.0).write(root / "sample")
    settings = Settings.load(root, environ={})
    with opened_run(settings, "test", at=datetime(2024, 6, 29)) as run:
        ingest_files(run.warehouse, root / "sample", load_mapping(), settings=settings, run=run)
        bring_up_to_date(run.warehouse, settings, run)
        return settings, material_of(run, settings, LAST)


@pytest.fixture
def settings(market, tmp_path):
    return replace(market[0], root=tmp_path)


@pytest.fixture
def material(market):
    return market[1]


@pytest.fixture
def judged(monkeypatch):
    """Replace training and judging: a trial's loss is what the test says of its parameters, in every session."""

    def by(loss_of, noise=0.0):
        monkeypatch.setattr(tune.Fitter, "fit_one", lambda self, name, *_: self.parameters.get(name, {}))
        monkeypatch.setattr(tune, "durations", lambda members: {name: fitting.Duration(1) for name in members})

        def judge(search, parameters, block):
            counts = np.unique(search.material.rows.position[block.windows], return_counts=True)[1]
            luck = np.random.default_rng(len(parameters)).normal(scale=noise, size=len(counts))
            losses = loss_of(parameters) + luck
            return float(np.average(losses, weights=counts)), (losses * counts).tolist()

        monkeypatch.setattr(tune.Search, "_judge", judge)

    return by


def tried(found):
    return [(trial.params, trial.value) for trial in study.finished(found.study)]


def searched(material, settings, n_trials, **given):
    (found,) = tune.tune(material, settings, ("lgbm",), n_trials, **given)
    return found


def test_the_first_trial_is_the_members_own_parameters_and_the_best_is_never_worse(material, settings):
    found = searched(material, settings, 3)
    first = study.finished(found.study)[0]
    assert first.params == own_values("lgbm", n_learnt("lgbm", material))
    assert found.default == first
    assert found.best.value <= first.value
    fitter = fitting.Fitter(settings, tune.Budget(None, cost=1), fitting.members_here())
    member = fitter.fit_one("lgbm", material.blocks[0].train, material.stop)
    loss, sums = tune.Search("lgbm", material, settings, found.study)._judge(member, material.blocks[0])
    assert first.intermediate_values[0] == loss
    assert first.user_attrs["session_losses"][: len(sums)] == pytest.approx(sums, abs=1e-6)
    assert sum(found.study.user_attrs["session_counts"]) == sum(len(block.windows) for block in material.blocks)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(material, settings, tmp_path, judged):
    judged(lambda p: 0.5 + p.get("learning_rate", 0.02))
    one = searched(material, replace(settings, root=tmp_path / "one"), 14)
    two = searched(material, replace(settings, root=tmp_path / "two"), 14)
    assert tried(one) == tried(two)
    assert len({str(parameters) for parameters, _ in tried(one)}) == 14, "no draw twice"
    other = searched(material, replace(settings, root=tmp_path / "other", seed=1), 14)
    assert tried(other)[1:] != tried(one)[1:]


def test_a_search_that_is_gone_on_with_tries_what_an_uninterrupted_one_tries(material, settings, tmp_path, judged):
    judged(lambda p: 0.5 + p.get("learning_rate", 0.02))
    whole = searched(material, replace(settings, root=tmp_path / "whole"), 14)
    for n_trials in (4, 11, 14, 14):
        parts = searched(material, settings, n_trials)
    assert tried(parts) == tried(whole)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from kstock_batch.training import study

with study.held(Path({models!r})) as journal:
    found = study.opened_study(journal, "a", {{"member": "lgbm"}})
    for number in range({n_trials}):
        trial = study.next_trial(found, 1)
        trial.report(0.5, 0)
        if number == 2 and {is_killed}:
            with journal.open("ab") as file:
                file.write(b'{{"op_code": 6, "worker')
            journal.with_name("tuning.journal.lock").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found.tell(trial, trial.params["learning_rate"])
"""


def test_a_killed_search_keeps_its_finished_trials_and_goes_on(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), models=str(tmp_path), n_trials=4, is_killed=True)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environ, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    with study.held(tmp_path) as journal:
        assert not journal.with_name("tuning.journal.lock").exists(), "optuna would wait half a minute for it"
        found = study.opened_study(journal, "a", {"member": "lgbm"})
        kept = study.finished(found)
        assert [trial.number for trial in kept] == [0, 1]
        assert [trial.state.name for trial in found.trials] == ["COMPLETE", "COMPLETE", "FAIL"]
        again = study.next_trial(found, 1)
        assert again.params == found.trials[2].params, "what was under way is tried again"
        found.tell(again, 0.1)
    with study.held(tmp_path) as journal:
        assert len(study.finished(study.opened_study(journal, "a", {"member": "lgbm"}))) == 3


def test_ctrl_c_keeps_what_is_finished(material, settings, judged):
    def interrupted(parameters):
        if parameters and parameters["learning_rate"] != before["learning_rate"]:
            raise KeyboardInterrupt
        return 0.5

    before = {}
    judged(lambda p: 0.5)
    before |= study.finished(searched(material, settings, 2).study)[1].params
    judged(interrupted)
    with pytest.raises(KeyboardInterrupt):
        searched(material, settings, 5)
    left = study.newest_study(settings.models / study.JOURNAL, "lgbm")
    assert [trial.state.name for trial in left.trials] == ["COMPLETE", "COMPLETE", "FAIL"]


def test_a_search_ends_when_its_time_is_over_and_an_unfinished_trial_counts_for_nothing(material, settings, judged):
    ticks = iter(range(100))
    judged(lambda p: 0.5)
    with study.held(settings.models) as journal:
        found = study.opened_study(journal, "a", study_facts("lgbm", material))
        # asked before a trial and between its two folds: the third trial's second fold comes too late
        tune.Search("lgbm", material, settings, found, deadline=5, clock=lambda: next(ticks)).run(50)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "COMPLETE", "FAIL"]


def test_a_trial_worse_than_the_median_is_given_up_after_the_first_fold(material, settings, judged):
    judged(lambda p: 0.5 + p.get("learning_rate", 0.02))
    rows = study.history(searched(material, settings, 30).study)
    assert {(row["state"], row["folds"]) for row in rows} == {("complete", 2), ("pruned", 1)}
    assert all(row["state"] == "complete" for row in rows[: study.MIN_FOR_PRUNING])


@pytest.mark.parametrize(
    ("gain", "noise", "is_better"), [(0.01, 0.0, True), (0.0005, 0.05, False), (-0.01, 0.0, False)]
)
def test_only_what_is_proven_better_is_written(material, settings, judged, gain, noise, is_better):
    judged(lambda p: 0.5 - gain if p else 0.5, noise)
    found = searched(material, settings, 4)
    assert found.is_better is is_better
    assert (settings.models / FILE_NAME).exists() is is_better
    assert ("the defaults stay" in found.sentence) is not is_better
    if is_better:
        facts = json.loads((settings.models / FILE_NAME).read_text())["members"]["lgbm"]
        assert facts["parameters"] == found.best.params
        assert (facts["as_of"], facts["n_trials"], facts["study"]) == (str(LAST), 4, found.study.study_name)
        assert (facts["objective"], facts["default_objective"]) == (pytest.approx(0.49), pytest.approx(0.5))


def test_what_an_earlier_search_found_is_tried_second_and_only_once(material, settings, judged):
    before = {**own_values("lgbm", 10_000), "num_leaves": 21}
    write_tuned(settings.models, {"lgbm": {"parameters": before, "as_of": "2024-01-05"}})
    judged(lambda p: 0.5)
    searched(material, settings, 3)
    found = searched(material, settings, 5)
    assert [row["origin"] for row in study.history(found.study)] == ["default", "tuned before", *["search"] * 3]
    assert tried(found)[1][0] == before


def test_other_data_or_settings_begin_another_study(material, settings, judged):
    name = study_name("lgbm", material, settings)
    assert name == study_name("lgbm", replace(material), replace(settings, threads=1))
    others = [
        study_name("xgb", material, settings),
        study_name("lgbm", replace(material, digest="0" * 64), settings),
        study_name("lgbm", replace(material, as_of=date(2024, 6, 27)), settings),
        *(study_name("lgbm", material, replace(settings, **{k: 9})) for k in ("n_folds", "tree_stride", "seed")),
    ]
    assert len({name, *others}) == 7
    judged(lambda p: 0.5)
    searched(material, settings, 3)
    assert len(tried(searched(replace(material, digest="0" * 64), settings, 2))) == 2
    assert len(tried(searched(material, settings, 1))) == 3


def test_two_searches_do_not_write_one_journal(material, settings):
    with study.held(settings.models), pytest.raises(ConfigError, match="another process is tuning"):
        searched(material, settings, 1)


def test_importance_finds_the_parameter_that_matters(material, settings, judged):
    judged(lambda p: 0.5 + abs(p.get("learning_rate", 0.02) - 0.05))
    found = searched(material, settings, 40)
    shares = study.importances(found.study)
    assert next(iter(shares)) == "learning_rate"
    assert shares.keys() == SPACES["lgbm"].keys()
    assert found.report()["importance"] == shares


def test_a_later_retrain_uses_the_parameters_but_never_those_a_later_night_found(market, tmp_path, monkeypatch):
    given, _ = market
    settings = replace(given, root=tmp_path)
    monkeypatch.setattr("kstock_batch.training.retrain.members_here", lambda: ("lgbm",))
    (tmp_path / "warehouse").symlink_to(given.warehouse)
    write_tuned(settings.models, {"lgbm": {"parameters": GOOD, "as_of": str(LAST)}})
    for as_of, is_used in ((LAST, True), (sessions_between(LAST - timedelta(days=9), LAST)[-2], False)):
        with opened_run(settings, "retrain", at=datetime(2024, 6, 30)) as run:
            manifest = retrain(run.warehouse, settings, run, as_of).version.manifest
        card = manifest["members"]["lgbm"]["card"]["parameters"]
        assert ({name: card[name] for name in GOOD} == GOOD) is is_used
        assert manifest["tuned"] == ({"lgbm": GOOD} if is_used else {})


def test_the_lstms_parameters_reach_its_training(material, settings, monkeypatch):
    ordered = {}

    def noted(folder, _):
        ordered.update(json.loads((folder / "order.json").read_text()))
        raise InterruptedError

    monkeypatch.setattr(lstm_process, "_run", noted)
    tuned = {"lstm": {"learning_rate": 0.004, "batch_size": 256}}
    fitter = fitting.Fitter(settings, tune.Budget(None, cost=1), ("lstm",), tuned)
    with pytest.raises(InterruptedError):
        fitter.fit_one("lstm", material.blocks[0].train)
    assert Recipe.of(ordered["recipe"]) == Recipe(learning_rate=0.004, batch_size=256)
    with pytest.raises(ConfigError, match=r"the LSTM has no parameters \['momentum'\]"):
        Recipe.of({"momentum": 0.9})


@pytest.mark.parametrize(
    ("member", "parameters", "said"),
    [
        ("catboost", {}, "names the unknown member 'catboost'"),
        ("lgbm", {"max_bin": 63}, "lgbm has no parameters ['max_bin']"),
        ("lgbm", {"num_leaves": 4000}, "num_leaves = 4000 is not within 7 … 127"),
        ("lgbm", {"num_leaves": 9.5}, "num_leaves = 9.5 is no whole number"),
        ("xgb", {"eta": "fast"}, "eta = 'fast' is no number"),
    ],
)
def test_parameters_that_no_search_can_have_found_are_refused(tmp_path, member, parameters, said):
    path = tmp_path / FILE_NAME
    path.write_text(json.dumps({"members": {member: {"parameters": parameters, "as_of": "2024-01-05"}}}))
    with pytest.raises(ConfigError) as refused:
        tuned_parameters(tmp_path, LAST)
    assert said in str(refused.value)
    assert str(path) in str(refused.value)


def test_the_command_searches_and_shows_without_changing_anything(market, tmp_path):
    given, _ = market
    (tmp_path / "kstock.toml").write_text(TOML, encoding="utf-8")
    (tmp_path / "warehouse").symlink_to(given.warehouse)
    assert "nothing was tuned yet" in sentence(run(tmp_path, "tune", "--show"))
    assert not (tmp_path / "models").exists()
    (report,) = asked_json(tmp_path, "tune", "--member", "lgbm", "--trials", 2)
    assert [row["origin"] for row in report["history"]] == ["default", "search"]
    before = (tmp_path / "models" / study.JOURNAL).read_bytes()
    (shown,) = asked_json(tmp_path, "tune", "--member", "lgbm", "--show")
    assert shown == report
    printed = run(tmp_path, "tune", "--show").stdout
    assert f"trials of lgbm, as-of {LAST}" in printed
    assert printed.splitlines()[-1].startswith("lgbm: ")
    assert "nothing was tuned yet as-of 2024-06-03" in sentence(
        run(tmp_path, "tune", "--show", "--as-of", "2024-06-03")
    )
    assert (tmp_path / "models" / study.JOURNAL).read_bytes() == before


def test_without_optuna_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.tune.is_installed", lambda library: library != "optuna")
    refused = run(tmp_path, "tune")
    assert refused.exit_code == 2
    assert sentence(refused) == (
        "error: tuning needs optuna, which is not installed fix: pip install 'kstock-batch[tune]'"
    )


def test_a_report_without_a_finished_default_says_so(settings):
    with study.held(settings.models) as journal:
        found = Found.of(study.opened_study(journal, "a", {"member": "xgb", "as_of": str(LAST)}))
    assert found.sentence == "xgb: 0 trials, the member's own parameters are not judged yet"
    assert found.report()["history"] == []
