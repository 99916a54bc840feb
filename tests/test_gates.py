"""Gates: each is seen to fail for the fault it was made for, and lets pass what is only an uncommon night."""

import re
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from factories import asked_json, done, run, sentence, store_rows
from hand_store import KNOWN, hand_store, listing, prices, put, weekdays
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.errors import PublicationGated
from kstock_batch.serving.night.distribution import distribution
from kstock_batch.serving.night.gates import (
    OF_WHAT_IS_MISSING,
    Finding,
    Gate,
    coverage,
    data_gates,
    require_passed,
    wrong,
)
from kstock_batch.settings import Settings
from kstock_batch.store.audits import AuditResult, audit_names
from kstock_batch.store.warehouse import Warehouse, insert_rows

DAYS = weekdays(date(2024, 2, 5), 30)
YESTERDAY, TODAY = DAYS[-2], DAYS[-1]
NAMES = [f"{n:05d}0" for n in range(120)]  # the even ones are listed on KOSPI, the others on KOSDAQ
KOSPI, KOSDAQ = NAMES[::2], NAMES[1::2]
NOISE = np.random.default_rng(7)
USUAL = NOISE.normal(-1.2, 0.45, len(NAMES))  # log-odds of a usual session


def predictions(logits=USUAL, *, as_of=TODAY, names=NAMES, model="model-1", **members):
    """Rows of prediction; members say what the blend says unless a test has them say something else."""
    said = {name: 1 / (1 + np.exp(-np.asarray(members.get(name, logits)))) for name in ("p", "lgbm", "xgb", "lstm")}
    rows = pl.DataFrame({"ticker": names, "probability": said.pop("p"), **said})
    rest = {"signal": 0.5, "label": "NEUTRAL", "score_bonus": 0, "base_rate": 0.24, "lift": 1.0, "rank": 1}
    origin = {"percentile": 0.0, "model_version": model, "fingerprint": "abc", "run_id": "run-1", "scored_at": KNOWN}
    return rows.with_columns(as_of=pl.lit(as_of), **{name: pl.lit(value) for name, value in {**rest, **origin}.items()})


def scoreable(names=NAMES, as_of=TODAY):
    facts = {"close": 100.0, "bars_available": 100, "null_feature_count": 0, "is_scoreable": True}
    rows = pl.DataFrame({"ticker": names}).with_columns(as_of=pl.lit(as_of), feature_set_version=pl.lit(1))
    return rows.with_columns(**{name: pl.lit(value) for name, value in facts.items()})


@pytest.fixture(scope="module")
def _market(tmp_path_factory):
    """Both markets with all names scoreable today, and six sound sessions scored before."""
    with hand_store(tmp_path_factory.mktemp("market"), DAYS) as warehouse:
        rows = [listing(name, market="KOSPI" if name in KOSPI else "KOSDAQ") for name in NAMES]
        put(warehouse, "raw_listing", rows, available_at=KNOWN)
        put(warehouse, "raw_price", [row for name in NAMES for row in prices(name, DAYS, [100] * len(DAYS))])
        insert_rows(warehouse.con, "feature_daily", scoreable(), order="ticker")
        for day in DAYS[-7:-1]:
            insert_rows(warehouse.con, "prediction", predictions(as_of=day), order="ticker")
        yield warehouse


@pytest.fixture
def market(_market):
    """The shared market; what a test changes in it is undone."""
    _market.con.execute("BEGIN TRANSACTION")
    yield _market
    _market.con.execute("ROLLBACK")


def failed(gate):
    return [finding.told for finding in gate.findings if not finding.holds]


def judged(market, rows):
    return failed(distribution(market.con, TODAY, rows))


# The verdict


