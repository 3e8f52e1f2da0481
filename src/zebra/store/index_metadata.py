"""Metadata of a store's vector index: build parameters and measured recall."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from zebra.atomic_io import atomic_write

INDEX_METADATA_FILE = "index.json"
IndexType = Literal["IVF_SQ", "IVF_RQ"]
"""Names of LanceDB: one byte per vector component, or `lance_table.RQ_BITS` bits."""


@dataclass(frozen=True, slots=True)
class IndexMetadata:
    """Parameters of an index and its recall, measured when it was built."""

    index_type: IndexType
    num_rows: int
    """Rows in the index. A search scans the rows that were appended later."""
    num_partitions: int
    nprobes: int
    """Partitions that a search reads."""
    num_candidates: int
    """Rows that a search for ten neighbors scores again with the full-precision vectors."""
    recall: float
    """The lower one of `image_recall` and `text_recall`."""
    image_recall: float
    """Recall@10 over `num_queries` queries like images."""
    text_recall: float
    """Recall@10 over as many queries like texts, which are far from all rows."""
    num_queries: int
    build_seconds: float


def read_index_metadata(store_path: Path) -> IndexMetadata | None:
    """Read index.json; return None if it is missing or unreadable."""
    try:
        return IndexMetadata(**json.loads((store_path / INDEX_METADATA_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # the write is atomic: a crash leaves no partial file
        return None


def write_index_metadata(store_path: Path, metadata: IndexMetadata) -> None:
    """Write index.json atomically and fsync it."""
    with atomic_write(store_path / INDEX_METADATA_FILE, fsync=True) as partial:
        partial.write_text(json.dumps(asdict(metadata)) + "\n", encoding="utf-8")
