"""Two jobs at once, in processes of their own: one works while the other waits, and nothing is done by halves."""

from pathlib import Path

import pytest

from factories import copy_root, done, everything, opened, store_rows
from kstock_batch.serving.publication.generations import Generations
from kstock_batch.settings import Settings


def in_place(root: Path) -> tuple[object, ...]:
    """Return what is published, as-of and how many rows, which must be what their digest says."""
    with opened(Settings(root=root).published) as con:
        (as_of, n, stated), (found,) = (
            con.execute(f"SELECT {what}").fetchall()[0]
            for what in ("as_of, n_predictions, digest FROM publication", "digest FROM content_digest")
        )
    assert stated == found
    assert all(one.is_intact for one in Generations(Settings(root=root).published).newest_first())
    assert {path.name for path in Settings(root=root).published.parent.iterdir()} == {
        *("predictions.duckdb", "predictions.lock", "generations")
    }
    return as_of, n


def ended_well(*ended) -> None:
    """Raise unless each job did its work, or was turned away by the other's lock with a sentence."""
    for job in ended:
        assert job.code in (0, 6), job.said
        assert (job.code == 6) == ("is being written by PID" in job.said), job.said
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
    done(trained_root, "ingest", "files", trained_root / "next")
    done(trained_root, "score")
    wanted, found = everything(after), everything(trained_root)
    # The night that came between may have scored the session before: that it was scored is no harm.
    assert {name: found[name] for name in found if name != "prediction"} == {
        name: wanted[name] for name in wanted if name != "prediction"
    }
    assert in_place(trained_root)[0] == in_place(after)[0]


def test_a_rollback_during_a_night_leaves_one_of_both_publications(warm, trained_root, alone):
    done(trained_root, "score", "--force", "--as-of", in_place(trained_root)[0])  # two to go back between
    before = in_place(trained_root)
    night, back = warm.run_together(("score", trained_root), ("rollback", trained_root))
    ended_well(night)
    assert (night.code, back.code) == (0, 0), (night.said, back.said)
    assert in_place(trained_root) in (before, alone[1])
    done(trained_root, "score")
    assert (everything(trained_root), in_place(trained_root)) == alone
