"""A past night rebuilt: identical bits, or the reason, for everything that can have happened to it since."""

import json
import shutil
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl
import pytest

from factories import (
    asked_json,
    content,
    done,
    edit_json,
    flip_byte,
    read_folder,
    run,
    sentence,
    store_rows,
    write_folder,
)
from kstock_batch import __version__
from kstock_batch.features import replay as features_replay
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.registry import Registry
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.serving.replay import night_features
from kstock_batch.serving.replay.replay import replay_predictions
from kstock_batch.serving.replay.scoring_run import UNKNOWN
from kstock_batch.settings import Settings
from kstock_batch.store.provenance import Provenance
from test_versions import split_ten_to_one

NOT_REBUILT = {"degraded_why"}  # what gates said of that night: the store's rows must say the same
STOCK = "SELECT ticker FROM prediction ORDER BY rank LIMIT 1 OFFSET 4"


def newest(root):
    return store_rows(root, "SELECT max(as_of) FROM prediction")[0][0]


def stock_of(root):
    return store_rows(root, STOCK)[0][0]


def change(path, statement):
    with duckdb.connect(str(path)) as con:
        con.execute(statement)


def change_store(root, statement):
    change(Settings(root=root).store, statement)


def change_file(root, statement):
    change(Settings(root=root).published, statement)


def replayed(root, as_of=None):
    """Replay the newest session; return the exit code and the answer."""
    result = run(root, "predictions", "replay", "--as-of", as_of or newest(root), "--json")
    assert result.exit_code in (0, 30), result.stderr
    answer = json.loads(result.stdout)
    assert answer["is_identical"] == (result.exit_code == 0) == (not answer["findings"])
    return answer


def causes(answer):
    return [finding["cause"] for finding in answer["findings"]]


def corrected(root, day, factor):
    """Write the source folder again with one stock's close of ``day`` times ``factor``."""
    folder, stock = root / "source", stock_of(root)
    prices = read_folder(folder)["prices"]
    row = (pl.col("ticker") == stock) & (pl.col("date") == day)
    prices = prices.with_columns(pl.when(row).then(pl.col("close") * factor).otherwise("close").alias("close"))
    prices = prices.with_columns(
        high=pl.max_horizontal("high", "open", "close"), low=pl.min_horizontal("low", "open", "close")
    )
    prices.write_parquet(folder / "prices.parquet")
    return folder


# The night comes out


def test_a_published_night_is_rebuilt_to_the_bit_and_nothing_is_written(trained_root):
    as_of, tables = newest(trained_root), ("prediction", "feature_daily", "feature_session", "feature_state", "run")
    store, published = Settings(root=trained_root).store, Settings(root=trained_root).published
    before = content(trained_root, tables), store.read_bytes(), published.read_bytes()
    result = done(trained_root, "predictions", "replay", "--as-of", as_of)
    n = store_rows(trained_root, "SELECT count(*) FROM prediction")[0][0]
    assert f"{n} predictions of {as_of} rebuilt: identical bits" in result.stdout
    assert result.stderr == ""
    assert (content(trained_root, tables), store.read_bytes(), published.read_bytes()) == before
    assert not store.with_name("store.duckdb.wal").exists()


def test_every_column_but_those_of_the_listing_is_compared(trained_root):
    answer = asked_json(
        trained_root, "predictions", "replay", "--as-of", newest(trained_root), "--ticker", stock_of(trained_root)
    )
    columns = {name for (name,) in store_rows(trained_root, "SELECT column_name FROM (DESCRIBE prediction)")}
    assert columns - {row["column"] for row in answer["stock"]} <= NOT_REBUILT
    assert all(row["is_same"] and row["published"] == row["rebuilt"] for row in answer["stock"])
    assert answer["place"] == "the published file"


