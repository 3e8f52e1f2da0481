"""`zebra embed --engine ray` with two workers writes the same store as one process."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from zebra.config.embed import EmbedConfig
from zebra.data.shard_writer import ShardWriter
from zebra.store import Store
from zebra.workflows import embed

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray")

CLUSTER = """
import ray, sys
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture
def cluster(tmp_path_factory, environment):
    """Yield the address of a cluster with two workers, started in another directory."""
    folder = tmp_path_factory.mktemp("cluster")
    env = environment | {"RAY_USAGE_STATS_ENABLED": "0"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", CLUSTER], cwd=folder, env=env, text=True, **pipes) as process:
        address = process.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield address
        process.stdin.close()


def assert_same_rows(first, second):
    stores = [Store.open(first), Store.open(second)]
    assert stores[0].schema.equals(stores[1].schema, check_metadata=True)
    rows = [
        [row for batch in store.scan(store.schema.names) for row in batch.to_pylist()] for store in stores
    ]  # both in the order of the dataset
    vectors = [np.array([row.pop("vector") for row in store_rows], np.float32) for store_rows in rows]
    assert rows[0] == rows[1]
    np.testing.assert_allclose(*vectors, rtol=0, atol=1e-6)


SETTINGS = ("--precision", "fp32", "--vector-dtype", "float32", "--batch-size", "8", "--json")


def in_one_process(model, data, out):
    config = EmbedConfig(
        model=str(model), data=str(data), out=str(out), precision="fp32", vector_dtype="float32", batch_size=8
    )
    return embed.run(config)


def test_two_workers_write_the_store_of_one_process_and_a_second_run_embeds_nothing(zebra, model, pairs, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for key, suffix, data, caption in pairs[:40]:
        (folder / f"{key}.{suffix}").write_bytes(data)
        (folder / f"{key}.txt").write_text(caption)
    (folder / "bad.jpg").write_bytes(b"no image")
    arguments = ["embed", model, "photos", "--out", "many", "--engine", "ray", "--workers", "2", *SETTINGS]

    result = zebra(*arguments, cwd=tmp_path)
    document = json.loads(result.stdout)
    assert (document["embedded"], document["skipped"]) == (40, {"not an image": 1})
    expected = ("embedding ", "Set ray log level")  # the progress bar, and a line of Ray that cannot be silenced
    assert [line for line in result.stderr.splitlines() if not any(text in line for text in expected)] == []
    in_one_process(model, folder, tmp_path / "one")
    assert_same_rows(tmp_path / "one", tmp_path / "many")
    assert [version.num_rows for version in Store.open(tmp_path / "many").list_versions()] == [0, 40]

    (folder / "bad.jpg").unlink()
    document = json.loads(zebra(*arguments, cwd=tmp_path).stdout)
    assert (document["unchanged"], document["embedded"], document["num_rows"]) == (40, 0, 40)


def test_a_running_cluster_writes_the_store_of_one_process_from_shards(
    zebra, environment, cluster, model, pairs, tmp_path, monkeypatch
):
    with ShardWriter(tmp_path / "shards", samples_per_shard=15) as writer:
        for key, suffix, data, caption in pairs[:40]:
            writer.write(key, {suffix: data, "txt": caption.encode()})
    monkeypatch.chdir(tmp_path)
    in_one_process(model, "shards", "one")
    monkeypatch.setitem(environment, "RAY_ADDRESS", cluster)
    result = zebra("embed", model, "shards", "--out", "many", "--engine", "ray", *SETTINGS, cwd=tmp_path)
    assert json.loads(result.stdout)["embedded"] == 40
    assert_same_rows(tmp_path / "one", tmp_path / "many")
