"""What is known of a store's index, beside it in a small file: how it was made, and how many neighbours it finds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zebra.atomic_io import atomic_write

INDEX_METADATA_FILE = "index.json"


@dataclass(frozen=True, slots=True)
class IndexMetadata:
    """An index as it was measured when it was made."""

    index_type: str
    num_rows: int
    """Indexed; those added since are found by looking at all of them."""
    num_partitions: int
    nprobes: int
    """Partitions that a search looks into."""
    refine_factor: int
    """Times as many rows as asked for that a search compares by their own vectors."""
    recall: float
    """Share of the ten nearest neighbours that it finds, over `queries` searches."""
    num_queries: int
    build_seconds: float


def read_index_metadata(store_path: Path) -> IndexMetadata | None:
    """Read them; None if there are none."""
    try:
        return IndexMetadata(**json.loads((store_path / INDEX_METADATA_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # it is replaced whole: no crash damages it
        return None


def write_index_metadata(store_path: Path, metadata: IndexMetadata) -> None:
    """Write them, whole and durably."""
    with atomic_write(store_path / INDEX_METADATA_FILE, fsync=True) as partial:
        partial.write_text(json.dumps(asdict(metadata)) + "\n", encoding="utf-8")