def test_one_sentence_names_every_gate_that_fails_with_its_values_and_what_can_be_done():
    gates = [
        Gate("freshness", [Finding("VIX ends 2024-02-01", False), Finding("SP500 ends 2024-02-02", False)]),
        Gate("completeness", [Finding("60 KOSPI names", True), Finding("3 KOSDAQ names", False)]),
        Gate("coverage", [Finding("60 of 60", True)]),
    ]
    with pytest.raises(PublicationGated) as caught:
        require_passed(gates, TODAY, accept_degraded=False)
    why = "freshness: VIX ends 2024-02-01, SP500 ends 2024-02-02; completeness: 3 KOSDAQ names"
    assert str(caught.value) == (
        f"{TODAY} fails 2 of 3 gates: {why}\n  fix: the last publication stays; mend the source, ingest and score"
        f" again, or publish it flagged with `kstock-batch score --as-of {TODAY} --accept-degraded`"
    )
    assert caught.value.exit_code == 19
    assert require_passed(gates, TODAY, accept_degraded=True) == why


def test_a_session_that_passes_is_not_degraded_however_much_would_have_been_accepted():
    gates = [Gate("coverage", [Finding("60 of 60", True)]), Gate("audits", [])]
    for accept in (False, True):
        assert require_passed(gates, TODAY, accept_degraded=accept) is None
    assert [str(gate) for gate in gates] == ["coverage: 60 of 60", "audits: nothing to object to"]


# Freshness, completeness, audits


def data_failures(market, results=()):
    gates = data_gates(market.con, TODAY, Settings(root=market.path.parent), results)
    assert [gate.name for gate in gates] == ["freshness", "completeness", "audits"]
    return {gate.name: failed(gate) for gate in gates if not gate.is_passed}


def test_sound_data_pass(market):
    assert data_failures(market) == {}


def test_every_source_that_is_too_old_is_named(market):
    old = TODAY - timedelta(days=9)
    series = ("VIX", "SP500", "USDKRW")
    put(market, "raw_macro", [{"series": s, "event_date": old, "close": 15.0} for s in series], available_at=KNOWN)
    put(market, "raw_flow", [{"ticker": NAMES[0], "session": YESTERDAY, "foreign_net": 1.0}], available_at=KNOWN)
    (told,) = data_failures(market).values()
    assert [words.split()[0] for words in told] == ["SP500", "USDKRW", "VIX", "raw_flow"]
    assert f"VIX ends {old}, 9 days before the session (at most 5)" in told


@pytest.mark.parametrize("names", [KOSPI, KOSDAQ], ids=["KOSPI", "KOSDAQ"])
def test_either_market_must_have_printed_what_it_usually_prints(market, names):
    gone = {"names": names[:7], "today": TODAY}
    market.con.execute("DELETE FROM raw_price WHERE session = $today AND list_contains($names, ticker)", gone)
    own = "KOSPI" if names is KOSPI else "KOSDAQ"
    told = f"53 {own} names, 88% of the usual 60 (at least 90%, min_session_share)"
    assert data_failures(market) == {"completeness": [told]}


def result(audit, severity="fail", n=1):
    return AuditResult(audit, severity, TODAY, n, [{"feature": "rsi", "share": 0.4}])


def test_audits_of_what_is_missing_fail_the_gate_and_warnings_and_passes_do_not(market):
    results = [
        result("feature_daily_coverage"),
        result("feature_daily_null_share", n=2),
        result("feature_daily_null_share", "warn"),
        result("feature_daily_coverage", n=0),
        result("source_freshness"),  # of which the gate beside it says more
    ]
    assert data_failures(market, results) == {
        "audits": [
            "feature_daily_coverage found 1 row, e.g. ('rsi', 0.4)",
            "feature_daily_null_share found 2 rows, e.g. ('rsi', 0.4)",
        ]
    }


def test_an_audit_is_of_what_is_missing_or_nobody_can_accept_it():
    results = [result(name) for name in audit_names()]
    refused = {one.audit for one in wrong(results)}
    assert refused | OF_WHAT_IS_MISSING == set(audit_names())
    assert {"feature_daily_finite", "feature_daily_range", "feature_daily_unique", "raw_price_unique"} <= refused


# Coverage


def test_a_session_of_which_every_name_is_scored_passes(market):
    gate = coverage(market.con, TODAY, NAMES)
    assert failed(gate) == []
    assert str(gate) == (
        "coverage: 60 of 60 scoreable KOSDAQ names scored (at least 98%), 100.0% of the usual 60 KOSDAQ names"
        " (at least 90%), 60 of 60 scoreable KOSPI names scored (at least 98%), 100.0% of the usual 60 KOSPI names"
        " (at least 90%)"
    )


