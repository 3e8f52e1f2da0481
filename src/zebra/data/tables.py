"""A table of image paths (or bytes) and captions in, records at any position out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from zebra.config.data import DataConfig
from zebra.data.folders import read_image
from zebra.data.index import Index, Row
from zebra.data.rows import Broken, TableFile, TableRow, open_table
from zebra.errors import BadSample, DataError, nearest
from zebra.values import Record

IMAGE_COLUMNS = ("path", "image", "filepath", "file_name")
CAPTION_COLUMNS = ("caption", "text", "title")

SCHEMA = pa.schema(
    {
        "line": pa.int64(),
        "path": pa.string(),
        "image": pa.large_binary(),
        "captions": pa.list_(pa.string()),
        "reason": pa.string(),
        "detail": pa.string(),
    }
)
"""A good row has a path or an image, and captions; a bad one has a reason."""


class TableSource:
    """The rows of a CSV, TSV, JSONL or Parquet file, good and bad.

    The table is converted once, a batch at a time, into an Arrow file in the cache; image bytes inside Parquet are
    copied along (Parquet only reads whole row groups, which random order would do for every single picture), so
    that cache then needs as much room as the table.
    """

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        self.name = str(path)
        table = open_table(path)
        image, captions = _choose(table, path, config)
        state = path.stat()
        key = ("table", str(path.resolve()), state.st_size, state.st_mtime_ns, image, captions)
        self.index = Index.open(key, SCHEMA, _rows(table, image, captions))
        self.digest = self.index.digest
        """sha256 hex over the rows: paths, captions, embedded images."""

    def __len__(self) -> int:
        return len(self.index)

    def read(self, index: int) -> Record:
        """Read one row and its image; a relative path starts at the table's folder.

        Raises:
            BadSample: The row lacks something, is broken, or its image file cannot be read.
        """
        row = self.index.row(index)
        where = f"{self.path.name}:{row['line']}"
        if row["reason"] is not None:
            raise BadSample(row["reason"], where, row["detail"])
        image = row["image"]
        if image is None:
            image = read_image(self.path.parent / row["path"], where)
        return Record(id=where, image=image, captions=tuple(row["captions"]))


def _choose(table: TableFile, path: Path, config: DataConfig) -> tuple[str, tuple[str, ...]]:
    """Return the image column and the caption columns; DataError if the table lacks them."""
    found = table.columns
    images = (
        [config.image_column] if config.image_column else [name for name in IMAGE_COLUMNS if name in found]
    )
    captions = config.caption_columns or tuple(name for name in CAPTION_COLUMNS if name in found)
    for chosen, what, known, flag in (
        (images, "image", IMAGE_COLUMNS, "image-column"),
        (captions, "caption", CAPTION_COLUMNS, "caption-columns"),
    ):
        if not chosen:
            raise DataError(
                f"{path} has no {what} column ({', '.join(known)}); its columns are: {', '.join(found)}. "
                f"Name the right one with --data-options.{flag}"
            )
        for name in chosen:
            if name not in found:
                raise DataError(
                    f"{path} has no column {name!r}.{nearest(name, found)} Its columns are: {', '.join(found)}. "
                    f"Name the right one with --data-options.{flag}"
                )
    return images[0], captions


def _rows(table: TableFile, image: str, captions: Sequence[str]) -> Iterator[Row]:
    for line, record in table.read((image, *captions)):
        try:
            row = _good(record, image, captions)
        except BadSample as bad:
            row = (None, None, None, bad.reason, _printable(bad.detail))
        yield line, *row


def _good(record: TableRow, image: str, captions: Sequence[str]) -> Row:
    if isinstance(record, Broken):
        raise BadSample(record.reason, "", record.detail)
    return *_image(record.get(image)), _captions(record, captions), None, None


def _image(value: Any) -> tuple[str | None, bytes | None]:
    """Return a path or the bytes of a cell; Hugging Face writes a struct of both."""
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return None, value
    if not isinstance(value, str | bytes | None):
        raise BadSample("missing image", "", f"neither a path nor bytes: {str(value)[:40]!r}")
    if not value or not value.strip():
        raise BadSample("missing image", "", "the image column is empty")
    return _text(str(value).strip(), "image path"), None


def _captions(record: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    texts: list[str] = []
    for column in columns:
        value = record.get(column)
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str | None):
                raise BadSample("caption is not text", "", f"{column} is {str(text)[:40]!r}")
            if text and text.strip():
                texts.append(_text(text, "caption"))
    if not texts:
        raise BadSample("empty caption", "", f"nothing in {', '.join(columns)}")
    return texts


def _text(value: str, what: str) -> str:
    if "\0" in value:
        raise BadSample("NUL character", "", f"in the {what} {value[:40]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadSample(f"{what} is not UTF-8", "", _printable(value[:40])) from None
    return value


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
