"""Data report: bad samples, captions, images and loading speed."""

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
from zebra.data.ignored import Ignored
from zebra.data.sources import Source, open_source
from zebra.data.templated import fill_caption_templates
from zebra.errors import ConfigError
from zebra.images.augment import patch_crop
from zebra.images.preprocess import build_preprocess
from zebra.text.bpe import BPETokenizer

MAX_SURVEY_SECONDS = 25.0
"""Maximum time to examine samples if their number is not given."""
THROUGHPUT_SECONDS = 3.0
"""Measured time for each number of workers."""
UNLIMITED_CONTEXT = 1 << 20
"""A context length that truncates no caption."""
NUM_BARS = 8
NUM_FREQUENT = 3


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Minimum, percentiles and maximum of the caption lengths in tokens, with start and end token."""

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
    """Statistics of the captions of at most MAX_CAPTION_SAMPLES examined samples."""

    num_samples: int
    num_captions: int
    tokens: TokenLengths
    histogram: tuple[HistogramBar, ...]
    """Histogram of the lengths in tokens; lengths above the 99th percentile share the last bar."""
    context_length: int
    num_truncated: int
    """Number of captions that are longer than the context."""
    tokenizer: str
    """Path or description of the tokenizer."""
    num_repeated: int
    """Number of distinct captions that several images have."""
    most_frequent: tuple[tuple[str, int], ...]
    """The most frequent of them, with their counts."""


@dataclass(frozen=True, slots=True)
class LoaderThroughput:
    """Loading speed with a number of workers."""

    num_workers: int
    pairs_per_second: float


@dataclass(frozen=True, slots=True)
class DataReport:
    """What training would find in a dataset."""

    name: str
    num_found: int
    ignored: tuple[Ignored, ...]
    """Files that were found and are not read."""
    survey: DatasetStats
    captions: CaptionStats | None
    """None without a usable sample."""
    loading: tuple[LoaderThroughput, ...]
    """Empty if the data cannot be used."""
    image_size: int
    batch_size: int
    max_skip_rate: float

    @property
    def sufficient_workers(self) -> LoaderThroughput:
        """The smallest number of workers within 5 % of the fastest."""
        rates = [rate for rate in self.loading if rate.num_workers]
        fastest = max(rate.pairs_per_second for rate in rates)
        return next(rate for rate in rates if rate.pairs_per_second >= 0.95 * fastest)

    @property
    def skip_rate(self) -> float:
        """Fraction of the examined samples that cannot be used."""
        return 1 - self.survey.num_usable / self.survey.num_examined

    @property
    def is_usable(self) -> bool:
        """Whether training accepts the skip rate."""
        return self.skip_rate <= self.max_skip_rate and self.survey.num_usable > 0


def inspect_data(
    config: TrainConfig,
    *,
    tokenizer: BPETokenizer | None = None,
    max_samples: int | None = None,
    callback: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> DataReport:
    """Examine samples, count tokens and measure the loading speed of this machine.

    Args:
        config: The training config for the data; `config.out` is not used.
        tokenizer: The tokenizer of `config.tokenizer`, loaded with the context length UNLIMITED_CONTEXT. None trains
            one on the captions, as training would.
        max_samples: Number of samples to examine, evenly spaced; by default as many as MAX_SURVEY_SECONDS allow.
        callback: Called with the number of examined samples, the number of all samples to examine, and the current
            step.

    Raises:
        ConfigError: `max_samples` is below 1.
        DataError: The dataset cannot be opened, or is damaged.
    """
    if max_samples is not None and max_samples < 1:
        raise ConfigError(f"max_samples must be at least 1; got {max_samples}")
    source = fill_caption_templates(
        open_source(config.data, config.data_options), config.data_options.caption_templates
    )
    total = min(max_samples or len(source), len(source))
    stats, captions = compute_dataset_stats(
        source,
        image_size=config.model.image_size,
        max_pixels=config.data_options.max_image_pixels,
        num_samples=total,
        max_seconds=MAX_SURVEY_SECONDS if max_samples is None else math.inf,
        callback=lambda done, total: callback(done, total, ""),
    )
    report = DataReport(
        name=source.name,
        num_found=len(source),
        ignored=source.ignored,
        survey=stats,
        captions=_caption_stats(config, tokenizer, captions) if captions else None,
        loading=(),
        image_size=config.model.image_size,
        batch_size=config.batch_size,
        max_skip_rate=config.data_options.max_skip_rate,
    )
    if not report.is_usable:
        return report
    rates = []
    worker_numbers = worker_counts(usable_cores())
    for step, num_workers in enumerate(worker_numbers):
        callback(stats.num_examined, total, f"loading with {num_workers} workers")
        # Each measurement reads other samples, so that none profits from the page cache of another.
        start = len(source) * step // len(worker_numbers)
        rates.append(LoaderThroughput(num_workers, _measure_pairs_per_second(config, source, start, num_workers)))
    callback(stats.num_examined, total, "")
    return replace(report, loading=tuple(rates))


def _caption_stats(
    config: TrainConfig, tokenizer: BPETokenizer | None, samples: Sequence[tuple[str, ...]]
) -> CaptionStats:
    text_config = config.model.text
    texts = [caption for captions in samples for caption in captions]
    tokenizer_name = config.tokenizer or "the given tokenizer"
    if tokenizer is None:
        tokenizer = BPETokenizer.train(texts, text_config.vocab_size, UNLIMITED_CONTEXT)
        tokenizer_name = f"a vocabulary of {tokenizer.vocab_size:,} learned from these captions, as in training"
    lengths = [int(tokenizer.encode([caption], truncate=True).lengths[0]) for caption in texts]
    counts = Counter(caption for captions in samples for caption in dict.fromkeys(captions))
    repeated = [(caption, count) for caption, count in counts.most_common() if count > 1]
    return CaptionStats(
        num_samples=len(samples),
        num_captions=len(texts),
        tokens=TokenLengths(*quantiles(lengths, (0, 0.5, 0.9, 0.99, 1))),
        histogram=_histogram(lengths),
        context_length=text_config.context_length,
        num_truncated=sum(length > text_config.context_length for length in lengths),
        tokenizer=tokenizer_name,
        num_repeated=len(repeated),
        most_frequent=tuple(repeated[:NUM_FREQUENT]),
    )


def _histogram(lengths: Sequence[int]) -> tuple[HistogramBar, ...]:
    """Return bars of equal width up to the 99th percentile, and one more for longer captions."""
    shortest, p99, longest = quantiles(lengths, (0, 0.99, 1))
    width = math.ceil((p99 - shortest + 1) / NUM_BARS)
    edges = [(start, start + width - 1) for start in range(shortest, p99 + 1, width)]
    next_edge = edges[-1][1] + 1
    if longest >= next_edge:
        edges.append((next_edge, longest))
    return tuple(HistogramBar(first, last, sum(first <= length <= last for length in lengths)) for first, last in edges)


def worker_counts(cores: int) -> list[int]:
    """Return the numbers of workers to measure: 0, powers of two, and one per core.

    >>> worker_counts(6)
    [0, 1, 2, 4, 6]
    """
    return sorted({0, cores, *(1 << power for power in range(cores.bit_length()))})


def _measure_pairs_per_second(config: TrainConfig, source: Source, start: int, num_workers: int) -> float:
    batches = iter_batches(
        source,
        image_size=config.model.image_size,
        batch_size=min(config.batch_size, len(source)),
        seed=config.seed,
        start_sample=start,
        num_steps=sys.maxsize,
        num_workers=num_workers,
        config=config.data_options,
        patch_crop=patch_crop(build_preprocess(config.model, config.image_seq_len)),
    )
    num_pairs = 0
    for _ in range(max(1, num_workers)):  # exclude the start-up time
        next(batches)
    start_time = time.perf_counter()
    for batch in batches:
        num_pairs += len(batch.ids)
        seconds = time.perf_counter() - start_time
        if seconds > THROUGHPUT_SECONDS:
            break
    return num_pairs / seconds
