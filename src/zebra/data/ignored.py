"""Files that a data source found and does not read, counted by reason."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from zebra.images.formats import UNSUPPORTED_FORMATS

HIDDEN = "hidden"
"""Reason of files and folders whose name starts with a dot."""
NO_SUFFIX = "no suffix"
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".tgz", ".zip", ".7z", ".rar")
MAX_REASONS_SHOWN = 8
_SUFFIX = re.compile(r"\.[a-z0-9_+-]{1,16}")
"""Other endings, such as that of "e.g. a cat", are no suffixes."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """Files that are not part of a dataset for the same reason."""

    reason: str
    """A suffix such as ".psd", or a short phrase."""
    count: int
    example: str
    """The first of them, as a path below the dataset."""


class IgnoredCounter:
    """Counts ignored files by reason."""

    def __init__(self, entries: Iterable[Ignored] = ()) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}
        self.extend(entries)

    def add(self, reason: str, example: str) -> None:
        """Count one file."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        # A name that is not UTF-8 cannot be printed.
        text = example.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        self._examples.setdefault(reason, text)

    def add_by_suffix(self, path: str) -> None:
        """Count a file whose suffix the layout does not use."""
        suffix = PurePath(path).suffix.lower()
        self.add(suffix if _SUFFIX.fullmatch(suffix) else NO_SUFFIX, path)

    def extend(self, entries: Iterable[Ignored], folder: str = "") -> None:
        """Add the counts of a subfolder or of another part of the dataset."""
        for entry in entries:
            self._counts[entry.reason] = self._counts.get(entry.reason, 0) + entry.count
            self._examples.setdefault(entry.reason, str(PurePath(folder, entry.example)))

    def entries(self) -> tuple[Ignored, ...]:
        """Return the counts, the most frequent reason first."""
        reasons = sorted(self._counts, key=lambda reason: (-self._counts[reason], reason))
        return tuple(Ignored(reason, self._counts[reason], self._examples[reason]) for reason in reasons)


def format_counts(entries: Iterable[Ignored]) -> str:
    """Return the counts as text, each reason with its first example."""
    return ", ".join(f"{entry.count:,} {entry.reason} ({entry.example})" for entry in entries)


def format_ignored(ignored: Sequence[Ignored]) -> str:
    """Return one line: the count, each reason with an example, and what to do; "" without ignored files.

    >>> format_ignored([Ignored(".psd", 2, "d.psd"), Ignored(".svg", 1, "f.svg")])
    '3 files not read: 2 .psd (d.psd), 1 .svg (f.svg). Convert PSD, SVG images to JPEG or PNG'
    """
    if not ignored:
        return ""
    total = sum(entry.count for entry in ignored)
    parts = [format_counts(ignored[:MAX_REASONS_SHOWN])]
    hidden_reasons = ignored[MAX_REASONS_SHOWN:]
    if hidden_reasons:
        parts.append(f"{sum(entry.count for entry in hidden_reasons):,} others")
    reasons = [entry.reason for entry in ignored]
    formats = dict.fromkeys(UNSUPPORTED_FORMATS[reason] for reason in reasons if reason in UNSUPPORTED_FORMATS)
    advice = [f"Convert {', '.join(formats)} images to JPEG or PNG"] if formats else []
    if set(COMPRESSED_SUFFIXES).intersection(reasons):
        advice.append("Unpack archives")
    return ". ".join([f"{total:,} {'file' if total == 1 else 'files'} not read: {', '.join(parts)}", *advice])
