"""Settings of `zebra compare`."""

from dataclasses import dataclass

from zebra.config.score_table import ScoreTableFormat, validate_table_path
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig:
    """Runs to compare."""

    runs: tuple[str, ...]
    """At least two directories of `zebra evaluate`, `zebra demo` or `zebra train`; the first is compared with each."""
    table: str | None = None
    """Also write the scores to this file; its suffix decides the format: .csv, .md (Markdown) or .tex (LaTeX)."""
    format: ScoreTableFormat | None = None
    """Format of --table instead of that of its suffix; without --table, print the scores in it to standard output.
    hf-card is the front matter of a model card on the hub."""
    page: str | None = None
    """Also write an HTML page with the scores and the training curves to this file."""

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise ConfigError(f"a comparison needs at least two runs; got {len(self.runs)}. Name two or more.")
        validate_table_path(self.table, self.format)
