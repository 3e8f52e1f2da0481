"""Subsets are DataComp's files: what is written can be read, and keeps exactly its uids."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.curate.pairs import Pairs
from zebra.curate.rules import find_alone
from zebra.curate.subset import read_subset, subset_rules, write_subset
from zebra.errors import ConfigError

UIDS = ["139e4a9b22a614771f06c700a8ebe150", "6e356964a967af455c8016b75d691203", "00" * 16, "ff" * 16, "12" + "00" * 15]


def make_pairs(folder: Path, uids: list[str], name: str = "0") -> Pairs:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table({"uid": pa.array(map(bytes.fromhex, uids), pa.binary(16))}), path)
    return Pairs([path])


def test_a_subset_is_written_as_datacomp_asks(tmp_path: Path) -> None:
    write_subset(tmp_path / "subset.npy", make_pairs(tmp_path, [*UIDS, UIDS[0]]))
    expected = np.array([(int(uid[:16], 16), int(uid[16:32], 16)) for uid in UIDS], np.dtype("u8,u8"))
    expected.sort()
    written = np.load(tmp_path / "subset.npy")
    assert written.dtype == expected.dtype
    assert written.tolist() == expected.tolist()
    assert [uid.ljust(16, b"\0").hex() for uid in read_subset(tmp_path / "subset.npy")] == sorted(UIDS)


def test_only_pairs_of_the_subset_are_kept(tmp_path: Path) -> None:
    write_subset(tmp_path / "subset.npy", make_pairs(tmp_path, UIDS[::2]))
    [rule] = subset_rules(str(tmp_path / "subset.npy"))
    [table] = make_pairs(tmp_path, UIDS, "1").read_kept(("uid",))
    assert find_alone(rule, [table, table[:0]]).tolist() == [False, True, False, True, False]
    assert subset_rules(None) == []


@given(st.lists(st.binary(min_size=16, max_size=16) | st.sampled_from([b"\0" * 16, b"\1" + b"\0" * 15]), min_size=1))
def test_an_unsorted_file_of_any_uids_keeps_exactly_these(uids: list[bytes]) -> None:
    import tempfile

    listed, others = uids[: len(uids) // 2 + 1], uids[len(uids) // 2 + 1 :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "subset.npy"
        halves = [(int.from_bytes(uid[:8], "big"), int.from_bytes(uid[8:], "big")) for uid in listed]
        np.save(path, np.array(halves, "u8,u8"))
        [rule] = subset_rules(str(path))
    table = pa.table({"uid": pa.array(listed + others, pa.binary(16))})
    assert find_alone(rule, [table]).tolist() == [uid not in listed for uid in listed + others]


@pytest.mark.parametrize("content", ["missing", "text", "floats", "empty", "pickle", "zip", "matrix"])
def test_another_file_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "subset.npy"
    match content:
        case "text":
            path.write_text("139e4a9b22a614771f06c700a8ebe150\n")
        case "floats":
            np.save(path, np.zeros(3))
        case "empty":
            np.save(path, np.zeros(0, "u8,u8"))
        case "pickle":
            np.save(path, np.array([{}]), allow_pickle=True)
        case "zip":
            with path.open("wb") as file:
                np.savez(file, np.zeros(3, "u8,u8"))
        case "matrix":
            np.save(path, np.zeros((3, 2), "u8,u8"))
    with pytest.raises(ConfigError, match=r"subset\.npy"):
        read_subset(path)
