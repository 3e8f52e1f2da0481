"""What is known of a store's index, beside it in a small file: how it was made, and how many neighbours it finds."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from zebra.store.store_dir import sync

NAME = "index.json"


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """An index as it was measured when it was made."""

    kind: str
    rows: int
    """Indexed; those added since are found by looking at all of them."""
    partitions: int
    probes: int
    """Partitions that a search looks into."""
    refine: int
    """Times as many rows as asked for that a search compares by their own vectors."""
    recall: float
    """Share of the ten nearest neighbours that it finds, over `queries` searches."""
    queries: int
    build_seconds: float


def read_index_facts(store: Path) -> IndexFacts | None:
    """Read them; None if there are none."""
    try:
        return IndexFacts(**json.loads((store / NAME).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # it is replaced whole: no crash damages it
        return None


def write_index_facts(store: Path, facts: IndexFacts) -> None:
    """Write them, whole and durably."""
    partial = store / f"{NAME}.partial"
    partial.write_text(json.dumps(asdict(facts)) + "\n", encoding="utf-8")
    sync(partial)
    partial.replace(store / NAME)
    sync(store)
