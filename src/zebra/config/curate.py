"""Settings of `zebra curate`."""

from dataclasses import dataclass, field
from typing import Literal

from zebra.config.cores import MAX_WORKERS
from zebra.config.curate_address import AddressRules
from zebra.config.curate_columns import parse_condition
from zebra.config.curate_copies import CopyRules, SplitRules
from zebra.config.curate_score import ScoreRules, SemanticRules
from zebra.config.curate_text import LanguageRules, PrivacyRules, TextRules
from zebra.config.data import DataConfig
from zebra.config.fetch import FetchConfig
from zebra.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageRules:
    """Which images are dropped; every limit is inclusive."""

    min_bytes: int = 1
    """Smallest file in bytes (LAION: 5 KB)."""
    min_side: int = 1
    """Smallest shorter side in pixels (DataComp's basic filter: 200)."""
    max_aspect_ratio: float | None = None
    """Largest ratio of the longer to the shorter side (DataComp's basic filter: 3)."""
    max_captions: int | None = None
    """Most captions of images with the same bytes; all are dropped beyond (ALIGN: 1,000)."""
    drop_uniform: bool = True
    """Drop images of almost one color."""
    drop_duplicates: bool = True
    """Keep only the first of several images with the same bytes."""

    def __post_init__(self) -> None:
        for name in ("min_bytes", "min_side"):
            if getattr(self, name) < 1:
                raise ConfigError(f"image.{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_captions is not None and self.max_captions < 1:
            raise ConfigError(f"image.max_captions is {self.max_captions}; it must be at least 1")
        if self.max_aspect_ratio is not None and self.max_aspect_ratio < 1:
            raise ConfigError(f"image.max_aspect_ratio is {self.max_aspect_ratio}; it must be at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class BalanceRules:
    """How pairs are balanced by the entries in their captions (CLIP §2.2)."""

    entries: str | None = None
    """File with one entry per line; pairs without one are dropped. None: no balancing."""
    max_per_entry: int | None = None
    """The t of the rule: pairs of an entry that has more are kept with the probability t / count (CLIP: 20,000)."""
    keep: int | None = None
    """Expected number of pairs to keep; t is computed from it."""
    seed: int = 0
    """Seed of the draw."""

    def __post_init__(self) -> None:
        for name in ("max_per_entry", "keep"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"balance.{name} is {value}; it must be at least 1")
        if self.max_per_entry is not None and self.keep is not None:
            raise ConfigError("balance.max_per_entry and balance.keep are both set; each determines the other")


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateConfig:
    """Settings for building a training set from a pool of pairs."""

    pool: str
    """Captioned images of any layout that `zebra train` reads, or links: WAT, WARC and HTML files, tables of URLs."""
    out: str
    """The directory for shards, decisions and the account."""
    recipe: str = "archive"
    """The recipe that set the defaults; recorded only."""
    subset: str | None = None
    """File of DataComp's format (.npy) with the uids of pairs to keep."""
    removals: tuple[str, ...] = ()
    """Files with what was asked to be removed: uid, sha256, md5, url-sha256 or url, and domain, one per line with its
    kind. The set gets them as removals.txt, and a later run with the set as its pool applies them."""
    blocklist: tuple[str, ...] = ()
    """Files with what must not be in the set, written as removals are; domains need no kind."""
    columns: tuple[str, ...] = ()
    """Conditions on numeric columns of the pool, such as "similarity >= 0.28" or "clip_l14_similarity_score top 30%";
    pairs without a value are dropped."""
    address: AddressRules = field(default_factory=AddressRules)
    """Rules for the addresses of links."""
    text: TextRules = field(default_factory=TextRules)
    """Rules for captions."""
    privacy: PrivacyRules = field(default_factory=PrivacyRules)
    """Personal data in captions and images."""
    language: LanguageRules = field(default_factory=LanguageRules)
    """Languages of captions."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    """How the images of links are downloaded."""
    image: ImageRules = field(default_factory=ImageRules)
    """Rules for images."""
    copies: CopyRules = field(default_factory=CopyRules)
    """Near duplicates, and images of evaluation datasets."""
    model: str | None = None
    """The model of the score and semantic rules, in any layout that `zebra.load` reads."""
    device: str = "auto"
    """Device of the model: auto, which takes the first GPU if there is one; cpu, cuda, cuda:1 or mps."""
    score: ScoreRules = field(default_factory=ScoreRules)
    """Rules for the match of image and caption."""
    semantic: SemanticRules = field(default_factory=SemanticRules)
    """Rules for images that resemble each other."""
    balance: BalanceRules = field(default_factory=BalanceRules)
    """Balancing by the entries in captions, after all rules."""
    split: SplitRules = field(default_factory=SplitRules)
    """Splits for training and validation."""
    samples_per_shard: int = 10_000
    """Images per tar shard."""
    engine: Literal["threads", "ray"] = "threads"
    """ray runs the rules on a cluster whose machines share the folders of pool and output; needs zebra-clip[ray]."""
    workers: int | None = None
    """Threads, or workers of the cluster; by default one per CPU core."""
    data_options: DataConfig = field(default_factory=lambda: DataConfig(max_skip_rate=1.0))
    """Settings for reading the pool."""

    def __post_init__(self) -> None:
        for condition in self.columns:
            parse_condition(condition)
        if self.workers is not None and not 1 <= self.workers <= MAX_WORKERS:
            raise ConfigError(f"workers is {self.workers}; it must be from 1 to {MAX_WORKERS}")
        if self.samples_per_shard < 1:
            raise ConfigError(f"samples_per_shard is {self.samples_per_shard}; it must be at least 1")
        if self.needs_vectors != (self.model is not None):
            raise ConfigError(
                "the score and semantic rules need a model: name it as model"
                if self.needs_vectors
                else "model is given, but no rule uses it. Set score.min_alignment, score.keep_fraction, "
                "score.max_flipped_gain or semantic.max_cosine, or leave model out"
            )

        if self.score.store is not None and self.model is None:
            raise ConfigError(
                "score.store is given, but no rule uses its vectors. Set model and a rule, or leave it out"
            )

    @property
    def needs_vectors(self) -> bool:
        """Return whether a rule needs the vectors of a model."""
        return self.score.is_used or self.semantic.max_cosine is not None