def test_names_that_could_be_scored_and_were_not_fail_it(market):
    told = failed(coverage(market.con, TODAY, NAMES[:-4]))
    assert told == [f"58 of 60 scoreable {name} names scored (at least 98%)" for name in ("KOSDAQ", "KOSPI")]


def test_fewer_names_than_the_sessions_before_fail_it_even_if_no_more_could_be_scored(market):
    gone = {"names": KOSDAQ[:10]}
    market.con.execute("DELETE FROM feature_daily WHERE list_contains($names, ticker)", gone)
    assert failed(coverage(market.con, TODAY, KOSPI + KOSDAQ[10:])) == [
        "83.3% of the usual 60 KOSDAQ names (at least 90%)"
    ]


def test_a_market_that_is_gone_fails_it(market):
    market.con.execute("DELETE FROM feature_daily WHERE list_contains($names, ticker)", {"names": KOSPI})
    assert failed(coverage(market.con, TODAY, KOSDAQ)) == ["0.0% of the usual 60 KOSPI names (at least 90%)"]


def test_four_sessions_are_no_habit_and_degraded_ones_none_at_all(market):
    market.con.execute("DELETE FROM feature_daily WHERE list_contains($names, ticker)", {"names": KOSDAQ[:30]})
    names = KOSPI + KOSDAQ[30:]
    assert failed(coverage(market.con, TODAY, names))
    market.con.execute("UPDATE prediction SET degraded_why = 'half' WHERE as_of <= $day", {"day": DAYS[-6]})
    assert not failed(coverage(market.con, TODAY, names))


# Distribution


def test_a_session_like_the_one_before_passes_and_tells_its_values(market):
    gate = distribution(market.con, TODAY, predictions(USUAL + NOISE.normal(0, 0.1, len(NAMES))))
    assert failed(gate) == []
    assert f"rank correlation 0.9{str(gate).split('rank correlation 0.9')[1][0]} with {YESTERDAY}" in str(gate)


def test_a_fall_of_the_whole_market_passes(market):
    """As on 2024-08-05: the level steps up by 0.86, and ranks correlate by 0.44 with the day before."""
    other = NOISE.permutation(USUAL)
    fallen = 0.86 + 0.44 * USUAL + 0.9 * (other - other.mean()) - 1.2 * 0.56
    assert judged(market, predictions(fallen)) == []


