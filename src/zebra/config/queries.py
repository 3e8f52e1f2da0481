"""Settings of `zebra queries`."""

from dataclasses import dataclass
from typing import Literal, get_args

from zebra.errors import ConfigError

SourceKind = Literal["text", "titles", "wordnet", "names", "entries"]
SOURCE_KINDS: tuple[SourceKind, ...] = get_args(SourceKind)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueriesConfig:
    """Settings for building a list of entries, by which `zebra curate` balances a set."""

    sources: tuple[str, ...]
    """Files or folders, each as KIND:PATH or PATH."""
    out: str
    """The Parquet file to write: a row per entry."""
    language: str = "en"
    """Language of the sources; only its lines of a file of page views count."""
    min_count: int = 100
    """Fewest occurrences of a word or bigram in the text (CLIP: 100)."""
    min_pmi: float = 10.0
    """Smallest pointwise mutual information of a bigram in bits: log2(count(a b) · words / (count(a) · count(b)))."""
    min_views: int = 70
    """Fewest views of a title in all files (MetaCLIP: 70)."""
    min_hourly_views: int = 50
    """Fewest views of a line to be counted (MetaCLIP: 50)."""
    numbers: int = 100
    """Add the numbers from 0 to this one, exclusively (MetaCLIP: 100)."""
    max_words: int = 251_465
    """Most words; the most frequent are taken. This and the next two limits are MetaCLIP 2's."""
    max_bigrams: int = 100_646
    """Most bigrams; those with the highest pointwise mutual information are taken."""
    max_titles: int = 61_235
    """Most titles; those with the most views are taken."""
    max_chars: int = 256
    """Longest entry (MetaCLIP 2: 256)."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ConfigError("no source. Name at least one file, such as text:corpus.txt or names:classes.txt")
        for name in ("min_count", "min_views", "min_hourly_views", "max_chars"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("numbers", "max_words", "max_bigrams", "max_titles"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if not self.language.strip():
            raise ConfigError("language is empty. Give the code that Wikipedia uses, such as en")
