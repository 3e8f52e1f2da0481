"""`zebra doctor DATA`: captioned images and the training they are meant for in; whether it will go well, out."""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zebra.config.train import TrainConfig
from zebra.data.batches import batches
from zebra.data.dataset_stats import Survey, percentiles, survey, usable_cores
from zebra.data.sources import Source, open_source
from zebra.errors import ConfigError, DataError
from zebra.text.bpe import Tokenizer
from zebra.train.setup import open_tokenizer

LOOK_SECONDS = 25.0
"""How long samples are looked at unless their number is given."""
LOAD_SECONDS = 3.0
"""How long each number of workers loads."""
UNCUT = 1 << 20
"""A context length for counting tokens."""
BARS = 8
FREQUENT = 3


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of captions in tokens, start and end included: what so many per cent of them do not exceed."""

    shortest: int
    p50: int
    p90: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a histogram."""

    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class Captions:
    """The captions of samples looked at, up to 20,000 of these."""

    samples: int
    count: int
    tokens: Lengths
    histogram: tuple[Bar, ...]
    """Captions by tokens; the last bar holds those that are longer than 99 % of them."""
    context_length: int
    cut: int
    """Captions with more tokens than the context holds."""
    tokenizer: str
    """Where the tokens come from."""
    repeated: int
    """Different captions that stand at more than one picture."""
    frequent: tuple[tuple[str, int], ...]
    """The most frequent of these, with the number of times."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a number of loader processes delivers."""

    workers: int
    pairs_per_second: float


@dataclass(frozen=True, slots=True)
class Health:
    """A data set as training would find it."""

    name: str
    found: int
    survey: Survey
    captions: Captions | None
    """None without a usable sample."""
    loading: tuple[Rate, ...]
    """Empty if the data is not fit to be loaded."""
    image_size: int
    batch_size: int
    max_skip_rate: float

    @property
    def enough(self) -> Rate:
        """The fewest loader processes that come within a twentieth of the fastest."""
        beside = [rate for rate in self.loading if rate.workers]
        fastest = max(rate.pairs_per_second for rate in beside)
        return next(rate for rate in beside if rate.pairs_per_second >= 0.95 * fastest)

    @property
    def skip_rate(self) -> float:
        """Share of the samples looked at that cannot be used."""
        return 1 - self.survey.usable / self.survey.looked

    @property
    def sound(self) -> bool:
        """Whether training accepts so many skips."""
        return self.skip_rate <= self.max_skip_rate and self.survey.usable > 0


def run(
    config: TrainConfig,
    *,
    samples: int | None = None,
    watch: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> Health:
    """Look at samples, count tokens and measure how fast this machine loads.

    Args:
        config: The training that the data is meant for; `config.out` is left alone.
        samples: How many to look at, evenly spread; by default as many as 25 seconds allow.
        watch: Called with how many samples were looked at, how many there are, and what is done now.

    Raises:
        ConfigError: `samples` is below 1.
        DataError: Nothing usable is there, or the data is damaged as a whole.
    """
    if samples is not None and samples < 1:
        raise ConfigError(f"samples is {samples}; look at 1 or more")
    try:
        source = open_source(config.data, config.data_options)
    except DataError as error:
        raise DataError(
            f"{error} (nor is it a model: a folder with config.json, a .pt file, hf:org/name)"
        ) from error
    total = min(samples or len(source), len(source))
    seen, texts = survey(
        source,
        image_size=config.model.image_size,
        max_pixels=config.data_options.max_image_pixels,
        samples=total,
        seconds=LOOK_SECONDS if samples is None else math.inf,
        watch=lambda done, total: watch(done, total, ""),
    )
    health = Health(
        name=source.name,
        found=len(source),
        survey=seen,
        captions=_captions(config, source, texts) if texts else None,
        loading=(),
        image_size=config.model.image_size,
        batch_size=config.batch_size,
        max_skip_rate=config.data_options.max_skip_rate,
    )
    if not health.sound:
        return health
    rates = []
    counts = worker_counts(usable_cores())
    for number, workers in enumerate(counts):
        watch(seen.looked, total, f"loading with {workers} workers")
        # Each reads other samples, so that none finds in memory what another one has read.
        start = len(source) * number // len(counts)
        rates.append(Rate(workers, _pairs_per_second(config, source, start, workers)))
    watch(seen.looked, total, "")
    return replace(health, loading=tuple(rates))


def _captions(config: TrainConfig, source: Source, samples: Sequence[tuple[str, ...]]) -> Captions:
    text = config.model.text
    texts = [caption for captions in samples for caption in captions]
    if config.tokenizer is None:
        tokenizer = Tokenizer.train(texts, text.vocab_size, UNCUT)
        origin = f"a vocabulary of {tokenizer.vocab_size:,} learned from these captions, as training would"
    else:
        uncut = replace(config.model, text=replace(text, context_length=UNCUT))
        tokenizer = open_tokenizer(replace(config, model=uncut), source)
        origin = config.tokenizer
    lengths = [int(tokenizer.encode([caption], truncate=True).lengths[0]) for caption in texts]
    counts = Counter(caption for captions in samples for caption in dict.fromkeys(captions))
    repeated = [(caption, count) for caption, count in counts.most_common() if count > 1]
    return Captions(
        samples=len(samples),
        count=len(texts),
        tokens=Lengths(*percentiles(lengths, (0, 0.5, 0.9, 0.99, 1))),
        histogram=_histogram(lengths),
        context_length=text.context_length,
        cut=sum(length > text.context_length for length in lengths),
        tokenizer=origin,
        repeated=len(repeated),
        frequent=tuple(repeated[:FREQUENT]),
    )


def _histogram(lengths: Sequence[int]) -> tuple[Bar, ...]:
    """Count lengths in equal bars up to that of 99 % of them, and what is longer in one more."""
    low, high, longest = percentiles(lengths, (0, 0.99, 1))
    width = math.ceil((high - low + 1) / BARS)
    edges = [(start, start + width - 1) for start in range(low, high + 1, width)]
    above = edges[-1][1] + 1
    if longest >= above:
        edges.append((above, longest))
    return tuple(
        Bar(first, last, sum(first <= length <= last for length in lengths)) for first, last in edges
    )


def worker_counts(cores: int) -> list[int]:
    """Return the numbers of workers worth a measurement: none, powers of two, one for each core.

    >>> worker_counts(6)
    [0, 1, 2, 4, 6]
    """
    return sorted({0, cores, *(1 << power for power in range(cores.bit_length()))})


def _pairs_per_second(config: TrainConfig, source: Source, start: int, workers: int) -> float:
    loaded = batches(
        source,
        image_size=config.model.image_size,
        batch_size=min(config.batch_size, len(source)),
        seed=config.seed,
        start=start,
        steps=sys.maxsize,
        workers=workers,
        options=config.data_options,
    )
    pairs = 0
    for _ in range(max(1, workers)):  # what starting costs is not asked for
        next(loaded)
    begin = time.perf_counter()
    for batch in loaded:
        pairs += len(batch.ids)
        seconds = time.perf_counter() - begin
        if seconds > LOAD_SECONDS:
            break
    return pairs / seconds
