"""Two jobs at once, in processes of their own: one works while the other waits, and nothing is done by halves."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from factories import asked_json, copy_root, done, everything, opened, run, sentence, store_rows
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.serving.publication.publish import publishing
from kstock_batch.serving.targets.record import DeliveryRecord
from kstock_batch.settings import Settings
from kstock_batch.store import lock as locks

BACK = ("predictions", "rollback")
OF_TARGETS = {"targets.json", "targets.lock", "parquet", "predictions.sqlite"}


def in_place(root: Path) -> tuple[object, ...]:
    """Return what is published, as-of and how many rows, which must be what their digest says."""
    with opened(Settings(root=root).published) as con:
        (as_of, n, stated), (found,) = (
            con.execute(f"SELECT {what}").fetchall()[0]
            for what in ("as_of, n_predictions, digest FROM publication", "digest FROM content_digest")
        )
    assert stated == found
    assert all(one.is_intact for one in Generations(Settings(root=root).published).newest_first())
    assert {path.name for path in Settings(root=root).published.parent.iterdir()} - OF_TARGETS == {
        *("predictions.duckdb", "predictions.lock", "generations")
    }
    return as_of, n


def ended_well(*ended) -> None:
    """Raise unless each job did its work, or was turned away by the other's lock with a sentence."""
    for job in ended:
        assert job.code in (0, 6, 17), job.said
        assert (job.code == 6) == ("is being written by PID" in job.said), job.said
        assert (job.code == 17) == ("is delivering to the targets" in job.said), job.said
        assert "Traceback" not in job.said, job.said


@pytest.fixture
def alone(trained_root, tmp_path):
    """What the root and its publication hold after one undisturbed night."""
    undisturbed = copy_root(trained_root, tmp_path / "alone")
    done(undisturbed, "score")
    return everything(undisturbed), in_place(undisturbed)


def test_two_nights_at_once_are_one_night(warm, trained_root, alone):
    for _ in range(3):
        ended_well(*warm.run_together(("score", trained_root), ("score", trained_root)))
        assert (everything(trained_root), in_place(trained_root)) == alone
    assert store_rows(trained_root, "SELECT count(*) FROM (SELECT DISTINCT as_of, ticker FROM prediction)") == (
        store_rows(trained_root, "SELECT count(*) FROM prediction")
    )


def test_an_ingest_and_a_night_at_once_are_one_after_the_other(warm, trained_root, tmp_path):
    after = copy_root(trained_root, tmp_path / "after")
    done(after, "ingest", "files", after / "next")
    done(after, "score")
    ended_well(
        *warm.run_together(("ingest", trained_root, "files", trained_root / "next"), ("score", trained_root)),
    )
    assert in_place(trained_root)
    done(trained_root, "ingest", "files", trained_root / "next")
    done(trained_root, "score")
    wanted, found = everything(after), everything(trained_root)
    # The night that came between may have scored the session before: that it was scored is no harm.
    assert {name: found[name] for name in found if name != "prediction"} == {
        name: wanted[name] for name in wanted if name != "prediction"
    }
    assert in_place(trained_root)[0] == in_place(after)[0]


def in_step(root: Path) -> bool:
    """Return whether both targets hold what is published; where they do not, the check must say so."""
    settings = Settings(root=root)
    (run_id,) = asked_json(root, "sql", "SELECT run_id FROM publication")[0].values()
    held = {name: one.run_id for name, one in DeliveryRecord(settings.published).held().items()}
    with closing(sqlite3.connect(settings.published.with_suffix(".sqlite"))) as con:
        assert con.execute("SELECT run_id FROM publication").fetchall() == [(held["sqlite"],)]
    told = run(root, "check").stdout
    assert all((one != run_id) == (f"the target {name} holds {one}" in told) for name, one in held.items()), told
    return held == {"sqlite": run_id, "parquet": run_id}


def test_a_rollback_during_a_night_leaves_one_of_both_publications_and_the_targets_in_step(warm, trained_root, alone):
    settings = (trained_root / "kstock.toml").read_text(encoding="utf-8")
    (trained_root / "kstock.toml").write_text(f'{settings}targets = ["sqlite", "parquet"]\n', encoding="utf-8")
    done(trained_root, "score", "--force", "--as-of", in_place(trained_root)[0])  # two to go back between
    before = in_place(trained_root)
    for apart in (0.0, 0.6, 1.2):
        done(trained_root, "score")
        jobs = ("score", trained_root, "--force"), (BACK[0], trained_root, *BACK[1:])
        night, back = warm.run_together(*jobs, apart=apart)
        ended_well(night, back)
        assert in_place(trained_root) in (before, alone[1])
        assert in_step(trained_root) or 17 in (night.code, back.code)
    done(trained_root, "score")
    assert (everything(trained_root), in_place(trained_root)) == alone
    assert in_step(trained_root)


@pytest.mark.parametrize("command", [("score",), BACK], ids=" ".join)
def test_whoever_finds_the_other_publishing_is_turned_away_by_name_and_comes_again(command, trained_root, monkeypatch):
    done(trained_root, "score", "--force", "--as-of", in_place(trained_root)[0])
    before = in_place(trained_root)
    with monkeypatch.context() as patched, publishing(Settings(root=trained_root).published):
        patched.setattr(locks, "_PAUSES", (0.01,))
        refused = run(trained_root, *command)
    told = f"{Settings(root=trained_root).published} is being written by PID {os.getpid()} since "
    assert refused.exit_code == 6
    assert told in sentence(refused)
    assert in_place(trained_root) == before
    done(trained_root, *command)
    assert in_place(trained_root) is not None
