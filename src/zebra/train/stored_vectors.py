"""Vectors on disk by key: of images by sample ID, of texts by caption."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from zebra.atomic_io import atomic_write
from zebra.embed.hash_index import HashIndex
from zebra.errors import DataError

VECTORS_FILE, KEYS_FILE, INFO_FILE = "vectors.npy", "keys.arrow", "vectors.json"
KEYS_SCHEMA = pa.schema([pa.field("key", pa.string(), nullable=False)])
MAX_NAMES_IN_ERROR = 3


@dataclass(frozen=True, slots=True)
class VectorInfo:
    """Model that computed the vectors of a table."""

    fingerprint: str
    """Fingerprint of the model."""
    model: str
    """Path of the model, or hf:org/name."""
    logit_scale: float
    """Factor of the model's cosine similarities."""
    digest: str = ""
    """SHA-256 in hex of keys and vectors; `VectorTable.write` computes it."""


class VectorTable:
    """N vectors by distinct key. The vectors are memory-mapped; an index of 24 bytes per key is in memory."""

    def __init__(self, folder: Path) -> None:
        """Open a table that `write` wrote.

        Raises:
            DataError: There is none, or a file is missing or damaged.
        """
        self.folder = folder
        try:
            self.info = VectorInfo(**json.loads((folder / INFO_FILE).read_text(encoding="utf-8")))
            self._vectors_NE: NDArray[np.floating[Any]] = np.load(folder / VECTORS_FILE, mmap_mode="r")
            self._index = HashIndex()
            num_keys = 0
            for keys in _read_keys(folder):
                self._index.add(keys, num_keys)
                num_keys += len(keys)
        except (OSError, ValueError, EOFError, TypeError, pa.ArrowException) as error:
            raise DataError(f"cannot read the vectors in {folder}: {error}. Compute them again") from error
        if num_keys != len(self._vectors_NE):
            raise DataError(
                f"{folder} has {num_keys:,} keys, but {len(self._vectors_NE):,} vectors. Compute them again"
            )

    @classmethod
    def write(
        cls,
        folder: Path,
        batches: Iterable[tuple[Sequence[str], NDArray[np.floating[Any]]]],
        *,
        shape: tuple[int, int],
        dtype: str,
        info: VectorInfo,
    ) -> "VectorTable":
        """Write a table atomically, in place of an existing one, and open it.

        Args:
            folder: A directory for this table alone; its parent is created.
            batches: Distinct keys with their vectors [B, E], N in all.
            shape: N and E.
            dtype: float16 or float32.
            info: Model of the vectors.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(repr((shape, dtype)).encode())
        with atomic_write(folder) as partial:
            partial.mkdir()
            vectors_NE = np.lib.format.open_memmap(partial / VECTORS_FILE, "w+", dtype, shape)
            end = 0
            with pa.OSFile(str(partial / KEYS_FILE), "wb") as file, pa.ipc.new_file(file, KEYS_SCHEMA) as writer:
                for keys, vectors_BE in batches:
                    start, end = end, end + len(keys)
                    vectors_NE[start:end] = vectors_BE
                    writer.write_batch(pa.record_batch([pa.array(keys, pa.string())], schema=KEYS_SCHEMA))
                    digest.update(json.dumps(list(keys)).encode() + vectors_NE[start:end].tobytes())
            if end != len(vectors_NE):
                raise DataError(f"{folder} needs {len(vectors_NE):,} vectors, but got {end:,}")
            vectors_NE.flush()
            document = asdict(info) | {"digest": digest.hexdigest()}
            (partial / INFO_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            _remove_table(folder)
        return cls(folder)

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether a folder holds a table."""
        return (folder / INFO_FILE).is_file()

    @property
    def dim(self) -> int:
        """Vector size E."""
        return int(self._vectors_NE.shape[1])

    def __len__(self) -> int:
        return len(self._vectors_NE)

    def __contains__(self, key: str) -> bool:
        return next(self._index.find_rows(key), None) is not None

    def keys(self) -> Iterator[str]:
        """Yield the keys in the order of the vectors."""
        for keys in _read_keys(self.folder):
            yield from keys

    def sample(self, max_rows: int) -> NDArray[np.float32]:
        """Return at most this many evenly spaced vectors, [N, E]."""
        step = max(1, -(-len(self) // max_rows))
        return self._vectors_NE[::step].astype(np.float32)

    def look_up(self, keys: Sequence[str], kind: str) -> Tensor:
        """Return the vectors of keys, float32 [B, E].

        Args:
            keys: Some keys; they may repeat.
            kind: What a key is, for the error message: sample, caption.

        Raises:
            DataError: The table lacks some of them; the message names the first.
        """
        rows = [next(self._index.find_rows(key), -1) for key in keys]
        if -1 in rows:
            raise missing_vectors_error(
                self.folder, kind, [key for key, row in zip(keys, rows, strict=True) if row < 0], len(keys)
            )
        return torch.from_numpy(self._vectors_NE[rows].astype(np.float32))


def missing_vectors_error(place: Path, kind: str, missing: Sequence[str], num_keys: int) -> DataError:
    """Return the error for keys without a vector."""
    names = ", ".join(map(repr, missing[:MAX_NAMES_IN_ERROR]))
    more = ", …" if len(missing) > MAX_NAMES_IN_ERROR else ""
    return DataError(f"{place} has no vector for {len(missing):,} of {num_keys:,} {kind}s: {names}{more}")


def _read_keys(folder: Path) -> Iterator[list[str]]:
    with pa.memory_map(str(folder / KEYS_FILE)) as source:
        file = pa.ipc.open_file(source)
        for index in range(file.num_record_batches):
            yield file.get_batch(index)["key"].to_pylist()


def _remove_table(folder: Path) -> None:
    """Remove the files of an older table, so that a new one can be renamed to its place."""
    with suppress(FileNotFoundError):
        for name in (INFO_FILE, KEYS_FILE, VECTORS_FILE):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
