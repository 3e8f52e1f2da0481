"""`zebra doctor DATA`: captioned images and the training they are meant for in; whether it will go well, out."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zebra.config.cores import usable_cores
from zebra.config.train import TrainConfig
from zebra.data.batches import iter_batches
from zebra.data.dataset_stats import DatasetStats, compute_dataset_stats, quantiles
from zebra.data.sources import Source, open_source
from zebra.errors import ConfigError
from zebra.text.bpe import BPETokenizer

MAX_SURVEY_SECONDS = 25.0
"""How long samples are looked at unless their number is given."""
THROUGHPUT_SECONDS = 3.0
"""How long each number of workers loads."""
UNLIMITED_CONTEXT = 1 << 20
"""A context length for counting tokens."""
NUM_BARS = 8
NUM_FREQUENT = 3


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Of captions in tokens, start and end included: what so many per cent of them do not exceed."""

    min: int
    p50: int
    p90: int
    p99: int
    max: int


@dataclass(frozen=True, slots=True)
class HistogramBar:
    """One bar of a histogram."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class CaptionStats:
    """The captions of samples looked at, up to 20,000 of these."""

    num_samples: int
    num_captions: int
    tokens: TokenLengths
    histogram: tuple[HistogramBar, ...]
    """Captions by tokens; the last bar holds those that are longer than 99 % of them."""
    context_length: int
    num_truncated: int
    """Captions with more tokens than the context holds."""
    tokenizer: str
    """Where the tokens come from."""
    num_repeated: int
    """Different captions that stand at more than one picture."""
    most_frequent: tuple[tuple[str, int], ...]
    """The most frequent of these, with the number of times."""


@dataclass(frozen=True, slots=True)
class LoaderThroughput:
    """What a number of loader processes delivers."""

    num_workers: int
    pairs_per_second: float


@dataclass(frozen=True, slots=True)
class DataReport:
    """A data set as training would find it."""

    name: str
    num_found: int
    survey: DatasetStats
    captions: CaptionStats | None
    """None without a usable sample."""
    loading: tuple[LoaderThroughput, ...]
    """Empty if the data is not fit to be loaded."""
    image_size: int
    batch_size: int
    max_skip_rate: float

    @property
    def sufficient_workers(self) -> LoaderThroughput:
        """The fewest loader processes that come within a twentieth of the fastest."""
        beside = [rate for rate in self.loading if rate.num_workers]
        fastest = max(rate.pairs_per_second for rate in beside)
        return next(rate for rate in beside if rate.pairs_per_second >= 0.95 * fastest)

    @property
    def skip_rate(self) -> float:
        """Share of the samples looked at that cannot be used."""
        return 1 - self.survey.num_usable / self.survey.num_examined

    @property
    def is_usable(self) -> bool:
        """Whether training accepts so many skips."""
        return self.skip_rate <= self.max_skip_rate and self.survey.num_usable > 0


def inspect_data(
    config: TrainConfig,
    *,
    tokenizer: BPETokenizer | None = None,
    max_samples: int | None = None,
    callback: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> DataReport:
    """Look at samples, count tokens and measure how fast this machine loads.

    Args:
        config: The training that the data is meant for; `config.out` is left alone.
        tokenizer: The tokenizer of `config.tokenizer`, opened with the context length UNLIMITED_CONTEXT. None: train one
            on the captions, as training would.
        max_samples: How many to look at, evenly spread; by default as many as 25 seconds allow.
        callback: Called with how many samples were looked at, how many there are, and what is done now.

    Raises:
        ConfigError: `max_samples` is below 1.
        DataError: Nothing usable is there, or the data is damaged as a whole.
    """
    if max_samples is not None and max_samples < 1:
        raise ConfigError(f"samples is {max_samples}; look at 1 or more")
    source = open_source(config.data, config.data_options)
    total = min(max_samples or len(source), len(source))
    seen, texts = compute_dataset_stats(
        source,
        image_size=config.model.image_size,
        max_pixels=config.data_options.max_image_pixels,
        num_samples=total,
        max_seconds=MAX_SURVEY_SECONDS if max_samples is None else math.inf,
        callback=lambda done, total: callback(done, total, ""),
    )
    health = DataReport(
        name=source.name,
        num_found=len(source),
        survey=seen,
        captions=_caption_stats(config, tokenizer, texts) if texts else None,
        loading=(),
        image_size=config.model.image_size,
        batch_size=config.batch_size,
        max_skip_rate=config.data_options.max_skip_rate,
    )
    if not health.is_usable:
        return health
    rates = []
    counts = worker_counts(usable_cores())
    for number, workers in enumerate(counts):
        callback(seen.num_examined, total, f"loading with {workers} workers")
        # Each reads other samples, so that none finds in memory what another one has read.
        start = len(source) * number // len(counts)
        rates.append(LoaderThroughput(workers, _measure_pairs_per_second(config, source, start, workers)))
    callback(seen.num_examined, total, "")
    return replace(health, loading=tuple(rates))


def _caption_stats(
    config: TrainConfig, tokenizer: BPETokenizer | None, samples: Sequence[tuple[str, ...]]
) -> CaptionStats:
    text = config.model.text
    texts = [caption for captions in samples for caption in captions]
    origin = config.tokenizer or "the given tokenizer"
    if tokenizer is None:
        tokenizer = BPETokenizer.train(texts, text.vocab_size, UNLIMITED_CONTEXT)
        origin = f"a vocabulary of {tokenizer.vocab_size:,} learned from these captions, as training would"
    lengths = [int(tokenizer.encode([caption], truncate=True).lengths[0]) for caption in texts]
    counts = Counter(caption for captions in samples for caption in dict.fromkeys(captions))
    repeated = [(caption, count) for caption, count in counts.most_common() if count > 1]
    return CaptionStats(
        num_samples=len(samples),
        num_captions=len(texts),
        tokens=TokenLengths(*quantiles(lengths, (0, 0.5, 0.9, 0.99, 1))),
        histogram=_histogram(lengths),
        context_length=text.context_length,
        num_truncated=sum(length > text.context_length for length in lengths),
        tokenizer=origin,
        num_repeated=len(repeated),
        most_frequent=tuple(repeated[:NUM_FREQUENT]),
    )


def _histogram(lengths: Sequence[int]) -> tuple[HistogramBar, ...]:
    """Count lengths in equal bars up to that of 99 % of them, and what is longer in one more."""
    low, high, longest = quantiles(lengths, (0, 0.99, 1))
    width = math.ceil((high - low + 1) / NUM_BARS)
    edges = [(start, start + width - 1) for start in range(low, high + 1, width)]
    above = edges[-1][1] + 1
    if longest >= above:
        edges.append((above, longest))
    return tuple(
        HistogramBar(first, last, sum(first <= length <= last for length in lengths)) for first, last in edges
    )


def worker_counts(cores: int) -> list[int]:
    """Return the numbers of workers worth a measurement: none, powers of two, one for each core.

    >>> worker_counts(6)
    [0, 1, 2, 4, 6]
    """
    return sorted({0, cores, *(1 << power for power in range(cores.bit_length()))})


def _measure_pairs_per_second(config: TrainConfig, source: Source, start: int, num_workers: int) -> float:
    loaded = iter_batches(
        source,
        image_size=config.model.image_size,
        batch_size=min(config.batch_size, len(source)),
        seed=config.seed,
        start_sample=start,
        num_steps=sys.maxsize,
        num_workers=num_workers,
        config=config.data_options,
    )
    pairs = 0
    for _ in range(max(1, num_workers)):  # what starting costs is not asked for
        next(loaded)
    begin = time.perf_counter()
    for batch in loaded:
        pairs += len(batch.ids)
        seconds = time.perf_counter() - begin
        if seconds > THROUGHPUT_SECONDS:
            break
    return pairs / seconds
