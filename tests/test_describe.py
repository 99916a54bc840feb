"""One feature described: from the contract always, from the store where there is one."""

import pytest

from factories import asked_json, done, run, sentence, store_rows
from kstock_batch.market.contract import FEATURES


def test_a_feature_is_described_with_its_newest_values(walked):
    told = asked_json(walked, "features", "describe", "return_3m_pct")
    assert (told["definition"], told["version"]) == ("(C / C 60 bars ago − 1) · 100", 1)
    assert told["null"] == "until 61 bars, or where an input is unknown"
    ((day, n, missing, least, median, most),) = store_rows(
        walked,
        "SELECT as_of, count(*), 1 - count(return_3m_pct) / count(*), min(return_3m_pct), median(return_3m_pct),"
        " max(return_3m_pct) FROM feature_daily WHERE as_of = (SELECT max(as_of) FROM feature_daily) GROUP BY as_of",
    )
    found = told["values"]
    assert (found["as_of"], found["n_rows"], found["min"], found["max"]) == (str(day), n, least, most)
    assert (found["null_share"], found["median"]) == pytest.approx((missing, median), abs=1e-4)


def test_without_a_store_or_features_the_contract_still_answers(tmp_path, root):
    bare = run(tmp_path / "none", "features", "describe", "per")
    assert (bare.exit_code, "there is no store" in bare.stderr, "of four quarters" in bare.stdout) == (0, True, True)
    assert asked_json(root, "features", "describe", "per")["values"] is None


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_every_feature_can_be_described(feature, tmp_path):
    assert feature.definition in done(tmp_path, "features", "describe", feature.name).stdout


def test_an_unknown_feature_is_answered_with_the_names_like_it(tmp_path):
    refused = run(tmp_path, "features", "describe", "rs_percentil")
    assert (refused.exit_code, "use one of ['rs_percentile']" in sentence(refused)) == (2, True)
