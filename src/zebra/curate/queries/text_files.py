"""Text of corpora in blocks: plain text, JSON lines and tables of captions."""

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zebra.data.columns import CAPTION_COLUMNS, match_column
from zebra.data.ignored import IgnoredCounter
from zebra.data.regular_files import open_regular_file
from zebra.data.table_files import TABLE_FORMATS, BadRow, open_table
from zebra.errors import DataError, list_names

BLOCK_CHARS = 1 << 22
"""Size of a block of text. A line of JSON or a cell may be longer, up to the limit of a line."""
_EXTRACTED_PAGE = re.compile(r"^</?doc\b.*$", re.MULTILINE)
"""Lines around each page in the output of WikiExtractor."""


def read_text_blocks(path: Path, skipped: IgnoredCounter) -> Iterator[str]:
    """Yield the text of a file in blocks that end between two words.

    JSON lines (.jsonl, .json) and tables have texts in the columns of captions; any other file is plain text. All but
    tables may be compressed with gzip (.gz).

    Args:
        skipped: Counts lines and cells that cannot be read.

    Raises:
        DataError: The file cannot be read.
    """
    suffix = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
    if suffix in (".jsonl", ".json"):
        yield from _join_blocks(_read_json_lines(path, skipped))
    elif suffix in TABLE_FORMATS and path.suffix != ".gz":
        yield from _join_blocks(_read_cells(path, skipped))
    else:
        yield from _read_plain_text(path)


@contextmanager
def open_text(path: Path) -> Iterator[io.TextIOBase]:
    """Open a file of UTF-8, decompressed if its name ends in .gz; undecodable bytes become U+FFFD.

    Raises:
        DataError: The file cannot be read or is damaged.
    """
    try:
        with open_regular_file(path) as file:
            content = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            with io.TextIOWrapper(content, "utf-8-sig", errors="replace") as text:
                yield text
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot read {path}: {reason}. Copy or download the file again.") from error


def _read_plain_text(path: Path) -> Iterator[str]:
    rest = ""
    with open_text(path) as file:
        while block := file.read(BLOCK_CHARS):
            block = rest + block
            end = max(block.rfind("\n"), block.rfind(" ")) + 1 or len(block)
            rest = block[end:]
            yield _EXTRACTED_PAGE.sub("", block[:end])
    yield rest


def _read_json_lines(path: Path, skipped: IgnoredCounter) -> Iterator[str]:
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            try:
                row: Any = json.loads(line) if line.strip() else {}
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                skipped.add("line is no JSON object", f"{path.name}:{number}")
                continue
            yield from _list_texts([row.get(name) for name in CAPTION_COLUMNS], f"{path.name}:{number}", skipped)


def _read_cells(path: Path, skipped: IgnoredCounter) -> Iterator[str]:
    table = open_table(path)
    columns = [column for name in CAPTION_COLUMNS if (column := match_column(name, table.columns, path))]
    if not columns:
        raise DataError(
            f"{path} has no column of texts ({', '.join(CAPTION_COLUMNS)}). Its columns are: "
            f"{list_names(table.columns)}. Rename the right one."
        )
    for number, row in table.read(columns):
        if isinstance(row, BadRow):
            skipped.add(row.reason, f"{path.name}:{number}")
        else:
            yield from _list_texts([row[name] for name in columns], f"{path.name}:{number}", skipped)


def _list_texts(values: list[Any], place: str, skipped: IgnoredCounter) -> Iterator[str]:
    for value in values:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                yield text.encode("utf-8", "replace").decode()  # surrogates cannot be written
            elif text is not None:
                skipped.add("text is no string", place)


def _join_blocks(texts: Iterator[str]) -> Iterator[str]:
    block: list[str] = []
    num_chars = 0
    for text in texts:
        block.append(text)
        num_chars += len(text)
        if num_chars >= BLOCK_CHARS:
            yield "\n".join(block)
            block, num_chars = [], 0
    yield "\n".join(block)
