"""The nightly score: what a prediction says, when a session is not scored, and that a rerun changes nothing."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from factories import asked_json, done, run, sentence, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.bot.results import score_bonus, signal_label
from kstock_batch.champion import Champion
from kstock_batch.learners.calibration import even_prior_signal, logit
from kstock_batch.learners.ensemble import CalibratedBlend, blend
from kstock_batch.learners.inputs import TABULAR_NAMES
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.xgb import XgbMember
from kstock_batch.market.contract import fingerprint
from kstock_batch.registry import Registry
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse


def predictions(root):
    rows = PredictionReader(Settings(root=root).published, None).top(5000)
    return pl.DataFrame([{**row.facts(), "shap_top3": json.dumps(row.shap_top3)} for row in rows])


def inode(root):
    stat = Settings(root=root).published.stat()
    return stat.st_ino, stat.st_mtime_ns


def test_a_prediction_carries_two_scales_its_members_its_rank_and_its_origin(trained_root):
    rows = predictions(trained_root)
    champion = Registry(trained_root / "models").champion()
    base_rate = champion.manifest["base_rate"]
    assert rows["signal"].to_list() == pytest.approx(even_prior_signal(rows["probability"], base_rate).tolist())
    assert rows["lift"].to_list() == pytest.approx((rows["probability"] / base_rate).to_list())
    assert rows["label"].to_list() == [signal_label(value) for value in rows["signal"]]
    assert rows["score_bonus"].to_list() == [score_bonus(value) for value in rows["signal"]]
    assert rows["rank"].to_list() == list(range(1, rows.height + 1))
    assert rows["probability"].is_sorted(descending=True)
    assert (rows["percentile"].max(), rows["percentile"].min()) == (100, 0)
    assert rows.select(pl.col("lgbm", "xgb", "lstm").is_not_null().all()).row(0) == (True, True, True)
    assert set(rows["model_version"]) == {champion.version}
    assert set(rows["fingerprint"]) == {fingerprint()}


def test_the_published_numbers_are_those_of_the_store(trained_root):
    stored = store_rows(trained_root, "SELECT ticker, probability, lstm FROM prediction ORDER BY rank")
    published = predictions(trained_root).select("ticker", "probability", "lstm").rows()
    assert published == stored


def test_the_ranked_blend_is_the_calibrated_mean_of_the_calibrated_members(trained_root):
    rows = predictions(trained_root)
    calibration = CalibratedBlend.from_manifest(Registry(trained_root / "models").champion().manifest)
    mean = blend({name: rows[name].to_numpy() for name in ("lgbm", "xgb", "lstm")}, calibration.weights)
    calibrated = calibration.blend.apply(logit(mean))
    assert np.abs(calibrated - rows["probability"].to_numpy()).max() < 1e-12


def test_every_prediction_says_in_three_columns_what_sets_the_stock_apart(trained_root):
    rows = predictions(trained_root)
    told = [json.loads(text) for text in rows["shap_top3"]]
    assert told
    for row in told:
        assert len(row) == 3
        sizes = [abs(value) for _, value in row]
        assert sizes == sorted(sizes, reverse=True) and np.isfinite(sizes).all()
        assert {name for name, _ in row} <= set(TABULAR_NAMES)
    stored = store_rows(trained_root, "SELECT shap_top3 FROM prediction ORDER BY rank")
    assert told == [json.loads(text) for (text,) in stored]
    # Said of the same stocks, the best of the session stand out by what speaks for them.
    assert sum(value for _, value in told[0]) > 0 > sum(value for _, value in told[-1])


def test_a_model_without_a_tree_in_its_blend_explains_nothing(trained_root, monkeypatch):
    calibration = CalibratedBlend.from_manifest(Registry(trained_root / "models").champion().manifest)
    no_trees = replace(calibration, weights={"lgbm": 0.0, "xgb": 0.0, "lstm": 1.0})
    monkeypatch.setattr(Champion, "calibration", no_trees)
    done(trained_root, "score", "--as-of", predictions(trained_root)["as_of"][0], "--force")
    assert store_rows(trained_root, "SELECT DISTINCT shap_top3 FROM prediction") == [("[]",)]
    assert set(predictions(trained_root)["shap_top3"]) == {"[]"}


def test_all_members_share_the_level_of_the_night_but_for_their_shifts(trained_root):
    rows = predictions(trained_root)
    members = Registry(trained_root / "models").champion().manifest["members"]
    levels = [logit(rows[name].to_numpy()).mean() - facts["calibrator"]["shift"] for name, facts in members.items()]
    assert levels == pytest.approx([levels[0]] * 3, abs=1e-9)


def test_every_scoreable_name_of_the_session_is_scored_and_no_other(trained_root):
    as_of = predictions(trained_root)["as_of"][0]
    scoreable = store_rows(
        trained_root, f"SELECT ticker FROM feature_daily WHERE as_of = DATE '{as_of}' AND is_scoreable ORDER BY ticker"
    )
    assert sorted(predictions(trained_root)["ticker"]) == [ticker for (ticker,) in scoreable]


def test_a_rerun_with_nothing_to_do_touches_neither_predictions_nor_publication_and_says_so(trained_root):
    before = store_rows(trained_root, "FROM prediction ORDER BY as_of, ticker")
    file = inode(trained_root)
    again = done(trained_root, "score", "--as-of", before[0][0])
    assert "already scored" in again.stdout and "nothing changed" in again.stdout
    assert "published" not in again.stdout
    assert store_rows(trained_root, "FROM prediction ORDER BY as_of, ticker") == before
    assert inode(trained_root) == file


def test_a_forced_rerun_replaces_the_same_numbers_and_publishes_them(trained_root):
    told = "SELECT as_of, ticker, probability, rank FROM prediction ORDER BY as_of, ticker"
    before, file = store_rows(trained_root, told), inode(trained_root)
    (first,) = store_rows(trained_root, "SELECT DISTINCT run_id FROM prediction")
    assert asked_json(trained_root, "score", "--as-of", before[0][0], "--force")["is_published"] is True
    assert store_rows(trained_root, told) == before
    assert store_rows(trained_root, "SELECT DISTINCT run_id FROM prediction") != [first]
    assert inode(trained_root) != file


@pytest.mark.parametrize("harm", ["lost", "damaged", "never made"])
def test_a_rerun_publishes_what_is_scored_but_not_in_the_publication(trained_root, harm, monkeypatch):
    file, day = Settings(root=trained_root).published, predictions(trained_root)["as_of"][0]
    if harm == "lost":
        file.unlink()
    elif harm == "damaged":
        file.write_bytes(b"no database")
    else:  # killed between the commit of the rows and the rename of the file

        def dies(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr("kstock_batch.serving.night.night.publish", dies)
            assert run(trained_root, "score", "--as-of", day, "--force").exit_code == 1
    assert "already scored" in (night := done(trained_root, "score", "--as-of", day)).stdout
    assert "published again" in night.stdout
    assert predictions(trained_root)["run_id"].to_list() == [
        run_id for (run_id,) in store_rows(trained_root, "SELECT run_id FROM prediction ORDER BY rank")
    ]


def test_nights_that_never_came_are_caught_up_in_order_and_equal_single_nights(trained_root, tmp_path):
    from factories import copy_root

    done(trained_root, "ingest", "files", trained_root / "next")
    done(trained_root, "features")
    one_by_one = copy_root(trained_root, tmp_path / "other")
    scored, *due = [day for (day,) in store_rows(trained_root, "SELECT as_of FROM feature_session ORDER BY 1")][-3:]
    assert predictions(trained_root)["as_of"][0] == scored
    night = asked_json(trained_root, "score")
    assert [session["as_of"] for session in night["sessions"]] == [str(day) for day in due]
    for day in due:
        done(one_by_one, "score", "--as-of", day)
    told = "SELECT as_of, ticker, probability, rank FROM prediction ORDER BY as_of, ticker"
    assert store_rows(trained_root, told) == store_rows(one_by_one, told)
    assert "nothing changed" in done(trained_root, "score").stdout


def test_what_is_missed_further_back_than_it_looks_is_said_and_left(trained_root):
    done(trained_root, "ingest", "files", trained_root / "next")
    with (trained_root / "kstock.toml").open("a") as settings:
        settings.write("catch_up_sessions = 1\n")
    first = [day for (day,) in store_rows(trained_root, "SELECT as_of FROM feature_session ORDER BY 1")][-6]
    done(trained_root, "score", "--as-of", first)
    night = done(trained_root, "score")
    assert "stocks of 2 sessions, newest" in night.stdout
    assert "warning: 3 sessions missed before those stay so: catch_up_sessions reaches no further" in night.stderr


def test_a_night_on_a_day_off_with_nothing_to_do_is_skipped(trained_root, monkeypatch):
    from datetime import datetime

    done(trained_root, "score")
    newest = predictions(trained_root)["as_of"][0]
    monkeypatch.setattr("kstock_batch.cli.nightly.utc_now", lambda: datetime(2024, 6, 29, 10))
    night = done(trained_root, "score")
    assert night.stdout.startswith(
        f"skipped: 2024-06-29 is no session of the exchange; already scored as-of {newest} with "
    )
    assert night.stdout.endswith("; nothing changed; the session after it has no prices yet\n")


def test_sessions_that_were_missed_are_scored_in_one_run_and_equal_single_nights(trained_root, tmp_path, monkeypatch):
    from factories import copy_root

    monkeypatch.setattr("kstock_batch.serving.night.session_windows.AT_ONCE", 3)  # of four sessions
    one_by_one = copy_root(trained_root, tmp_path / "other")
    days = [day for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")][-4:]
    answer = asked_json(trained_root, "score", "--from", days[0], "--as-of", days[-1])
    assert answer["as_of"] == str(days[-1])
    for day in days:
        done(one_by_one, "score", "--as-of", day)
    told = "SELECT * EXCLUDE (run_id, scored_at) FROM prediction ORDER BY as_of, ticker"
    assert store_rows(trained_root, told) == store_rows(one_by_one, told)
    assert {row[0] for row in store_rows(trained_root, told)} == set(days)


def test_new_prices_of_a_scored_session_make_it_due_again(trained_root):
    as_of = predictions(trained_root)["as_of"][0]
    assert "already scored" in done(trained_root, "score", "--as-of", as_of).stdout
    done(trained_root, "features", "--rebuild")
    assert "already scored" not in done(trained_root, "score", "--as-of", as_of).stdout


def test_a_model_must_not_score_sessions_whose_outcome_it_has_seen(trained_root):
    known = date.fromisoformat(Registry(trained_root / "models").champion().manifest["as_of"])
    days = [day for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")]
    before = predictions(trained_root)
    refused = run(trained_root, "score", "--as-of", days[days.index(known) - 1])
    assert refused.exit_code == 10
    assert f"trained on outcomes known by {known}" in sentence(refused)
    assert predictions(trained_root).equals(before)


@pytest.mark.parametrize("said", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("member", [LgbmMember, XgbMember, LstmMember])
def test_a_member_that_is_not_a_number_is_refused_even_if_the_blend_is_one(member, said, trained_root, monkeypatch):
    before = predictions(trained_root), store_rows(trained_root, "FROM prediction ORDER BY ALL"), inode(trained_root)
    margin = member.margin

    def once(self, inputs, ends):
        return np.where(np.arange(len(ends)) == 3, said, margin(self, inputs, ends))

    monkeypatch.setattr(member, "margin", once)
    failed = run(trained_root, "score", "--as-of", before[0]["as_of"][0], "--force")
    assert failed.exit_code == 10
    assert "gave 1 probabilities that are none, e.g. for ['" in sentence(failed)
    assert predictions(trained_root).equals(before[0])
    assert (store_rows(trained_root, "FROM prediction ORDER BY ALL"), inode(trained_root)) == before[1:]


def test_a_champion_that_says_the_same_of_every_stock_is_not_published(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.serving.night.distribution.MIN_NAMES", 10)  # of fewer nothing is said
    before = predictions(trained_root), inode(trained_root)
    for member in (LgbmMember, XgbMember, LstmMember):
        monkeypatch.setattr(member, "margin", lambda self, inputs, ends: np.full(len(ends), 0.1))
    failed = run(trained_root, "score")
    assert failed.exit_code == 19
    assert "distribution: " in sentence(failed)
    assert (predictions(trained_root).equals(before[0]), inode(trained_root)) == (True, before[1])


def test_a_clock_set_back_cannot_hide_that_features_changed(trained_root, monkeypatch):
    from datetime import datetime

    as_of = predictions(trained_root)["as_of"][0]
    for module in ("data", "nightly"):
        monkeypatch.setattr(f"kstock_batch.cli.{module}.utc_now", lambda: datetime(2001, 1, 1))
    done(trained_root, "features", "--rebuild")
    assert "already scored" not in done(trained_root, "score", "--as-of", as_of).stdout


def test_a_model_whose_inputs_are_built_otherwise_is_refused(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.learners.inputs.INPUTS_VERSION", 99)
    refused = run(trained_root, "score", "--force")
    assert refused.exit_code == 10
    assert "reads its inputs as version 2" in sentence(refused)


def test_the_model_card_is_that_of_the_newest_predictions(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.training.fitting.trainable", lambda: ("lgbm", "xgb"))  # the LSTM takes its time
    days = [day for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM feature_daily ORDER BY 1")]
    done(trained_root, "score", "--as-of", days[-1])
    served = Registry(trained_root / "models").champion().version
    run(trained_root, "retrain", "--as-of", days[-3])  # forty stocks: whether the gate lets it pass is not the point
    other = next(v.version for v in Registry(trained_root / "models").versions() if v.version != served)
    done(trained_root, "models", "promote", other)
    done(trained_root, "score", "--as-of", days[-2])
    card = asked_json(trained_root, "sql", "SELECT value FROM model_card WHERE key = 'version'")
    assert card == [{"value": f'"{served}"'}]


def test_audits_of_severity_fail_stop_the_night(trained_root):
    import duckdb

    as_of = predictions(trained_root)["as_of"][0]
    con = duckdb.connect(str(Settings(root=trained_root).store))
    con.execute("UPDATE feature_daily SET rsi = 101 WHERE as_of = $day AND is_scoreable", {"day": as_of})
    con.close()
    before = predictions(trained_root)
    failed = run(trained_root, "score", "--as-of", as_of, "--force")
    assert failed.exit_code == 4
    assert "feature_daily_range" in sentence(failed)
    assert "101" in sentence(failed)
    assert predictions(trained_root).equals(before)
    assert run(trained_root, "audit", "feature_daily_range", "--as-of", as_of).exit_code == 4
    assert run(trained_root, "audit", "feature_daily_unique", "--as-of", as_of).exit_code == 0


def test_a_probability_that_is_none_is_never_published(trained_root, monkeypatch):
    apply = CalibratedBlend.apply

    def too_sure(self, *args):
        members, blended = apply(self, *args)
        return members, blended + 1

    before = predictions(trained_root)
    monkeypatch.setattr(CalibratedBlend, "apply", too_sure)
    failed = run(trained_root, "score", "--as-of", before["as_of"][0], "--force")
    assert failed.exit_code == 10
    assert "probabilities that are none" in sentence(failed)
    monkeypatch.undo()
    assert predictions(trained_root).equals(before)


def test_predictions_of_a_model_that_was_pruned_since_are_published_with_its_name(trained_root):
    done(trained_root, "score")
    with Warehouse.open(Settings(root=trained_root)) as warehouse:
        newest = "(SELECT max(as_of) FROM prediction)"
        warehouse.con.execute(f"UPDATE prediction SET model_version = 'pruned' WHERE as_of = {newest}")
        warehouse.con.execute(f"UPDATE scored_session SET model_version = 'pruned' WHERE as_of = {newest}")
    (day,) = store_rows(trained_root, "SELECT as_of FROM feature_session ORDER BY as_of DESC LIMIT 1 OFFSET 1")[0]
    done(trained_root, "score", "--as-of", str(day), "--force")
    answer = asked_json(trained_root, "sql", "SELECT key, value FROM model_card")
    assert answer == [{"key": "version", "value": '"pruned"'}]
