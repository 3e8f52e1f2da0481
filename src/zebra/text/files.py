"""A path in, the text or JSON object in that file out; a tokenizer file that cannot be read raises WeightsError."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from zebra.errors import WeightsError


def read_text(path: Path) -> str:
    """Read UTF-8, gzipped if the name ends in .gz.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except FileNotFoundError as error:
        raise WeightsError(
            f"there is no tokenizer file {path}; name a tokenizer.json or a merges file"
        ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); copy it again from its source") from error


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: The file is missing, damaged, or holds something else.
    """
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise WeightsError(f"{path} is not valid JSON ({error}); copy it again from its source") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} must hold a JSON object; copy it again from its source")
    return value
