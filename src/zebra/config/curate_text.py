"""Settings of `zebra curate` for text, language and personal data."""

from dataclasses import dataclass
from typing import Literal

from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class TextRules:
    """Which captions are dropped; every limit is inclusive."""

    clean: bool = True
    """Unescape HTML entities, remove markup, control and invisible characters, and collapse white space first."""
    min_chars: int = 1
    """Fewest characters."""
    max_chars: int | None = 10_000
    """Most characters; CLIP reads 77 tokens of a caption."""
    min_words: int = 1
    """Fewest words, separated by white space."""
    max_words: int | None = None
    """Most words."""
    max_repetition: float = 1.0
    """Largest fraction of words that occur earlier in the caption (CC12M: 0.2)."""
    min_word_count: int = 1
    """Smallest number of times that each word of a caption occurs in the pool (CC12M: 20)."""
    nouns: str | None = None
    """File with one noun per line, or WordNet's index.noun; captions without one are dropped (COYO)."""
    drop_names: bool = True
    """Drop captions that are a file name, a URL, a hash or a number."""
    boilerplate: tuple[str, ...] = ()
    """Phrases; a caption that contains one, in any case, is dropped (COYO: "image for")."""
    max_frequency: int | None = None
    """Most pairs with the same caption, apart from case, punctuation and white space; all of them are dropped beyond
    (ALIGN, COYO: 10)."""

    def __post_init__(self) -> None:
        _require_range("text.min_chars", self.min_chars, self.max_chars, "text.max_chars")
        _require_range("text.min_words", self.min_words, self.max_words, "text.max_words")
        if not 0 <= self.max_repetition <= 1:
            raise ConfigError(f"text.max_repetition is {self.max_repetition}; it must be from 0 to 1")
        if self.min_word_count < 1:
            raise ConfigError(f"text.min_word_count is {self.min_word_count}; it must be at least 1")
        if not all(phrase.strip() for phrase in self.boilerplate):
            raise ConfigError("text.boilerplate has an empty phrase, which every caption contains. Remove it.")
        if self.max_frequency is not None and self.max_frequency < 1:
            raise ConfigError(f"text.max_frequency is {self.max_frequency}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivacyRules:
    """What happens to personal data in captions and images."""

    captions: Literal["keep", "mask", "drop"] = "mask"
    """E-mail addresses and telephone, card, bank account and document numbers: replaced by `<EMAIL>`, `<PHONE>`, …, or
    the pair is dropped. Names of persons are not found."""
    locations: Literal["keep", "remove"] = "remove"
    """Coordinates in the EXIF and XMP of images: overwritten without encoding again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LanguageRules:
    """Which languages are kept. The pool's column `language` is used where it has a value."""

    keep: tuple[str, ...] = ()
    """ISO 639 codes, such as en; empty keeps all and detects nothing."""
    min_probability: float = 0.003
    """Probability of the languages to keep below which a caption is in another one."""
    keep_unsure: bool = True
    """Keep captions whose most probable language is another one, if those to keep are probable enough; most of them
    have three words or fewer. DataComp's rule is false."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(f"language.min_probability is {self.min_probability}; it must be from 0 to 1")


def _require_range(name: str, low: int, high: int | None, high_name: str) -> None:
    if low < 0 or (high is not None and high < low):
        raise ConfigError(f"{name} is {low} and {high_name} is {high}; they must be at least 0, and in this order")
