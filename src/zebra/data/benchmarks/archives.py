"""Readers of evaluation datasets in their authors' archive formats.

A format is a value: the files of each split, and how to read them. Folder names are those of torchvision, so existing
copies are found. Nothing is unpickled.
"""

import gzip
import math
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

MAX_IDX_BYTES = 2 << 30
"""Maximum size of an idx file; that of EMNIST has 0.6 GB."""
MAX_MATLAB_VALUES = 1 << 20
"""Maximum number of values of a MATLAB variable; the labels of Flowers102 are 8,189."""
_CLASS_CODE = re.compile(r"n?\d+|[A-Z]{2}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFiles:
    """The files of one split."""

    split: str
    files: tuple[str, ...]
    """Files, folders or row values, depending on the format."""


@dataclass(frozen=True, slots=True)
class ArchiveSplit:
    """One split of an archive."""

    source: Source
    """Records with labels."""
    labels: NDArray[np.int64]
    classnames: tuple[str, ...] = ()
    """The archive's class names; empty if it has none."""


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
        paths = _split_paths(root / self.folder, self.splits, split)
        record_bytes = self.label_bytes + 3 * 32 * 32
        blocks = [_read_records(path, record_bytes) for path in paths]
        labels = np.concatenate([block[self.label_bytes - 1 :: record_bytes] for block in blocks]).astype(np.int64)
        locations = [
            (str(path), record_bytes * row + self.label_bytes)
            for path, block in zip(paths, blocks, strict=True)
            for row in range(len(block) // record_bytes)
        ]
        load = partial(_load_raw_image, locations, (3, 32, 32), (1, 2, 0))
        return _build_split(
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
        paths = [_find_plain_or_gzip(root / self.folder / name) for name in _split_files(self.splits, split, root)]
        pixels, labels = (_read_idx(path) for path in paths)
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{paths[0]} has the shape {pixels.shape} and {paths[1].name} {labels.shape}. Unpack the archive again"
            )
        return _build_split(root / self.folder, paths, partial(_load_array_row, pixels), labels.astype(np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class Stl10Archive:
    """STL-10, binary version: images of 3 × 96 × 96 bytes in column-major order, and labels from 1."""

    folder: str
    splits: tuple[SplitFiles, ...]
    classnames_file: str
    kind: Literal["stl10"] = "stl10"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file is missing or truncated."""
        pixels_path, labels_path = paths = _split_paths(root / self.folder, self.splits, split)
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
        return _build_split(
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
        paths = _split_paths(root / self.folder, self.splits, split)
        try:
            pixels, labels = (np.load(path, allow_pickle=False) for path in paths)
        except (OSError, ValueError, EOFError, MemoryError) as error:  # a damaged header may name any shape
            raise DataError(f"{paths[0].parent} has no numeric arrays ({error}). Download them again") from error
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{paths[0]} has the shape {pixels.shape} and {paths[1].name} {labels.shape}. Download them again"
            )
        return _build_split(root / self.folder, paths, partial(_load_array_row, pixels), labels.astype(np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFileArchive:
    """Image files, and text files per split with one line per image."""

    folder: str
    splits: tuple[SplitFiles, ...]
    image_dir: str
    """The folder of the images."""
    line_pattern: str
    """Regular expression with the groups `file` and `name` (the class name), or `file` and `number` (the label)."""
    image_suffix: str = ""
    """Suffix that is appended to the file names in the lines."""
    num_header_lines: int = 0
    kind: Literal["lists"] = "lists"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a line does not match or an image is missing."""
        lists = _split_paths(root / self.folder, self.splits, split)
        matches = [match for path in lists for match in self._match_lines(path)]
        image_dir = root / self.folder / self.image_dir
        paths = [image_dir / f"{match['file']}{self.image_suffix}" for match in matches]
        names: tuple[str, ...] = ()
        if "number" in re.compile(self.line_pattern).groupindex:
            labels = [int(match["number"]) for match in matches]
        else:  # use the classes of all splits, so that labels agree between splits
            all_lists = {root / self.folder / name for files in self.splits for name in files.files}
            class_names = sorted(
                {match["name"] for path in all_lists if path.is_file() for match in self._match_lines(path)}
            )
            indices = {name: index for index, name in enumerate(class_names)}
            labels = [indices[match["name"]] for match in matches]
            names = tuple(name.replace("_", " ") for name in class_names)
        return ArchiveSplit(open_image_files(root / self.folder, paths, labels), np.array(labels, np.int64), names)

    def _match_lines(self, path: Path) -> list[re.Match[str]]:
        pattern = re.compile(self.line_pattern)
        matches = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if number <= self.num_header_lines or not line.strip():
                continue
            if not (match := pattern.fullmatch(line.strip())):
                raise DataError(
                    f"{path}:{number}: {line!r} does not match {self.line_pattern}. Unpack the archive again"
                )
            matches.append(match)
        return matches


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassFolderArchive:
    """One folder per class. A split has one folder, or none if the dataset has only one split.

    Folder names that are numbers, WordNet IDs or country codes are no class names; these come from elsewhere.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["folders"] = "folders"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError as `read_class_folders`."""
        folders = _split_files(self.splits, split, root)
        benchmark = read_class_folders(root / self.folder, folders[0] if folders else "test")
        assert isinstance(benchmark.source, ImageSource)
        labels = np.array(benchmark.source.labels, np.int64)
        has_classnames = (root / self.folder / CLASSNAMES_FILENAME).is_file()
        has_codes = not has_classnames and all(map(_CLASS_CODE.fullmatch, benchmark.classnames))
        return ArchiveSplit(benchmark.source, labels, () if has_codes else benchmark.classnames)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTableArchive:
    """A table of images and labels. A split has one table file."""

    folder: str
    splits: tuple[SplitFiles, ...]
    kind: Literal["table"] = "table"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError as `read_label_table`."""
        (path,) = _split_paths(root / self.folder, self.splits, split)
        source = read_label_table(path, allow_numeric_labels=True).source
        return ArchiveSplit(source, np.array([source.read(index).label for index in range(len(source))], np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelTableArchive:
    """FER2013's table: a label and the gray values of a square image as text. A split is a value of `Usage`."""

    folder: str
    splits: tuple[SplitFiles, ...]
    table_file: str
    kind: Literal["pixels"] = "pixels"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a line is malformed."""
        path = root / self.folder / self.table_file
        usages = _split_files(self.splits, split, root)
        labels, images = [], []
        for line, row in open_table(path).read(()):
            if isinstance(row, BadRow):
                raise DataError(f"{path}:{line}: {row.reason} ({row.detail}). Unpack the archive again")
            try:
                if row["Usage"] not in usages:
                    continue
                gray = np.array(row["pixels"].split(), np.uint8)
                images.append(gray.reshape(round(len(gray) ** 0.5), -1))
                labels.append(int(row["emotion"]))
            except (KeyError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}:{line} has no label with the gray values of a square image ({error}). Unpack the "
                    "archive again"
                ) from error
        if not images:
            raise DataError(f"{path} has no row with the Usage {' or '.join(usages)}. Unpack the archive again")
        load = partial(_load_array_row, np.stack(images))
        return _build_split(root / self.folder, [path], load, np.array(labels, np.int64))


@dataclass(frozen=True, kw_only=True, slots=True)
class MatlabArchive:
    """Flowers102: image numbers of each split, and labels from 1, in MATLAB files."""

    folder: str
    splits: tuple[SplitFiles, ...]
    """Name of the MATLAB variable of each split."""
    splits_file: str
    labels_file: str
    image_pattern: str
    """File name with `{}` for the image number."""
    kind: Literal["mat"] = "mat"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file or image is missing."""
        folder = root / self.folder
        (variable,) = _split_files(self.splits, split, root)
        numbers = _read_matlab_vector(folder / self.splits_file, variable)
        all_labels = _read_matlab_vector(folder / self.labels_file, "labels")
        if not len(numbers) or numbers.min() < 1 or numbers.max() > len(all_labels):
            raise DataError(
                f"{folder / self.splits_file}: {variable} has image numbers outside 1 … {len(all_labels)}. Download "
                "both MATLAB files again"
            )
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
"""An archive format in the catalog; `kind` selects it."""


def _read_matlab_vector(path: Path, variable: str) -> NDArray[np.int64]:
    """Read a variable of at most MAX_MATLAB_VALUES numbers; its size is checked before memory is taken for it.

    Raises:
        DataError: The file is missing or damaged, or the variable is missing, too large or no array of numbers.
    """
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        shape = next((shape for name, shape, _ in whosmat(path) if name == variable), None)
        if shape is None or math.prod(shape) > MAX_MATLAB_VALUES:
            found = "is missing" if shape is None else f"has the shape {shape}"
            raise DataError(f"{path}: the variable {variable} {found}. Download the file again")
        return np.ravel(loadmat(path, variable_names=[variable])[variable]).astype(np.int64)
    except (MatReadError, NotImplementedError, OSError, LookupError, ValueError, TypeError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}). Download it again") from error


def _split_files(splits: Sequence[SplitFiles], split: str, root: Path) -> tuple[str, ...]:
    for files in splits:
        if files.split == split:
            return files.files
    raise DataError(
        f"the archive in {root} has no split {split!r}. It has {', '.join(files.split for files in splits)}"
    )


def _split_paths(folder: Path, splits: Sequence[SplitFiles], split: str) -> list[Path]:
    paths = [folder / name for name in _split_files(splits, split, folder)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} of the split {split!r}. Unpack the archive again")
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
