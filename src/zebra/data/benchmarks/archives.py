"""Data sets as their authors packed them in, unpacked into a folder; labelled pictures out.

A layout is a value: which files a split is made of, and how they are read. The folders' names are those under which
torchvision unpacks the same archives, so what is on disk already is found. Nothing here is ever unpickled.
"""

import gzip
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.clip_benchmark import CLASSNAMES_FILENAME, read_lines
from zebra.data.benchmarks.label_tables import read_label_table
from zebra.data.image_source import ImageSource, encode_png, hash_files, hash_values, open_image_files
from zebra.data.sources import Source
from zebra.data.table_files import BadRow, open_table
from zebra.errors import BadSample, DataError

_CLASS_CODE = re.compile(r"n?\d+|[A-Z]{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFiles:
    """What one split is made of."""

    split: str
    files: tuple[str, ...]
    """Files, folders or names of rows: what they are is the layout's affair."""


@dataclass(frozen=True, slots=True)
class ArchiveSplit:
    """One split of an archive."""

    source: Source
    """Records with labels."""
    labels: NDArray[np.int64]
    classnames: tuple[str, ...] = ()
    """As the archive spells them; empty if it names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CifarArchive:
    """CIFAR's binary version: records of labels, then 3072 bytes of red, green and blue."""

    folder: str
    splits: tuple[SplitFiles, ...]
    classnames_file: str
    label_bytes: int = 1
    """CIFAR-100 has two, of which the last is the fine label."""
    kind: Literal["cifar"] = "cifar"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError if a file is missing or cut off."""
        paths = _split_paths(root / self.folder, self.splits, split)
        size = self.label_bytes + 3 * 32 * 32
        blocks = [_read_records(path, size) for path in paths]
        labels = np.concatenate([block[self.label_bytes - 1 :: size] for block in blocks]).astype(np.int64)
        places = [
            (str(path), size * row + self.label_bytes)
            for path, block in zip(paths, blocks, strict=True)
            for row in range(len(block) // size)
        ]
        load = partial(_load_raw_image, places, (3, 32, 32), (1, 2, 0))
        return _build_split(
            root / self.folder, paths, load, labels, read_lines(root / self.folder / self.classnames_file)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class IdxArchive:
    """MNIST's format, packed by gzip or not; a part is the file of pictures and the file of labels."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["idx"] = "idx"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError if a file is missing or cut off."""
        found = [
            _find_plain_or_gzip(root / self.folder / name) for name in _split_files(self.splits, split, root)
        ]
        pixels, labels = (_read_idx(path) for path in found)
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{found[0]} holds {pixels.shape} and {found[1].name} {labels.shape}: not one set"
            )
        return _build_split(
            root / self.folder, found, partial(_load_array_row, pixels), labels.astype(np.int64)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stl10Archive:
    """STL-10's binary version: pictures of 3 × 96 × 96 bytes, column by column, and labels from 1."""

    folder: str
    splits: tuple[SplitFiles, ...]
    classnames_file: str
    kind: Literal["stl10"] = "stl10"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError if a file is missing or cut off."""
        pixels, answers = paths = _split_paths(root / self.folder, self.splits, split)
        size = 3 * 96 * 96
        count = _count_records(pixels, size)
        labels = _read_records(answers, 1).astype(np.int64) - 1
        if len(labels) != count:
            raise DataError(
                f"{pixels} holds {count} pictures, {answers.name} {len(labels)} labels: not one set"
            )
        load = partial(
            _load_raw_image, [(str(pixels), size * row) for row in range(count)], (3, 96, 96), (2, 1, 0)
        )
        return _build_split(
            root / self.folder, paths, load, labels, read_lines(root / self.folder / self.classnames_file)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class NumpyArchive:
    """NumPy's files, as CIFAR-10.1 has them; a part is uint8 [N, H, W, 3] and the labels [N]."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["arrays"] = "arrays"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError if a file is missing, or no such array."""
        paths = _split_paths(root / self.folder, self.splits, split)
        try:
            pixels, labels = (np.load(path, allow_pickle=False) for path in paths)
        except (ValueError, EOFError) as error:
            raise DataError(
                f"{paths[0].parent} holds no arrays of numbers ({error}); download them again"
            ) from error
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{paths[0]} holds {pixels.shape} and {paths[1].name} {labels.shape}: not one set"
            )
        return _build_split(
            root / self.folder, paths, partial(_load_array_row, pixels), labels.astype(np.int64)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFileArchive:
    """Pictures in folders, and a text file for each split with a line per picture."""

    folder: str
    splits: tuple[SplitFiles, ...]
    image_dir: str
    """The folder of the pictures."""
    line_pattern: str
    """A regular expression with the groups `file` and `name` (of the class), or `file` and `number`."""
    image_suffix: str = ""
    """What the lines leave out of the pictures' names."""
    num_header_lines: int = 0
    kind: Literal["lists"] = "lists"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError, with the line, if one is not understood or its picture is missing."""
        lists = _split_paths(root / self.folder, self.splits, split)
        matches = [match for path in lists for match in self._match_lines(path)]
        pictures = root / self.folder / self.image_dir
        paths = [pictures / f"{match['file']}{self.image_suffix}" for match in matches]
        names: tuple[str, ...] = ()
        if "number" in re.compile(self.line_pattern).groupindex:
            labels = [int(match["number"]) for match in matches]
        else:  # the classes of all splits, so that a label means the same in each
            every = {root / self.folder / name for part in self.splits for name in part.files}
            found = sorted(
                {match["name"] for path in every if path.is_file() for match in self._match_lines(path)}
            )
            numbers = {name: number for number, name in enumerate(found)}
            labels = [numbers[match["name"]] for match in matches]
            names = tuple(name.replace("_", " ") for name in found)
        return ArchiveSplit(
            open_image_files(root / self.folder, paths, labels), np.array(labels, np.int64), names
        )

    def _match_lines(self, path: Path) -> list[re.Match[str]]:
        pattern = re.compile(self.line_pattern)
        matches = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if number <= self.num_header_lines or not line.strip():
                continue
            if not (match := pattern.fullmatch(line.strip())):
                raise DataError(f"{path}:{number}: {line!r} is not of the form {self.line_pattern}")
            matches.append(match)
        return matches


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFolderArchive:
    """A folder per class; a part is the split's folder, or nothing where the set has only one.

    Folders that are called by numbers, WordNet's or a country's code name no classes: those are asked for elsewhere.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["folders"] = "folders"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError as in `read_class_folders`."""
        inside = _split_files(self.splits, split, root)
        benchmark = read_class_folders(root / self.folder, inside[0] if inside else "test")
        assert isinstance(benchmark.source, ImageSource)
        labels = np.array(benchmark.source.labels, np.int64)
        named = (root / self.folder / CLASSNAMES_FILENAME).is_file()
        coded = not named and all(map(_CLASS_CODE.fullmatch, benchmark.classnames))
        return ArchiveSplit(benchmark.source, labels, () if coded else benchmark.classnames)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTableArchive:
    """A table with pictures beside it; a part is its file."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["table"] = "table"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError as in `read_label_table`."""
        (path,) = _split_paths(root / self.folder, self.splits, split)
        rows = read_label_table(path, allow_numeric_labels=True).source
        return ArchiveSplit(rows, np.array([rows.read(row).label for row in range(len(rows))], np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelTableArchive:
    """FER2013's table: a label, and the gray values of a square picture as text; a part is a value of `Usage`."""

    folder: str
    splits: tuple[SplitFiles, ...]
    table_file: str
    kind: Literal["pixels"] = "pixels"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError, with the line, if one is not understood."""
        path = root / self.folder / self.table_file
        usages = _split_files(self.splits, split, root)
        labels, pictures = [], []
        for line, row in open_table(path).read(()):
            if isinstance(row, BadRow):
                raise DataError(f"{path}:{line}: {row.reason} ({row.detail})")
            try:
                if row["Usage"] not in usages:
                    continue
                gray = np.array(row["pixels"].split(), np.uint8)
                pictures.append(gray.reshape(round(len(gray) ** 0.5), -1))
                labels.append(int(row["emotion"]))
            except (KeyError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}:{line} is no label with a square of gray values ({error})"
                ) from error
        if not pictures:
            raise DataError(f"{path} has no row whose Usage is {' or '.join(usages)}")
        load = partial(_load_array_row, np.stack(pictures))
        return _build_split(root / self.folder, [path], load, np.array(labels, np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class MatlabArchive:
    """Flowers102's layout: which pictures a split has, and all labels, from 1, in MATLAB files."""

    folder: str
    splits: tuple[SplitFiles, ...]
    """A part is the name of the split's variable."""
    splits_file: str
    labels_file: str
    image_pattern: str
    """With `{}` where the number of the picture goes."""
    kind: Literal["mat"] = "mat"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; DataError if a file or a picture is missing."""
        from scipy.io import loadmat

        folder = root / self.folder
        (variable,) = _split_files(self.splits, split, root)
        try:
            numbers = np.ravel(loadmat(folder / self.splits_file)[variable]).astype(int)
            all_labels = np.ravel(loadmat(folder / self.labels_file)["labels"]).astype(np.int64)
        except (OSError, KeyError, ValueError) as error:
            raise DataError(
                f"{folder}: the MATLAB files cannot be read ({error}); download them again"
            ) from error
        labels = all_labels[numbers - 1] - 1
        paths = [folder / self.image_pattern.format(f"{number:05d}") for number in numbers]
        return ArchiveSplit(open_image_files(folder, paths, labels.tolist()), labels)


ArchiveFormat = (
    CifarArchive
    | IdxArchive
    | Stl10Archive
    | NumpyArchive
    | ListFileArchive
    | ClassFolderArchive
    | LabelTableArchive
    | PixelTableArchive
    | MatlabArchive
)
"""Every layout that a catalogue record may name."""


def _split_files(splits: Sequence[SplitFiles], split: str, root: Path) -> tuple[str, ...]:
    for part in splits:
        if part.split == split:
            return part.files
    raise DataError(
        f"the archive in {root} has no split {split!r}; it has {', '.join(part.split for part in splits)}"
    )


def _split_paths(folder: Path, splits: Sequence[SplitFiles], split: str) -> list[Path]:
    paths = [folder / name for name in _split_files(splits, split, folder)]
    absent = [path.name for path in paths if not path.is_file()]
    if absent:
        raise DataError(
            f"{folder} lacks {', '.join(absent)} of the split {split!r}; unpack the archive again"
        )
    return paths


def _build_split(
    folder: Path,
    paths: Sequence[Path],
    load: "partial[bytes]",
    labels: NDArray[np.int64],
    classnames: tuple[str, ...] = (),
) -> ArchiveSplit:
    name = paths[0].name.partition(".")[0]
    ids = [f"{name}/{row:06d}" for row in range(len(labels))]
    digest = hash_values(hash_files(paths), labels.tobytes())
    return ArchiveSplit(ImageSource(str(folder), ids, load, digest, labels.tolist()), labels, classnames)


def _read_records(path: Path, record_bytes: int) -> NDArray[np.uint8]:
    _count_records(path, record_bytes)
    return np.fromfile(path, np.uint8)


def _count_records(path: Path, record_bytes: int) -> int:
    count, rest = divmod(path.stat().st_size, record_bytes)
    if rest or not count:
        raise DataError(
            f"{path} has {path.stat().st_size:,} bytes, no multiple of {record_bytes}; it is cut off, unpack it again"
        )
    return count


def _load_raw_image(
    locations: Sequence[tuple[str, int]], shape: tuple[int, int, int], axes: tuple[int, int, int], index: int
) -> bytes:
    """Read one picture from the middle of a file; `axes` brings its bytes into the order [H, W, 3]."""
    name, offset = locations[index]
    try:
        pixels = np.fromfile(name, np.uint8, count=int(np.prod(shape)), offset=offset)
        return encode_png(pixels.reshape(shape).transpose(axes))
    except (OSError, ValueError) as error:
        raise BadSample("unreadable file", f"{name} at byte {offset}", str(error)) from error


def _load_array_row(pixels: NDArray[np.uint8], index: int) -> bytes:
    return encode_png(pixels[index])


def _find_plain_or_gzip(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    for found in (path, packed):
        if found.is_file():
            return found
    raise DataError(f"{path.parent} lacks {path.name} (or {packed.name}); download the set again")


def _read_idx(path: Path) -> NDArray[np.uint8]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, dimensions = struct.unpack_from(">3sB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        pixels = np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise DataError(f"{path} is cut off or damaged ({error}); download the set again") from error
    if magic != b"\0\0\x08":
        raise DataError(f"{path} holds no array of bytes in the idx format; download the set again")
    return pixels
