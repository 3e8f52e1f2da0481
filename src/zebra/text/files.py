"""Read tokenizer and config files; a damaged file raises WeightsError."""

import gzip
import json
import zlib
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

from zebra.errors import WeightsError

MAX_TEXT_BYTES = 1 << 28
"""Limit on a file, after decompression; the largest published tokenizer.json has 34 MB."""

MAX_JSON_DEPTH = 32
"""Limit on nesting, several times that of published files; comparing and printing deeper values may fail."""


def read_text(path: Path) -> str:
    """Read a UTF-8 file, gzipped if its name ends in .gz.

    Raises:
        WeightsError: If the file is missing, damaged, too large, or not a regular file.
    """
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(f"cannot read {path} ({error}); copy it again from its source") from error


def read_bytes(path: Path) -> bytes:
    """Read a file, gzipped if its name ends in .gz.

    Raises:
        WeightsError: If the file is missing, damaged, too large, or not a regular file.
    """
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is not a regular file; give a tokenizer.json or a merges file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
    except FileNotFoundError as error:
        raise WeightsError(f"tokenizer file not found: {path}; give a tokenizer.json or a merges file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"cannot read {path} ({error}); copy it again from its source") from error
    if len(data) > MAX_TEXT_BYTES:
        raise WeightsError(f"{path} has more than {MAX_TEXT_BYTES:,} bytes of text; do not trust this file")
    return data


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: If the file is missing, damaged or nested too deeply, or is not a JSON object.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not valid JSON ({error}); copy it again from its source") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} is not a JSON object; copy it again from its source")
    if not _is_shallow(value):
        raise WeightsError(f"{path} is nested more than {MAX_JSON_DEPTH} levels deep; copy it again from its source")
    return value


def _is_shallow(value: object) -> bool:
    """Return whether objects and lists are nested at most MAX_JSON_DEPTH deep."""
    level: Collection[object] = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        # A tokenizer.json has 150,000 values: what happens to each of them happens in C.
        types = set(map(type, level))
        if dict not in types and list not in types:
            return True
        objects = [item for item in level if type(item) is dict] if dict in types else ()
        lists = [item for item in level if type(item) is list] if list in types else ()
        level = [*chain.from_iterable(map(dict.values, objects)), *chain.from_iterable(lists)]
    return False