def test_nights_of_before_are_rebuilt_after_later_ones_and_after_a_split_that_restates_the_past(trained_root):
    first = newest(trained_root)
    restated = split_ten_to_one(read_folder(trained_root / "next"), stock_of(trained_root))
    write_folder(trained_root / "next", restated)
    assert "restated" in done(trained_root, "ingest", "files", trained_root / "next").stdout
    done(trained_root, "score", "--from", first + timedelta(days=1), "--as-of", "2024-06-28")
    days = [day for (day,) in store_rows(trained_root, "SELECT DISTINCT as_of FROM prediction ORDER BY 1")]
    assert len(days) == 3
    for day in days:
        answer = replayed(trained_root, day)
        assert (causes(answer), answer["notes"]) == ([], [])


def test_a_correction_that_came_later_changes_nothing_and_one_that_counts_for_the_night_is_told(trained_root):
    as_of = newest(trained_root)
    done(trained_root, "ingest", "files", corrected(trained_root, as_of, 1.07))
    assert replayed(trained_root)["notes"] == []  # it counts from its arrival on
    done(trained_root, "ingest", "files", corrected(trained_root, as_of, 1.05), "--retroactive")
    answer = replayed(trained_root)
    stock = stock_of(trained_root)
    told = f"raw rows that count for it came or were retracted: raw_price: 1 came and 1 retracted ({stock})"
    assert causes(answer) == [] and told in answer["notes"][0]
    done(trained_root, "features")
    answer = replayed(trained_root)
    assert causes(answer) == []
    assert answer["notes"][1].endswith("computed anew since, or due to be; scored again, it would be another one")
    done(trained_root, "score", "--as-of", as_of)
    assert (causes(replayed(trained_root)), replayed(trained_root)["notes"]) == ([], [])


def test_features_that_are_due_are_not_called_changed(trained_root):
    as_of = newest(trained_root)
    change_store(trained_root, f"UPDATE feature_daily SET rsi = rsi + 1 WHERE as_of = DATE '{as_of}'")
    assert causes(replayed(trained_root)) == ["features"]
    change_store(trained_root, f"INSERT INTO feature_due VALUES ('raw_price', DATE '{as_of}', 'killed')")
    assert causes(replayed(trained_root)) == []


def test_a_later_score_that_was_not_published_is_told_and_is_no_difference(trained_root, tmp_path):
    published = Settings(root=trained_root).published
    shutil.copy(published, tmp_path / "kept.duckdb")
    done(trained_root, "score", "--as-of", newest(trained_root), "--force")
    shutil.copy(tmp_path / "kept.duckdb", published)
    answer = replayed(trained_root)
    (run_id,) = store_rows(trained_root, "SELECT DISTINCT run_id FROM prediction")[0]
    assert causes(answer) == [] and answer["run_id"] != run_id
    assert f"is of run {run_id} with model" in answer["notes"][0]


@pytest.mark.parametrize("harm", ["absent", "of another schema", "rolled back"])
def test_without_a_published_file_the_stores_predictions_are_rebuilt(trained_root, harm):
    published, as_of = Settings(root=trained_root).published, newest(trained_root)
    if harm == "absent":
        published.unlink()
    elif harm == "of another schema":
        change_file(trained_root, "UPDATE publication SET schema_version = 1")
    else:
        done(trained_root, "score")
        done(trained_root, "predictions", "rollback")
        as_of = newest(trained_root)
    answer = replayed(trained_root, as_of)
    assert (causes(answer), answer["place"]) == ([], "the store")
    why = {
        "absent": f"{published} does not exist",
        "of another schema": f"{published} is of schema 1, this program reads 2",
        "rolled back": f"{published} has none of {as_of}",
    }[harm]
    assert f"compared with the store's predictions, for {why}" in answer["notes"][0]


# The published file


def damaged(root, as_of=None):
    """Replay a night whose published file is damaged and return what is said of it; a score must mend it."""
    as_of = as_of or newest(root)
    (finding,) = replayed(root, as_of)["findings"]
    assert (finding["cause"], finding["fix"]) == ("predictions", "`kstock-batch score` publishes it anew")
    done(root, "score", "--as-of", as_of)
    assert causes(replayed(root, as_of)) == []
    return finding["told"].removeprefix("the published file is damaged: ")


