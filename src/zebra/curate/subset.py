"""Subsets of a pool as files of uids, in DataComp's format.

A subset is a sorted array of pairs of uint64 (dtype "u8,u8"): the upper and lower half of each uid, which is a 128-bit
number. DataComp's resharder reads such files, and its baselines write them.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.atomic_io import atomic_write
from zebra.curate.pairs import UID_BYTES, Pairs
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule
from zebra.errors import ConfigError

SUBSET_FILE = "subset.npy"
SUBSET_TYPE = np.dtype("u8,u8")
_UID_TYPE = np.dtype(f"S{UID_BYTES}")


def subset_rules(path: str | None) -> list[Stage]:
    """Return the rule that drops pairs whose uid is not in a file; none without a file."""
    if path is None:
        return []
    subset_U = read_subset(Path(path))

    def find(table: pa.Table) -> pa.Array:
        uid_N = uids_to_numpy(table["uid"])
        position_N = np.searchsorted(subset_U, uid_N).clip(max=len(subset_U) - 1)
        return pa.array(subset_U[position_N] != uid_N)

    return [PairRule("subset", "not in the subset", ("uid",), find)]


def read_subset(path: Path) -> NDArray[np.bytes_]:
    """Return the distinct uids of a subset, sorted, [U] of 16 bytes.

    Raises:
        ConfigError: The file is missing, has another format, or is empty.
    """
    try:
        halves = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"cannot read the subset {path}: {error}. Give a .npy file of dtype u8,u8") from error
    if not isinstance(halves, np.ndarray) or halves.dtype != SUBSET_TYPE or halves.ndim != 1:
        raise ConfigError(f"the subset {path} is no one-dimensional array of dtype u8,u8 in a .npy file")
    if not len(halves):
        raise ConfigError(f"the subset {path} has no uids, so no pair would be kept")
    uid_N = np.stack([halves["f0"], halves["f1"]], axis=1).astype(">u8")
    return np.unique(uid_N.view(_UID_TYPE)[:, 0])


def write_subset(path: Path, pairs: Pairs) -> None:
    """Write the uids of the remaining pairs."""
    uids = [uids_to_numpy(table["uid"]) for table in pairs.read_kept(("uid",))]
    uid_U = np.unique(np.concatenate([np.zeros(0, _UID_TYPE), *uids]))
    halves = np.frombuffer(uid_U.tobytes(), ">u8").astype(np.uint64).view(SUBSET_TYPE)
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.save(file, halves)


def uids_to_numpy(uid: pa.ChunkedArray) -> NDArray[np.bytes_]:
    """Return uids as [N] of 16 bytes; bytes compare as the numbers do."""
    return np.frombuffer(b"".join(uid.to_pylist()), _UID_TYPE)
