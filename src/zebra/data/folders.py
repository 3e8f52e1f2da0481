"""A folder of images, captioned by .txt files of the same name or by folders."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.columns import caption_probabilities, choose_columns, validate_caption
from zebra.data.folder_walk import walk_folder
from zebra.data.ignored import IgnoredCounter
from zebra.data.locations import ImageRef, Location, columns_stamp, file_stamp
from zebra.data.regular_files import read_image_bytes, read_regular_file
from zebra.errors import BadSample, ConfigError, escape_unencodable, suggest_name
from zebra.images.formats import IMAGE_SUFFIXES, UNSUPPORTED_FORMATS
from zebra.values import Record

CAPTION_SUFFIX = ".txt"
SECOND_CAPTION = "second caption of an image"
"""Reason of a file such as a.TXT beside a.txt."""
CAPTION_COLUMNS = ("txt", "class")
"""What may be a caption: the text file, which is the default, and the folder of the image, as in CLASS_COLUMNS."""
DEFAULT_CONFIG = DataConfig()
CLASS_COLUMNS = pa.schema({"class": pa.string()})
"""The class of an image by name: in torchvision's layout, that of its folder below the root."""
METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
"""Tables of captions in the imagefolder layout of Hugging Face's `datasets`."""


class FolderSource:
    """Every image below a folder; the caption of `a/b.jpg` is the text of `a/b.txt`, or its class, "a".

    Suffixes may have upper-case letters. A caption without an image counts as a bad sample.
    """

    columns = pa.schema([])
    """Extra columns of `scan`."""

    def __init__(self, root: Path, config: DataConfig = DEFAULT_CONFIG) -> None:
        """List the images and captions below `root`.

        Raises:
            ConfigError: The config names columns that a folder does not have.
        """
        self.root = root
        self._caption_columns = config.caption_columns or CAPTION_COLUMNS[:1]
        self._caption_weights = config.caption_weights
        for column in self._caption_columns:
            if column not in CAPTION_COLUMNS:
                raise ConfigError(
                    f"data_options.caption_columns has {column!r}, but {root} is a folder of images, with the columns "
                    f"txt and class.{suggest_name(column, CAPTION_COLUMNS)} For others give a table"
                )
        if config.group_column is not None:
            raise ConfigError(
                f"data_options.group_column is {config.group_column!r}, but {root} is a folder of images, which has no "
                "groups. Give a table"
            )
        self.name = str(root)
        digest = hashlib.sha256()
        ignored = IgnoredCounter()
        # Arrow needs a tenth of the memory of Python strings, and workers share it.
        self._images, self._captions = pa.Table.from_batches(
            _iter_samples(root, digest, ignored), SAMPLE_SCHEMA
        ).itercolumns()
        self.digest = digest.hexdigest()
        """SHA-256 in hex over the names and sizes of images and captions."""
        self.ignored = ignored.entries()
        """Files that are neither images nor captions."""

    def __len__(self) -> int:
        return len(self._images)

    def has_images(self) -> bool:
        """Return whether the folder has at least one image."""
        return self.num_images() > 0

    def list_image_folders(self) -> list[Path]:
        """Return the folders with images, relative to the root."""
        images = (chunk.drop_null() for chunk in self._images.chunks)  # one chunk per folder
        return [Path(os.fsdecode(chunk[0].as_py())).parent for chunk in images if len(chunk)]

    def num_images(self) -> int:
        """Return the number of images, without captions that have no image."""
        return len(self) - int(self._images.null_count)

    @cached_property
    def available_columns(self) -> pa.Schema:
        """The column `class`, if every image is in a folder below the root, and there are at least two of these."""
        classes = {folder.parts[0] if folder.parts else None for folder in self.list_image_folders()}
        return CLASS_COLUMNS if len(classes) > 1 and None not in classes else pa.schema([])

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`; ConfigError if one is missing."""
        self.columns = choose_columns(columns, self.available_columns, self.name)

    def scan(self) -> Iterator[ImageRef]:
        """Yield all images; the stamp has size and modification time of the image and its caption."""
        other_captions = self._caption_columns if self._caption_columns != CAPTION_COLUMNS[:1] else ()
        end = columns_stamp(self.columns) + "".join(f" {name}" for name in other_captions)
        root = self.root.resolve()
        for index in range(len(self)):
            image_path, caption_path = self._paths(root, index)
            if image_path is not None:
                key = escape_unencodable(str(image_path))
                stamp = f"{file_stamp(image_path)} {file_stamp(caption_path) if caption_path else '-'}{end}"
                class_name = _class_of(image_path, root)
                columns = dict.fromkeys(self.columns.names, class_name)
                read_captions = partial(_read_captions, self._caption_columns, class_name, caption_path)
                yield ImageRef(Location(key, stamp, key), partial(_load_image, image_path, read_captions, key, columns))

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        path = self._paths(Path(), index)
        return os.fsencode(path[0] or path[1] or "").decode("utf-8", "backslashreplace")

    def read(self, index: int) -> Record:
        """Read one image with its caption.

        Raises:
            BadSample: missing image, missing caption, caption is not UTF-8, empty caption, NUL character or
                unreadable file.
        """
        sample_id = self.sample_id(index)
        image_path, caption_path = self._paths(self.root, index)
        if image_path is None:
            assert caption_path is not None
            raise BadSample("missing image", sample_id, _explain_missing_image(caption_path))
        class_name = _class_of(image_path, self.root)
        captions = _read_captions(self._caption_columns, class_name, caption_path, sample_id)
        if not captions:
            if caption_path is not None and "txt" in self._caption_columns:
                raise BadSample("empty caption", sample_id)
            raise BadSample("missing caption", sample_id, _explain_missing_caption(image_path, self.root))
        counts = [int(column in captions) for column in self._caption_columns]
        return Record(
            id=sample_id,
            image=read_image_bytes(image_path, sample_id),
            captions=tuple(captions.values()),
            caption_probabilities=caption_probabilities(counts, self._caption_weights),
        )

    def _paths(self, root: Path, index: int) -> tuple[Path | None, Path | None]:
        """Return the paths of image and caption below `root`; one of them may be None."""
        image, caption = self._images[index].as_py(), self._captions[index].as_py()
        return image and root / os.fsdecode(image), caption and root / os.fsdecode(caption)


def _class_of(image_path: Path, root: Path) -> str:
    """Return the name of the image's folder below the root; "" for an image in the root itself."""
    parts = image_path.relative_to(root).parts
    return escape_unencodable(parts[0]) if len(parts) > 1 else ""


def _explain_missing_image(caption_path: Path) -> str:
    for suffix, format_name in UNSUPPORTED_FORMATS.items():
        for path in (caption_path.with_suffix(suffix), caption_path.with_suffix(suffix.upper())):
            if path.is_file():
                return f"{path.name} is a {format_name} image, which zebra does not read. Convert it to JPEG or PNG"
    return f"no {caption_path.stem}.jpg, .png, … beside the caption"


def _explain_missing_caption(image_path: Path, root: Path) -> str:
    detail = f"no {image_path.stem}{CAPTION_SUFFIX} beside the image"
    tables = [folder / name for folder in dict.fromkeys((image_path.parent, root)) for name in METADATA_NAMES]
    table = next((path for path in tables if path.is_file()), None)
    return f"{detail}; if {table} has the captions, give it instead of the folder" if table else detail


def _load_image(
    path: Path, read_captions: Callable[[str], Mapping[str, str]], key: str, columns: Mapping[str, object]
) -> Record:
    """Read an image and its captions, which are optional."""
    image = read_image_bytes(path, key)
    return Record(key, image, tuple(read_captions(key).values()), columns=columns)


def _read_captions(columns: Sequence[str], class_name: str, caption_path: Path | None, where: str) -> Mapping[str, str]:
    """Return the captions of an image by column, without empty ones."""
    captions = {}
    for column in columns:
        if column == "class" and class_name:
            captions[column] = validate_caption(class_name)
        elif column == "txt" and caption_path is not None:
            text = _read_caption_bytes(caption_path, where)
            if text.strip():
                captions[column] = decode_caption(text, where)
    return captions


def _read_caption_bytes(path: Path, where: str) -> bytes:
    try:
        return read_regular_file(path)
    except FileNotFoundError:
        raise BadSample("missing caption", where, f"{path.name} was deleted, or is a link to a missing file") from None
    except OSError as error:
        raise BadSample("unreadable file", where, f"{path}: {error.strerror}") from error


def decode_caption(data: bytes, where: str) -> str:
    """Decode one caption; raise BadSample if it is blank, too long, not UTF-8 or contains a NUL character."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample("caption is not UTF-8", where, f"byte {error.start} is {data[error.start]:#04x}") from error
    if not text.strip():
        raise BadSample("empty caption", where)
    try:
        return validate_caption(text)
    except BadSample as bad:
        raise BadSample(bad.reason, where, bad.detail) from None


SAMPLE_SCHEMA = pa.schema({"image": pa.large_binary(), "caption": pa.large_binary()})
"""Encoded paths relative to the root; either is null if it is missing."""


def _iter_samples(root: Path, digest: "hashlib._Hash", ignored: IgnoredCounter) -> Iterator[pa.RecordBatch]:
    """Yield the samples of each folder, sorted by name; count the other files."""
    for folder, names in walk_folder(root, ignored):
        images: list[str] = []
        captions: dict[str, str] = {}
        # Of a.txt and a.TXT, a.txt is the caption.
        for name in sorted(names, key=lambda name: not name.endswith(CAPTION_SUFFIX)):
            if name.lower().endswith(IMAGE_SUFFIXES):
                images.append(name)
            elif not name.lower().endswith(CAPTION_SUFFIX):
                ignored.add_by_suffix(str(folder / name))
            elif captions.setdefault(Path(name).stem, name) != name:
                ignored.add(SECOND_CAPTION, str(folder / name))
        for name in (*images, *captions.values()):
            digest.update(os.fsencode(folder / name) + b"\0%d\n" % _file_size(root / folder / name))
        stems = {Path(name).stem for name in images}
        pairs: list[tuple[str | None, str | None]] = [(name, captions.get(Path(name).stem)) for name in images]
        pairs += [(None, name) for stem, name in captions.items() if stem not in stems]
        pairs.sort(key=lambda pair: pair[0] or pair[1] or "")
        encoded = [[name and os.fsencode(folder / name) for name in column] for column in zip(*pairs, strict=True)]
        if encoded:
            yield pa.record_batch(encoded, SAMPLE_SCHEMA)


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a dangling link is reported when it is read
        return -1