def forget_generations(root):
    """Take away what the bytes of the published file could be held against."""
    shutil.rmtree(Generations(Settings(root=root).published).folder)


def test_a_published_file_that_cannot_be_read_is_a_finding_though_the_stores_predictions_come_out(trained_root):
    published = Settings(root=trained_root).published
    published.write_bytes(b"no database")
    refused = run(trained_root, "predictions", "replay", "--as-of", newest(trained_root))
    assert refused.exit_code == 30
    assert f"the published file is damaged: {published} cannot be read: " in refused.stderr
    assert f"compared with the store's predictions, for {published} cannot be read" in refused.stderr
    assert damaged(trained_root).startswith(f"{published} cannot be read: ")


def test_a_cell_of_another_session_that_was_changed_is_damage_too(trained_root):
    first = newest(trained_root)
    done(trained_root, "score")
    change_file(trained_root, f"UPDATE prediction SET name = 'x' WHERE as_of > DATE '{first}' AND rank = 3")
    assert damaged(trained_root, first).endswith(" published: its bytes have changed since")


def test_what_the_bot_reads_of_the_newest_session_is_compared_with_its_predictions(trained_root):
    forget_generations(trained_root)
    stock = stock_of(trained_root)
    change_file(trained_root, f"UPDATE latest SET probability = probability + 1e-16 WHERE ticker = '{stock}'")
    assert damaged(trained_root) == f"its table latest does not say what its predictions do: probability of {stock}"


def test_a_stock_that_is_missing_in_latest_is_named(trained_root):
    stock = stock_of(trained_root)
    change_file(trained_root, f"DELETE FROM latest WHERE ticker = '{stock}'")
    told = f"its table latest does not say what its predictions do: 1 rows missing ({stock}); "
    assert damaged(trained_root).startswith(told)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            "CREATE OR REPLACE VIEW ml_predictions AS SELECT as_of AS pred_date FROM prediction LIMIT 1",
            "ml_predictions",
        ),
        ("UPDATE feature_latest SET as_of = as_of - 1 WHERE ticker = (SELECT min(ticker) FROM latest)", "feature rows"),
        ("DELETE FROM window_latest WHERE as_of = (SELECT max(as_of) FROM prediction) AND rsi > 50", "windows"),
    ],
)
def test_what_else_stands_beside_the_newest_predictions_is_looked_at(trained_root, harm, told):
    forget_generations(trained_root)
    change_file(trained_root, harm)
    (finding,) = replayed(trained_root)["findings"]
    assert told in finding["told"] and " should be " in finding["told"]


def test_a_log_that_another_program_left_beside_the_file_is_damage(trained_root):
    log = Settings(root=trained_root).published.with_name("predictions.duckdb.wal")
    log.write_bytes(b"")
    assert damaged(trained_root) == f"{log} lies beside it, so another program has opened it for writing"