FAULTS = {
    "one number for all": (np.full(len(NAMES), -1.2), "100.0% of the names share one probability (at most 50%)"),
    "one number for most": (np.where(np.arange(len(NAMES)) < 70, -1.2, USUAL), "58.3% of the names share one"),
    "hardly a difference": (-1.2 + USUAL / 1000, "log-odds spread by 0.0004 (at least 0.005)"),
    "turned round": (-2.4 - USUAL, f"rank correlation -1.00 with {YESTERDAY} (at least 0.1)"),
    "of other names": (np.roll(USUAL, 7), "rank correlation "),
    "another level": (USUAL + 2.6, f"mean log-odds +2.60 since {YESTERDAY} (at most 2.5 either way)"),
    "a fifth of the spread": (-1.2 + USUAL / 5, f"probability spreads 0.20 times as far as on {YESTERDAY} (0.25 … 4)"),
    "five times the spread": (3 + USUAL * 5, "probability spreads 5.00 times as far"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_scores_that_are_no_ranking_or_do_not_follow_from_the_session_before_fail_it(market, fault):
    logits, told = FAULTS[fault]
    assert any(words.startswith(told) for words in judged(market, predictions(logits))), fault


def test_a_member_that_fell_silent_behind_the_blend_fails_it(market):
    assert judged(market, predictions(lstm=USUAL / 10)) == [
        f"lstm spreads 0.10 times as far as on {YESTERDAY} (0.25 … 4)"
    ]


def test_a_member_that_is_absent_or_always_said_one_number_is_not_compared(market):
    market.con.execute("UPDATE prediction SET lgbm = 0.2, xgb = NULL")
    rows = predictions(lgbm=USUAL * 9).with_columns(lstm=pl.lit(None, dtype=pl.Float64))
    assert judged(market, rows) == []


def test_a_session_of_other_names_than_the_one_before_fails_it(market):
    others = [f"9{name[1:]}" for name in NAMES[:30]] + NAMES[30:]
    assert judged(market, predictions(names=others)) == [f"75.0% of the names are those of {YESTERDAY} (at least 80%)"]


def test_another_model_has_ranks_and_a_level_of_its_own_but_the_same_names(market):
    turned = predictions(1 - USUAL, model="model-2")
    assert judged(market, turned) == []
    assert judged(market, predictions(names=[f"9{name[1:]}" for name in NAMES], model="model-2"))
    assert judged(market, predictions(np.full(len(NAMES), 0.1), model="model-2"))


def test_a_first_session_and_one_after_a_week_are_judged_alone(market):
    turned = predictions(-2.4 - USUAL)
    market.con.execute("UPDATE prediction SET as_of = $long_ago", {"long_ago": DAYS[-7]})
    assert judged(market, turned) == []
    market.con.execute("UPDATE prediction SET as_of = $day", {"day": DAYS[-6]})
    market.con.execute("DELETE FROM prediction WHERE ROWID NOT IN (SELECT min(ROWID) FROM prediction GROUP BY ticker)")
    assert judged(market, turned)
    market.con.execute("DELETE FROM prediction")
    assert judged(market, turned) == []
    assert judged(market, predictions(np.full(len(NAMES), -1.0)))


def test_a_degraded_session_is_no_yardstick(market):
    market.con.execute("UPDATE prediction SET degraded_why = 'half', probability = 1 - probability WHERE as_of = $day",
                       {"day": YESTERDAY})  # fmt: skip
    gate = distribution(market.con, TODAY, predictions())
    assert gate.is_passed
    assert str(DAYS[-3]) in str(gate)


def test_of_few_names_nothing_is_said(market):
    few = predictions(np.full(99, -1.0), names=NAMES[:99])
    assert str(distribution(market.con, TODAY, few)) == "distribution: 99 names are too few to tell"


# A night whose session fails


def fail_coverage(monkeypatch, *days):
    """Have the coverage gate fail on ``days``, as no store of forty sound stocks would have it."""

    def gate(con, as_of, tickers):
        return Gate("coverage", [Finding(f"{len(tickers)} names on {as_of}", as_of not in days)])

    monkeypatch.setattr("kstock_batch.serving.night.score.coverage", gate)


def days_of(root):
    return [day for (day,) in store_rows(root, "SELECT as_of FROM feature_session ORDER BY as_of")]


def published(root):
    return Settings(root=root).published


def why_degraded(root):
    return store_rows(root, "SELECT DISTINCT as_of, degraded_why FROM prediction ORDER BY as_of")


STORED = ("FROM prediction ORDER BY as_of, ticker", "FROM scored_session ORDER BY as_of")


def test_a_gated_session_leaves_store_and_publication_and_tells_the_ledger(trained_root, monkeypatch):
    newest = days_of(trained_root)[-1]
    fail_coverage(monkeypatch, newest)
    before, file = [store_rows(trained_root, rows) for rows in STORED], published(trained_root).stat().st_ino
    gated = run(trained_root, "score")
    assert gated.exit_code == 19
    assert f"{newest} fails 1 of 5 gates: coverage: " in sentence(gated)
    assert [store_rows(trained_root, rows) for rows in STORED] == before
    assert published(trained_root).stat().st_ino == file
    ((status, error),) = store_rows(trained_root, "SELECT status, error FROM run ORDER BY started_at DESC LIMIT 1")
    assert (status, error.splitlines()[0]) == ("failed", gated.stderr.splitlines()[0].removeprefix("error: "))


def test_a_gated_night_judges_what_matured_all_the_same(trained_root, monkeypatch):
    newest = days_of(trained_root)[-1]
    with Warehouse.open(Settings(root=trained_root)) as warehouse:
        warehouse.con.execute("DELETE FROM drift")
        warehouse.con.execute("DELETE FROM scored_session")
    fail_coverage(monkeypatch, newest)
    assert run(trained_root, "score").exit_code == 19
    assert store_rows(trained_root, "SELECT as_of FROM drift") == [(newest,)]


def test_an_accepted_session_says_in_every_row_and_everywhere_that_it_is_degraded(trained_root, monkeypatch):
    sound, newest = days_of(trained_root)[-2:]
    fail_coverage(monkeypatch, newest)
    night = done(trained_root, "score", "--accept-degraded")
    ((first, none), (second, why)) = why_degraded(trained_root)
    assert (first, none, second) == (sound, None, newest)
    assert why.startswith("coverage: ") and why.endswith(f" names on {newest}")
    assert f"warning: {newest} is published degraded: {why}" in night.stderr
    assert re.search(r" in \d+\.\d s; degraded\n", night.stdout)
    reader = PredictionReader(published(trained_root), max_age_sessions=None)
    assert {(p.is_degraded, p.degraded_why) for p in reader.top(100)} == {(True, why)}
    assert {(p.is_degraded, p.degraded_why) for p in reader.session(sound)} == {(False, None)}
    assert reader.status().publication.degraded_why == why
    assert asked_json(trained_root, "sql", "SELECT DISTINCT degraded_why AS why FROM latest") == [{"why": why}]
    assert asked_json(trained_root, "status")["degraded_why"] == why
    assert f"degraded: {why}" in done(trained_root, "status").stdout
    assert f"warning: {newest} is degraded: {why}" in done(trained_root, "predictions", "show").stderr


def test_what_was_accepted_stands_until_the_session_passes(trained_root, monkeypatch):
    newest = days_of(trained_root)[-1]
    fail_coverage(monkeypatch, newest)
    done(trained_root, "score", "--accept-degraded")
    accepted = why_degraded(trained_root)
    assert "nothing changed" in done(trained_root, "score").stdout
    assert run(trained_root, "score", "--force").exit_code == 19
    assert why_degraded(trained_root) == accepted
    monkeypatch.undo()
    done(trained_root, "score", "--force")
    assert [why for _, why in why_degraded(trained_root)] == [None, None]
    assert PredictionReader(published(trained_root), None).status().publication.degraded_why is None


def test_accepting_flags_no_session_that_passes(trained_root):
    done(trained_root, "score", "--accept-degraded")
    assert [why for _, why in why_degraded(trained_root)] == [None, None]


def test_a_missed_session_that_fails_is_left_out_and_tried_again(trained_root, monkeypatch):
    done(trained_root, "ingest", "files", trained_root / "next")
    done(trained_root, "features")
    scored, missed, newest = days_of(trained_root)[-3:]
    fail_coverage(monkeypatch, missed)
    night = done(trained_root, "score")
    assert f"warning: missed session {missed} is left out: {missed} fails 1 of 5 gates: coverage" in night.stderr
    assert [day for day, _ in why_degraded(trained_root)] == [scored, newest]
    again = done(trained_root, "score")
    assert f"missed session {missed} is left out" in again.stderr
    assert "nothing changed" in again.stdout
    monkeypatch.undo()
    assert asked_json(trained_root, "score")["sessions"][0]["as_of"] == str(missed)
    assert [day for day, _ in why_degraded(trained_root)] == [scored, missed, newest]
    assert PredictionReader(published(trained_root), None).status().publication.n_sessions == 3


def test_a_missed_session_of_impossible_rows_does_not_cost_tonights(trained_root):
    import duckdb

    done(trained_root, "ingest", "files", trained_root / "next")
    done(trained_root, "features")
    scored, missed, newest = days_of(trained_root)[-3:]
    con = duckdb.connect(str(Settings(root=trained_root).store))
    con.execute("UPDATE feature_daily SET rsi = 140 WHERE as_of = $day", {"day": missed})
    con.close()
    night = done(trained_root, "score")
    assert f"warning: missed session {missed} is left out: audit feature_daily_range found " in night.stderr
    assert [day for day, _ in why_degraded(trained_root)] == [scored, newest]
    assert run(trained_root, "score", "--as-of", missed).exit_code == 4


def test_a_session_asked_for_by_name_that_fails_stops_the_range(trained_root, monkeypatch):
    first = days_of(trained_root)[-2]
    fail_coverage(monkeypatch, first)
    before = why_degraded(trained_root)
    assert run(trained_root, "score", "--from", first, "--force").exit_code == 19
    assert why_degraded(trained_root) == before


def test_nobody_can_accept_what_is_wrong(trained_root, monkeypatch):
    import duckdb

    from kstock_batch.learners.lgbm import LgbmMember
    from kstock_batch.registry import Registry

    newest = days_of(trained_root)[-1]
    accepted = ("score", "--force", "--accept-degraded")
    file = published(trained_root).read_bytes()
    learnt = date.fromisoformat(Registry(trained_root / "models").champion().manifest["as_of"])
    assert (
        run(
            trained_root, *accepted, "--as-of", days_of(trained_root)[days_of(trained_root).index(learnt) - 1]
        ).exit_code
        == 10
    )
    with monkeypatch.context() as patched:
        patched.setattr(LgbmMember, "margin", lambda self, inputs, ends: np.full(len(ends), np.nan))
        assert run(trained_root, *accepted).exit_code == 10
    with monkeypatch.context() as patched:
        patched.setattr("kstock_batch.champion.fingerprint", lambda: "0123456789ab")
        assert run(trained_root, *accepted).exit_code == 10
    for harm, audit in (("rsi = 'nan'", "feature_daily_finite"), ("rsi = 140", "feature_daily_range")):
        con = duckdb.connect(str(Settings(root=trained_root).store))
        con.execute(f"UPDATE feature_daily SET {harm} WHERE as_of = $day AND ticker IN (SELECT min(ticker) FROM"
                    " feature_daily WHERE as_of = $day)", {"day": newest})  # fmt: skip
        con.close()
        refused = run(trained_root, *accepted)
        assert (refused.exit_code, audit in sentence(refused)) == (4, True)
    (trained_root / "models").joinpath(Registry(trained_root / "models").champion().version, "lgbm.txt").write_text("x")
    assert run(trained_root, *accepted).exit_code == 10
    assert published(trained_root).read_bytes() == file


def test_a_session_with_nothing_to_score_says_what_is_missing_and_cannot_be_accepted(trained_root):
    import duckdb

    newest = days_of(trained_root)[-1]
    con = duckdb.connect(str(Settings(root=trained_root).store))
    con.execute("UPDATE feature_daily SET is_scoreable = false WHERE as_of = $day", {"day": newest})
    con.execute("DELETE FROM raw_price WHERE session = $day AND ticker > '5'", {"day": newest})
    con.close()
    gated = run(trained_root, "score", "--accept-degraded")
    assert gated.exit_code == 3
    assert f"no ticker is scoreable on {newest}; it fails completeness: " in sentence(gated)


def test_a_publication_of_which_one_row_lost_its_flag_is_refused(tmp_path):
    from kstock_batch.errors import PublicationRefused
    from small_store import MONDAY, predict, publish_now, small_store

    with small_store(tmp_path) as warehouse:
        predict(warehouse, MONDAY, {"005930": 0.5, "000660": 0.6})
        warehouse.con.execute("UPDATE prediction SET degraded_why = 'freshness' WHERE ticker = '005930'")
        with pytest.raises(PublicationRefused, match="sessions of which only some rows are degraded should be 0"):
            publish_now(warehouse, tmp_path / "predictions.duckdb")


def test_gates_are_told_with_their_values_in_json(trained_root):
    (session,) = asked_json(trained_root, "score")["sessions"]
    assert [gate["gate"] for gate in session["gates"]] == [
        "freshness", "completeness", "audits", "coverage", "distribution"
    ]  # fmt: skip
    assert all(gate["is_passed"] for gate in session["gates"])
    assert " scoreable KOSPI names scored" in session["gates"][3]["told"]
    assert session["degraded_why"] is None
