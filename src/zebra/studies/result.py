"""The result of a study."""

from collections.abc import Mapping
from dataclasses import dataclass

from zebra.report.page import Section
from zebra.values import Score


@dataclass(frozen=True, slots=True)
class StudyResult:
    """Scores, notes and report sections of one study."""

    title: str
    scores: Mapping[str, Mapping[str, Score]]
    """Quantity → name → score."""
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    """Sections for `write_page`."""
