"""Tar shards with tables beside them: the columns are those of the sample with the same key."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.curate.pools.test_download import dropped, encode_image, read_all, run_curate

from zebra.data.shard_writer import ShardWriter
from zebra.errors import DataError


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two shards of two samples each, without tables."""
    with ShardWriter(tmp_path / "shards", samples_per_shard=2) as writer:
        for number in range(4):
            writer.write(f"{number:09d}", {"png": encode_image(number), "txt": b"animal %d" % number})
    return tmp_path / "shards"


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def test_published_scores_and_uids_of_shards_are_used(shards: Path, tmp_path: Path) -> None:
    for shard in range(2):
        keys = [2 * shard + 1, 2 * shard]  # in another order than the shard
        rows = [{"key": f"{n:09d}", "uid": f"{n:032x}", "Similarity": n / 10, "width": 1, "caption": "x"} for n in keys]
        write_table(shards / f"0000{shard}.parquet", rows)
    result = run_curate(shards, tmp_path / "set", columns=("similarity >= 0.2",))
    assert dropped(result) == {("columns", "similarity under 0.2"): 2}
    assert sorted(read_all(tmp_path / "set")) == [("animal 2",), ("animal 3",)]
    uids = pq.read_table(tmp_path / "set/decisions.parquet")["uid"].to_pylist()
    assert uids == [n.to_bytes(16, "big") for n in range(4)]


def test_a_table_that_disagrees_with_its_shard_changes_no_caption_and_loses_no_sample(
    shards: Path, tmp_path: Path
) -> None:
    rows = [
        {"key": "000000000", "caption": "another caption", "similarity": 0.3},
        {"key": "000000077", "caption": "a sample that the shard lacks", "similarity": 0.9},
    ]
    write_table(shards / "00000.parquet", rows)
    write_table(shards / "00001.parquet", [{"key": "000000002", "similarity": "high"}])
    result = run_curate(shards, tmp_path / "all")
    assert sorted(read_all(tmp_path / "all")) == [(f"animal {n}",) for n in range(4)]
    assert result.num_pairs == 4
    write_table(shards / "00001.parquet", [{"key": "000000002", "similarity": 0.1}])
    result = run_curate(shards, tmp_path / "set", columns=("similarity >= 0.2",))
    assert dropped(result) == {("columns", "no similarity"): 2, ("columns", "similarity under 0.2"): 1}


def test_two_samples_of_one_key_are_counted_and_the_others_kept(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards", samples_per_shard=10) as writer:
        for key, number in (("a", 0), ("a", 1), ("b", 2)):
            writer.write(key, {"png": encode_image(number), "txt": b"animal %d" % number})
    result = run_curate(tmp_path / "shards", tmp_path / "set")
    assert dropped(result) == {("read", "duplicate field"): 1}
    assert list(read_all(tmp_path / "set")) == [("animal 2",)]


def test_a_damaged_table_is_an_error_that_says_what_to_do(shards: Path, tmp_path: Path) -> None:
    (shards / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"00000\.parquet is damaged.*delete it"):
        run_curate(shards, tmp_path / "set")


def test_a_set_of_an_earlier_run_keeps_its_uids(shards: Path, tmp_path: Path) -> None:
    run_curate(shards, tmp_path / "first")
    run_curate(tmp_path / "first", tmp_path / "second")
    uids = [set(pq.read_table(tmp_path / name / "00000.parquet")["uid"].to_pylist()) for name in ("first", "second")]
    assert uids[0] == uids[1]
    assert json.loads((tmp_path / "second/account.json").read_text())["pairs"]["kept"] == 4