def test_a_file_of_flipped_bytes_is_damage_wherever_they_are(trained_root):
    published, as_of = Settings(root=trained_root).published, newest(trained_root)
    sound = published.read_bytes()
    for part in range(1, 8):
        flip_byte(published, len(sound) * part // 8)
        assert "predictions" in causes(replayed(trained_root)), part
        published.write_bytes(sound)
    assert causes(replayed(trained_root, as_of)) == []


# The model


def test_a_model_that_was_pruned_is_named(trained_root):
    version = Registry(trained_root / "models").champion().version
    Registry(trained_root / "models").prune([version])
    refused = run(trained_root, "predictions", "replay", "--as-of", newest(trained_root))
    assert refused.exit_code == 30
    assert f"the model that made them, {version}, is no longer in {trained_root / 'models'}" in refused.stderr
    assert "from a copy" in refused.stderr
    assert causes(replayed(trained_root)) == ["model"]


def test_a_model_that_only_the_published_file_names_is_contradicted_by_the_store(trained_root):
    change_file(trained_root, "UPDATE prediction SET model_version = '20200101T000000Z-000000'")
    answer = replayed(trained_root)
    assert causes(answer) == ["model", "predictions", "predictions"]
    assert answer["findings"][1]["told"].startswith("the published file is damaged: ")
    told = "the store and the published file say otherwise of the same run: model_version of "
    assert answer["findings"][2]["told"].startswith(told)


@pytest.mark.parametrize("name", ["lgbm.txt", "xgb.ubj", "lstm.safetensors", "manifest.json"])
def test_a_model_whose_files_are_not_what_was_saved_is_named(trained_root, name):
    folder = Registry(trained_root / "models").champion().folder
    if name == "manifest.json":
        edit_json(folder / name, lambda manifest: manifest.update(base_rate=0.5))
    else:
        flip_byte(folder / name)
    answer = replayed(trained_root)
    assert causes(answer) == ["model"]
    assert f"is not what was saved: {'its ' if name == 'manifest.json' else ''}{name}" in answer["findings"][0]["told"]
    assert answer["notes"] == ["nothing was rebuilt: without the model there is nothing to compare"]


# The program


def test_other_features_than_the_model_was_trained_on_are_the_programs(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.champion.fingerprint", lambda: "0123456789ab")
    answer = replayed(trained_root)
    assert causes(answer) == ["program"]
    assert "trained on feature fingerprint" in answer["findings"][0]["told"]


def test_definitions_that_changed_are_the_programs_and_what_was_stored_of_then_proves_it(trained_root, monkeypatch):
    def computed(*args):
        rows = features_replay.compute_features(*args)
        return rows.with_columns(pl.col("rsi", "atr_pct") * 1.5)

    monkeypatch.setattr(night_features, "compute_features", computed)
    monkeypatch.setattr(night_features, "definition_digest", lambda recipe: "of another program")
    answer = replayed(trained_root)
    assert causes(answer) == ["program"]
    told = answer["findings"][0]["told"]
    (digest,) = store_rows(trained_root, "SELECT definition_digest FROM scored_session")[0]
    assert told == (
        "features are defined otherwise than when they were stored, by another program version or other settings"
        f" (scored by kstock-batch {__version__}, definitions {digest}; this is {__version__}, definitions of another"
        " program); from the stored features the predictions come out to the bit"
    )
    forget_provenance(trained_root)
    told = replayed(trained_root)["findings"][0]["told"]
    assert f"({UNKNOWN}; model " in told and f"is of program {__version__}, this is {__version__})" in told


def nudged(monkeypatch, by):
    margin = LgbmMember.margin
    monkeypatch.setattr(LgbmMember, "margin", lambda self, inputs, ends: margin(self, inputs, ends) + by(len(ends)))


def test_last_bits_of_nearly_all_stocks_are_another_processor_and_not_a_hand(trained_root, monkeypatch):
    nudged(monkeypatch, lambda n: np.linspace(-1e-9, 1e-9, n))
    answer = replayed(trained_root)
    assert causes(answer) == ["program"]
    assert "as another processor or another build of a library may" in answer["findings"][0]["told"]


def scored_with(root, program=__version__, **libraries):
    """Have the ledger say that another program, or other libraries, ran; None = it had none."""
    versions = {**Provenance.here().libraries, **libraries}
    kept = {name: version for name, version in versions.items() if version}
    change_store(root, f"UPDATE run SET program = '{program}', libraries = '{json.dumps(kept)}'")


def forget_provenance(root):
    """Make the ledger that of a store of before this was recorded."""
    change_store(root, "UPDATE run SET program = NULL, libraries = NULL")
    change_store(root, "UPDATE scored_session SET definition_digest = NULL")


def test_each_night_records_what_computed_it_and_a_replay_tells_it(trained_root):
    here, scored_by = Provenance.here(), replayed(trained_root)["scored_by"]
    (digest,) = store_rows(trained_root, "SELECT DISTINCT definition_digest FROM feature_session")[0]
    assert scored_by == {
        "program": __version__,
        "libraries": dict(here.libraries),
        "definition_digest": digest,
    }
    assert {"numpy", "duckdb", "lightgbm", "polars"} <= scored_by["libraries"].keys()


def test_what_scored_a_night_is_named_where_it_no_longer_comes_out_and_nothing_else_is(trained_root, monkeypatch):
    nudged(monkeypatch, lambda n: np.linspace(-1e-2, 1e-2, n))
    scored_with(trained_root, "0.3.9", lightgbm="1.0", duckdb="2.0", torch="1.0", numpy=None)
    refused = run(trained_root, "predictions", "replay", "--as-of", newest(trained_root))
    here = Provenance.here().libraries
    assert refused.exit_code == 30
    assert (
        f"scored by kstock-batch 0.3.9 with duckdb 2.0, lightgbm 1.0, numpy absent; this is kstock-batch {__version__}"
        f" with duckdb {here['duckdb']}, lightgbm {here['lightgbm']}, numpy {here['numpy']}\n"
    ) in refused.stderr
    assert "when the model was made" not in refused.stderr  # what trained it did not score it
    assert "with the program and the library versions of then" in refused.stderr


def test_where_what_scored_was_not_recorded_the_reason_cannot_be_known_and_what_trained_is_told(
    trained_root, monkeypatch
):
    nudged(monkeypatch, lambda n: np.linspace(-1e-2, 1e-2, n))
    forget_provenance(trained_root)
    here = Provenance.here()
    other = Provenance(here.program, {**here.libraries, "lightgbm": "99.0", "torch": "99.0"})
    monkeypatch.setattr(Provenance, "here", lambda: other)
    answer = replayed(trained_root)
    (finding,) = answer["findings"]
    assert finding["cause"] == "program"
    trained = here.libraries["lightgbm"]
    assert finding["told"].endswith(f": {UNKNOWN}; lightgbm 99.0 here, {trained} when the model was made")
    assert answer["scored_by"] == dict.fromkeys(("program", "libraries", "definition_digest"))


def test_where_what_scored_was_not_recorded_few_rows_that_differ_may_be_its_too(trained_root):
    stock = stock_of(trained_root)
    for change_it in (change_file, change_store):
        change_it(trained_root, f"UPDATE prediction SET lgbm = lgbm + 1e-16 WHERE ticker = '{stock}'")
    told = f"predictions were changed after they were made: lgbm of {stock}"
    assert replayed(trained_root)["findings"][0]["told"] == told
    forget_provenance(trained_root)
    assert replayed(trained_root)["findings"][0]["told"] == f"{told}; or they come of another program: {UNKNOWN}"


def test_a_night_of_before_this_was_recorded_comes_out_as_well(trained_root):
    forget_provenance(trained_root)
    answer = replayed(trained_root)
    assert (causes(answer), answer["notes"]) == ([], [])


def test_a_program_that_cannot_load_the_model_of_then_names_the_one_that_scored_with_it(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.champion.fingerprint", lambda: "0123456789ab")
    scored_with(trained_root, "0.3.9")
    (finding,) = replayed(trained_root)["findings"]
    assert finding["fix"] == "replay with program version 0.3.9"


def test_libraries_that_differ_are_not_blamed_for_one_changed_row(trained_root):
    scored_with(trained_root, lightgbm="1.0")
    assert causes(replayed(trained_root)) == []
    change_file(trained_root, f"UPDATE prediction SET lgbm = lgbm / 2 WHERE ticker = '{stock_of(trained_root)}'")
    assert causes(replayed(trained_root)) == ["predictions"]


def test_libraries_that_differ_are_not_blamed_for_a_file_whose_every_row_was_changed(trained_root):
    scored_with(trained_root, lightgbm="1.0")
    change_file(trained_root, "UPDATE prediction SET lgbm = lgbm * 0.99")
    (finding,) = replayed(trained_root)["findings"]  # what the store holds comes out here
    assert finding["told"].startswith("the published file was changed after it was written: lgbm of ")


def test_a_member_whose_library_is_absent_here_is_told(trained_root, monkeypatch):
    monkeypatch.setattr("kstock_batch.champion.scorable", lambda names: tuple(n for n in names if n != "xgb"))
    answer = replayed(trained_root)
    assert causes(answer) == ["program"]
    assert "xgb cannot be scored" in answer["findings"][0]["told"]


def test_features_computed_anew_since_are_told_where_nearly_all_stocks_differ(trained_root, monkeypatch):
    done(trained_root, "features", "--rebuild")
    assert causes(replayed(trained_root)) == []
    nudged(monkeypatch, lambda n: np.linspace(-1e-2, 1e-2, n))
    (finding,) = replayed(trained_root)["findings"]
    assert finding["cause"] == "program"
    assert "the features were computed anew since" in finding["told"]


# The inputs


def test_a_price_changed_in_place_is_named_with_its_stock_first(trained_root):
    stock, day = stock_of(trained_root), newest(trained_root) - timedelta(days=7)
    where = f"ticker = '{stock}' AND session = DATE '{day}'"
    change_store(trained_root, f"UPDATE raw_price SET close = close * 1.3, high = high * 1.3 WHERE {where}")
    (finding,) = replayed(trained_root)["findings"]
    assert finding["cause"] == "inputs"
    assert "the raw rows no longer give the features it was scored from" in finding["told"]
    assert f" of {stock}; raw rows were changed in place" in finding["told"]
    assert "rs_percentile" not in finding["told"]  # the others' rank follows from its own


def test_rows_that_by_the_stores_own_record_came_after_the_score_are_named(trained_root):
    stock, as_of = stock_of(trained_root), newest(trained_root)
    where = f"ticker = '{stock}' AND session = DATE '{as_of}' AND price_basis = 'adjusted'"
    change_store(trained_root, f"UPDATE raw_price SET ingested_at = ingested_at + INTERVAL 1 DAY WHERE {where}")
    answer = replayed(trained_root)  # as a clock set back leaves it
    assert causes(answer) == ["inputs"]
    told = f": 1 rows too many ({stock}); raw rows came or were retracted since (raw_price: 1 came ({stock}))"
    assert answer["findings"][0]["told"].endswith(told)


def test_raw_rows_that_are_gone_are_named(trained_root):
    change_store(trained_root, "DELETE FROM raw_price")
    answer = replayed(trained_root)
    assert causes(answer) == ["inputs"]
    assert "rows too many" in answer["findings"][0]["told"]
    assert len(answer["differing"]["tickers"]) == answer["n_predictions"]


# The stored features


def test_a_stored_feature_that_was_changed_is_named_even_if_the_predictions_come_out(trained_root):
    stock, as_of = stock_of(trained_root), newest(trained_root)
    where = f"ticker = '{stock}' AND as_of = DATE '{as_of - timedelta(days=7)}'"
    change_store(trained_root, f"UPDATE feature_daily SET rsi = nextafter(rsi, 100::FLOAT) WHERE {where}")
    (finding,) = replayed(trained_root)["findings"]
    assert finding["cause"] == "features"
    assert f"not what the raw rows give: rsi of {stock}; its predictions come out to the bit" in finding["told"]


def test_features_changed_after_a_build_that_came_later_are_told_from_those_it_made(trained_root):
    as_of, stock = newest(trained_root), stock_of(trained_root)
    done(trained_root, "ingest", "files", corrected(trained_root, as_of, 1.05), "--retroactive")
    done(trained_root, "features")
    assert causes(replayed(trained_root)) == []
    change_store(trained_root, f"UPDATE feature_daily SET per = 1 WHERE ticker = '{stock}'")
    assert causes(replayed(trained_root)) == ["features"]


def test_registered_features_are_left_alone(trained_root):
    change_store(trained_root, "ALTER TABLE feature_daily ADD COLUMN mood FLOAT")
    change_store(trained_root, "UPDATE feature_daily SET mood = random()")
    assert causes(replayed(trained_root)) == []


# The predictions


CHANGES = {
    "probability": "probability + 1e-16",
    "signal": "-0.0",
    "label": "'STRONG_BUY_'",
    "score_bonus": "score_bonus + 1",
    "base_rate": "0.5",
    "lift": "lift * 2",
    "rank": "rank + 1",
    "percentile": "percentile + 1e-13",
    "lgbm": "NULL",
    "xgb": "xgb + 1e-16",
    "lstm": "lstm / 2",
    "shap_top3": "'[]'",
    "fingerprint": "'0123456789ab'",
    "model_version": "'20200101T000000Z-000000'",
    "run_id": "'20200101T000000Z-000000'",
    "scored_at": "scored_at + INTERVAL 1 MICROSECOND",
}


def test_a_cell_changed_in_any_column_of_the_published_file_is_found_and_no_other(trained_root):
    stocks = [ticker for (ticker,) in store_rows(trained_root, "SELECT ticker FROM prediction ORDER BY rank")]
    changed = list(zip(CHANGES, stocks, strict=False))
    for column, stock in changed:
        change_file(trained_root, f"UPDATE prediction SET {column} = {CHANGES[column]} WHERE ticker = '{stock}'")
    found = replay_predictions(Settings(root=trained_root), newest(trained_root))
    assert sorted(found.comparison.cells.select("column", "ticker").rows()) == sorted(changed)
    columns = {name for (name,) in store_rows(trained_root, "SELECT column_name FROM (DESCRIBE prediction)")}
    assert columns - set(CHANGES) <= {"as_of", "ticker", *NOT_REBUILT}


def test_what_was_changed_in_the_published_file_is_told_as_such(trained_root):
    stock = stock_of(trained_root)
    change_file(trained_root, f"UPDATE prediction SET probability = probability + 1e-16 WHERE ticker = '{stock}'")
    refused = run(trained_root, "predictions", "replay", "--as-of", newest(trained_root))
    assert refused.exit_code == 30
    told = f"the published file was changed after it was written: probability of {stock}"
    assert told in sentence(refused)
    (cell,) = replayed(trained_root)["differing"]["cells"]
    assert (cell["ticker"], cell["column"]) == (stock, "probability")
    assert float(cell["published"]) - float(cell["rebuilt"]) == pytest.approx(1e-16, rel=0.5)


def test_a_cell_changed_in_the_store_and_not_in_the_file_is_the_stores(trained_root):
    stock = stock_of(trained_root)
    change_store(trained_root, f"UPDATE prediction SET rank = 1 WHERE ticker = '{stock}'")
    answer = replayed(trained_root)
    assert answer["differing"]["tickers"] == []
    (finding,) = answer["findings"]
    assert finding["told"] == f"the store no longer says what it published in the same run: rank of {stock}"


def test_a_cell_changed_in_both_is_named_once_and_the_file_is_damaged(trained_root):
    stock = stock_of(trained_root)
    for change_it in (change_file, change_store):
        change_it(trained_root, f"UPDATE prediction SET lift = 9 WHERE ticker = '{stock}'")
    changed, file = replayed(trained_root)["findings"]
    assert changed["told"] == f"predictions were changed after they were made: lift of {stock}"
    assert file["told"].startswith("the published file is damaged: ")


def test_a_member_changed_by_hand_in_every_row_is_no_matter_of_processors(trained_root):
    for change_it in (change_file, change_store):
        change_it(trained_root, "UPDATE prediction SET lgbm = lgbm * 0.99")
    finding, _ = replayed(trained_root)["findings"]
    assert finding["cause"] == "predictions"
    assert finding["told"].startswith("predictions were changed after they were made: lgbm of ")


def test_a_row_that_was_taken_out_and_one_that_was_put_in_are_named(trained_root):
    stock = stock_of(trained_root)
    change_file(trained_root, f"UPDATE prediction SET ticker = '999990' WHERE ticker = '{stock}'")
    (finding,) = replayed(trained_root)["findings"]
    assert "1 rows too many (999990); 1 rows missing" in finding["told"] and stock in finding["told"]


def test_a_run_or_an_instant_that_the_ledger_does_not_know_is_told(trained_root):
    change_store(trained_root, "DELETE FROM run WHERE command = 'score'")
    (finding,) = replayed(trained_root)["findings"]
    assert finding["told"].startswith("the ledger of runs knows no run ")


def test_an_instant_changed_in_every_row_does_not_move_what_the_store_held(trained_root):
    change_file(trained_root, "UPDATE prediction SET scored_at = TIMESTAMP '2020-01-01'")
    answer = replayed(trained_root)
    assert causes(answer) == ["predictions"] and answer["differing"]["columns"].keys() == {"scored_at"}


def test_two_harms_are_both_told_the_earlier_cause_first(trained_root):
    stock, as_of = stock_of(trained_root), newest(trained_root)
    change_file(trained_root, f"UPDATE prediction SET lift = 9 WHERE ticker = '{stock}'")
    change_store(trained_root, f"UPDATE feature_daily SET per = 1 WHERE as_of = DATE '{as_of}' AND ticker = '{stock}'")
    assert causes(replayed(trained_root)) == ["features", "predictions"]
    result = run(trained_root, "predictions", "replay", "--as-of", as_of)
    assert result.exit_code == 30 and "lift" in result.stdout
    also, error, _ = result.stderr.splitlines()
    assert also.startswith("also: the published file was changed") and "the stored features" in error


def test_a_harm_to_inputs_does_not_hide_a_changed_prediction(trained_root):
    stock, day = stock_of(trained_root), newest(trained_root) - timedelta(days=7)
    where = f"ticker = '{stock}' AND session = DATE '{day}'"
    change_store(trained_root, f"UPDATE raw_price SET close = close * 1.02, high = high * 1.02 WHERE {where}")
    for change_it in (change_file, change_store):
        change_it(trained_root, f"UPDATE prediction SET lift = 9 WHERE ticker = '{stock}'")
    answer = replayed(trained_root)
    assert causes(answer) == ["inputs", "predictions", "predictions"]
    assert answer["findings"][1]["told"].endswith(f"lift of {stock}")


# Questions without an answer


def test_a_session_that_was_never_scored_is_one_sentence(trained_root):
    refused = run(trained_root, "predictions", "replay", "--as-of", date(2024, 5, 2))
    assert refused.exit_code == 3
    assert "2024-05-02 was never scored" in sentence(refused)


def test_a_stock_without_a_prediction_is_one_sentence(trained_root):
    refused = run(trained_root, "predictions", "replay", "--as-of", newest(trained_root), "--ticker", "000000")
    assert refused.exit_code == 3
    assert "000000 has no prediction of" in sentence(refused)


def test_a_store_under_way_is_named_and_an_open_reader_of_the_file_is_no_hindrance(trained_root):
    from kstock_batch.bot.reader import PredictionReader
    from kstock_batch.store.warehouse import Warehouse

    reader = PredictionReader(Settings(root=trained_root).published, None)
    assert reader.top(1)
    assert causes(replayed(trained_root)) == []
    as_of = newest(trained_root)
    with Warehouse.open(Settings(root=trained_root)):
        refused = run(trained_root, "predictions", "replay", "--as-of", as_of)
    assert refused.exit_code == 6
