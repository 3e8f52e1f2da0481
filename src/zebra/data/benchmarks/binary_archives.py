"""Archives of raw pixels: CIFAR, MNIST, STL-10 and NumPy arrays."""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.archive_splits import (
    ArchiveSplit,
    SplitFiles,
    build_archive_split,
    find_split_files,
    find_split_paths,
)
from zebra.data.benchmarks.clip_benchmark import read_lines
from zebra.data.image_source import encode_png
from zebra.errors import BadSample, DataError

MAX_IDX_BYTES = 2 << 30
"""Maximum size of an idx file; that of EMNIST has 0.6 GB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CifarArchive:
    """CIFAR, binary version: records of label bytes and 3072 bytes of red, green and blue planes."""

    folder: str
    splits: tuple[SplitFiles, ...]
    classnames_file: str
    label_bytes: int = 1
    """Number of label bytes; the last one counts. CIFAR-100 has a coarse and a fine label."""
    kind: Literal["cifar"] = "cifar"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file is missing or truncated."""
        paths = find_split_paths(root / self.folder, self.splits, split)
        record_bytes = self.label_bytes + 3 * 32 * 32
        blocks = [_read_records(path, record_bytes) for path in paths]
        labels = np.concatenate([block[self.label_bytes - 1 :: record_bytes] for block in blocks]).astype(np.int64)
        locations = [
            (str(path), record_bytes * row + self.label_bytes)
            for path, block in zip(paths, blocks, strict=True)
            for row in range(len(block) // record_bytes)
        ]
        load = partial(_load_raw_image, locations, (3, 32, 32), (1, 2, 0))
        return build_archive_split(
            root / self.folder, paths, load, labels, read_lines(root / self.folder / self.classnames_file)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IdxArchive:
    """MNIST's idx format, gzip-compressed or not. A split has an image file and a label file."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["idx"] = "idx"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file is missing or truncated."""
        paths = [_find_plain_or_gzip(root / self.folder / name) for name in find_split_files(self.splits, split, root)]
        pixels, labels = (_read_idx(path) for path in paths)
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{paths[0]} has the shape {pixels.shape} and {paths[1].name} {labels.shape}. Unpack the archive again"
            )
        return build_archive_split(root / self.folder, paths, partial(_load_array_row, pixels), labels.astype(np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stl10Archive:
    """STL-10, binary version: images of 3 × 96 × 96 bytes in column-major order, and labels from 1."""

    folder: str
    splits: tuple[SplitFiles, ...]
    classnames_file: str
    kind: Literal["stl10"] = "stl10"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file is missing or truncated."""
        pixels_path, labels_path = paths = find_split_paths(root / self.folder, self.splits, split)
        image_bytes = 3 * 96 * 96
        num_images = _count_records(pixels_path, image_bytes)
        labels = _read_records(labels_path, 1).astype(np.int64) - 1
        if len(labels) != num_images:
            raise DataError(
                f"{pixels_path} has {num_images} images, but {labels_path.name} has {len(labels)} labels. Unpack "
                "the archive again"
            )
        load = partial(
            _load_raw_image,
            [(str(pixels_path), image_bytes * row) for row in range(num_images)],
            (3, 96, 96),
            (2, 1, 0),
        )
        return build_archive_split(
            root / self.folder, paths, load, labels, read_lines(root / self.folder / self.classnames_file)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NumpyArchive:
    """NumPy files, as in CIFAR-10.1. A split has the images, uint8 [N, H, W, 3], and the labels, [N]."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["arrays"] = "arrays"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file is missing or has another shape."""
        paths = find_split_paths(root / self.folder, self.splits, split)
        try:
            pixels, labels = (np.load(path, allow_pickle=False) for path in paths)
        except (OSError, ValueError, EOFError, MemoryError) as error:  # a damaged header may name any shape
            raise DataError(f"{paths[0].parent} has no numeric arrays ({error}). Download them again") from error
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{paths[0]} has the shape {pixels.shape} and {paths[1].name} {labels.shape}. Download them again"
            )
        return build_archive_split(root / self.folder, paths, partial(_load_array_row, pixels), labels.astype(np.int64))


def _read_records(path: Path, record_bytes: int) -> NDArray[np.uint8]:
    _count_records(path, record_bytes)
    return np.fromfile(path, np.uint8)


def _count_records(path: Path, record_bytes: int) -> int:
    num_records, remainder = divmod(path.stat().st_size, record_bytes)
    if remainder or not num_records:
        raise DataError(
            f"{path} is truncated: {path.stat().st_size:,} bytes are no multiple of {record_bytes}. Unpack it again"
        )
    return num_records


def _load_raw_image(
    locations: Sequence[tuple[str, int]], shape: tuple[int, int, int], axes: tuple[int, int, int], index: int
) -> bytes:
    """Read the raw image at an offset of a file; `axes` transposes it to [H, W, 3]."""
    name, offset = locations[index]
    try:
        pixels = np.fromfile(name, np.uint8, count=int(np.prod(shape)), offset=offset)
        return encode_png(pixels.reshape(shape).transpose(axes))
    except (OSError, ValueError) as error:
        raise BadSample("unreadable file", f"{name} at byte {offset}", str(error)) from error


def _load_array_row(pixels: NDArray[np.uint8], index: int) -> bytes:
    return encode_png(pixels[index])


def _find_plain_or_gzip(path: Path) -> Path:
    gzip_path = path.with_name(f"{path.name}.gz")
    for candidate in (path, gzip_path):
        if candidate.is_file():
            return candidate
    raise DataError(f"{path.parent} lacks {path.name} (or {gzip_path.name}). Download the dataset again")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an idx file; a compressed one is unpacked only up to the size that its header names."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            magic, num_dims = struct.unpack(">3sB", file.read(4))
            if magic != b"\0\0\x08":
                raise DataError(f"{path} is no idx file of bytes. Download the dataset again")
            shape = struct.unpack(f">{num_dims}I", file.read(4 * num_dims))
            num_bytes = math.prod(shape)
            if num_bytes > MAX_IDX_BYTES:
                raise DataError(f"{path} has the shape {shape}, more than {MAX_IDX_BYTES:,} bytes. Download it again")
            data = file.read(num_bytes + 1)
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Download the dataset again") from error
    if len(data) != num_bytes:
        extent = "more" if len(data) > num_bytes else "fewer"
        raise DataError(f"{path} has {extent} bytes than its shape {shape}. Download the dataset again")
    return np.frombuffer(data, np.uint8).reshape(shape)
