"""A list of entries as a table: text, sources, language and count."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.curate.queries.ngrams import REPLACEMENT, is_punctuation
from zebra.errors import ConfigError
from zebra.text.labels import read_labels

ENTRY_SCHEMA = pa.schema(
    {
        "entry": pa.string(),
        "source": pa.string(),  # "synset"; several are joined by a comma
        "language": pa.string(),
        "count": pa.int64(),  # occurrences in the text, or views of a title; null if nothing was counted
    }
)


@dataclass(frozen=True, slots=True)
class SourceCount:
    """What became of the entries of one source; found = added + the other counts."""

    source: str
    found: int
    added: int
    repeated: int
    """Entries that an earlier source has; they are merged."""
    over_limit: int
    """Entries beyond the most of the source."""
    unusable: int
    """Entries that are empty, only punctuation, too long, or not UTF-8."""


@dataclass
class EntryList:
    """Entries in the order of their addition, without repetitions."""

    language: str
    max_chars: int
    rows: dict[str, tuple[list[str], int | None]] = field(default_factory=dict)
    """Entry → sources and count."""
    source_counts: list[SourceCount] = field(default_factory=list)

    def add(self, source: str, entries: Iterable[tuple[str, int | None]], limit: int | None = None) -> None:
        """Add the entries of a source with their counts, at most `limit` new ones.

        An entry that is there already gets this source too, and this count if it has none.
        """
        found = added = repeated = over_limit = unusable = 0
        for entry, count in entries:
            text = " ".join(entry.split())
            found += 1
            if is_punctuation(text) or len(text) > self.max_chars or REPLACEMENT in text:
                unusable += 1
            elif text in self.rows:
                repeated += 1
                self._merge(text, source, count)
            elif limit is not None and added >= limit:
                over_limit += 1
            else:
                added += 1
                self.rows[text] = ([source], count)
        self.source_counts.append(SourceCount(source, found, added, repeated, over_limit, unusable))

    def write(self, path: Path, metadata: dict[str, object]) -> None:
        """Write the entries as Parquet, with metadata as JSON under the key zebra."""
        sources, counts = zip(*self.rows.values(), strict=True)
        columns = [
            pa.array(self.rows.keys(), pa.string()),
            pa.array([",".join(names) for names in sources], pa.string()),
            pa.array([self.language] * len(self.rows), pa.string()),
            pa.array(counts, pa.int64()),
        ]
        table = pa.table(columns, ENTRY_SCHEMA)
        with atomic_write(path) as partial:
            pq.write_table(table.replace_schema_metadata({"zebra": json.dumps(metadata, ensure_ascii=False)}), partial)

    def _merge(self, text: str, source: str, count: int | None) -> None:
        sources, old_count = self.rows[text]
        if source in sources:
            total = None if old_count is None and count is None else (old_count or 0) + (count or 0)
            self.rows[text] = (sources, total)
        else:
            self.rows[text] = ([*sources, source], count if old_count is None else old_count)


def read_entries(path: Path) -> list[str]:
    """Read entries from a table that `zebra queries` wrote, or from a text file with one per line.

    Rows of a table with the same entry, such as in two languages, are one entry.

    Raises:
        ConfigError: The file is missing, unreadable, has no column `entry`, or has no entries.
    """
    if path.suffix.lower() != ".parquet":
        return read_labels(path)
    if not is_entry_table(path):
        raise ConfigError(f"{path} is no table with a column 'entry' of texts. Write it with zebra queries.")
    column = pq.read_table(path, columns=["entry"])["entry"]
    entries = list(dict.fromkeys(text.strip() for text in column.to_pylist() if text and text.strip()))
    if not entries:
        raise ConfigError(f"{path} contains no entries. Write it again with zebra queries.")
    return entries


def is_entry_table(path: Path) -> bool:
    """Return whether a file is a table that `zebra queries` wrote, or one like it."""
    if path.suffix.lower() != ".parquet":
        return False
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    return "entry" in schema.names and pa.types.is_string(schema.field("entry").type)


def format_sources(counts: Sequence[SourceCount]) -> str:
    """Return what became of the entries of all sources as a table of text."""
    lines = [f"{'source':<10} {'found':>10} {'added':>10} {'repeated':>10} {'over limit':>10} {'unusable':>10}"]
    lines += [
        f"{count.source:<10} {count.found:>10,} {count.added:>10,} {count.repeated:>10,} {count.over_limit:>10,} "
        f"{count.unusable:>10,}"
        for count in counts
    ]
    return "\n".join(lines)
