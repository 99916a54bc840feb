"""Jobs on a Ray cluster of two workers: the same results, and lost workers and nodes that cost their own job only.

One test starts one cluster, so that tests which run beside each other never have two. It is skipped where ray is not
installed: pip install '.[ray]'.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from pathlib import Path

import pytest

from kstock_batch.errors import ConfigError
from kstock_batch.executors import make_executor
from test_executors import HERE, assert_same_models, is_alive, job, jobs_are_found, results, until  # noqa: F401

ray = pytest.importorskip("ray", reason="ray is not installed: pip install '.[ray]'")

# ray 2.60 leaves a socket or a log of a process it has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore:.*:FutureWarning:ray")


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster whose head does no jobs and whose two nodes do one at a time."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray._private.utils import get_ray_address_file
    from ray.cluster_utils import Cluster

    # Ray writes there whatever folder a cluster is given, and makes it only where it is not given one.
    Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="ks-")  # short: sockets lie in it
    given = {"include_dashboard": False, "object_store_memory": 80 * 1024**2, "temp_dir": folder}
    quick = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **given}, connect=False
    )
    try:
        nodes = [cluster.add_node(num_cpus=1, object_store_memory=80 * 1024**2) for _ in range(2)]
        yield cluster, nodes
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def test_two_nodes_find_what_this_process_finds_and_may_be_lost(two_nodes, tmp_path):
    cluster, nodes = two_nodes
    before = signal.getsignal(signal.SIGTERM)
    assert_same_models(tmp_path, {"ray": {"address": cluster.address}})
    assert signal.getsignal(signal.SIGTERM) == before
    found = results(
        "ray",
        [
            *(job(f"echo {number}", "echo", size=70_000) for number in range(3)),
            job("refused", "refuse"),
            job("away", "echo", ("/nowhere/rows.parquet",)),
            job("once", "die", first_only=str(tmp_path / "once")),
            job("always", "die"),
        ],
        address=cluster.address,
    )
    assert [(found[f"echo {n}"].error, found[f"echo {n}"].files) for n in range(3)] == [
        (None, {"a.bin": bytes(70_000)})
    ] * 3
    assert str(found["refused"].error) == "60 sessions are stored, 120 are needed\n  fix: ingest more"
    assert "which was to do away, does not see /nowhere/rows.parquet\n  fix: keep --root on a disk" in str(
        found["away"].error
    )
    assert (found["once"].error, found["once"].attempts) == (None, 2)
    assert str(found["always"].error).startswith(
        "job always was begun 2 times and its worker ended each time, at last with Ray's WorkerCrashedError: "
    )
    assert {done.attempts for key, done in found.items() if key not in ("once", "always")} == {1}
    assert results("ray", [job("a", "threads")], address=cluster.address)["a"].facts == {
        "OMP_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }
    lose_a_node(cluster, nodes, tmp_path / "flag")


def lose_a_node(cluster, nodes, flag):
    """A node that is lost in the middle of a job costs that job one retry, on the node that is left."""
    with make_executor("ray", workers=2, address=cluster.address) as executor:
        executor.submit(job("lost", "outlive", flag=str(flag)))
        executor.submit(job("beside", "echo"))
        id_of_node = until(lambda: flag.exists() and flag.read_text())
        (lost,) = [node for node in nodes if node.node_id == id_of_node]
        threading.Timer(0.5, lambda: cluster.remove_node(lost, allow_graceful=False)).start()
        done = {one.key: one for one in executor.finished()}
    assert [(done[key].error, done[key].attempts) for key in ("lost", "beside")] == [(None, 2), (None, 1)]


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("127.0.0.1:9", "no Ray cluster can be joined at 127.0.0.1:9: [Errno 111] Connection refused"),
        ("nowhere", "--address nowhere is no host:port\n  fix: use the one that `ray start --head` prints"),
    ],
)
def test_a_cluster_that_is_not_there_is_named(address, sentence):
    with pytest.raises(ConfigError) as refused:
        make_executor("ray", workers=1, address=address)
    assert str(refused.value).startswith(sentence)
    assert not ray.is_initialized()
