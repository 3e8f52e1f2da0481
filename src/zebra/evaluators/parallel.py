"""Embed the images of an evaluation in several processes.

The shards that are not in the cache are divided among the processes; the main process writes them into its cache, from
which the evaluation reads all vectors. A shard has the same bits whoever computes it, so the scores do not depend on
the number of processes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from zebra.config.precision import InferencePrecision
from zebra.data.benchmarks.tasks import ClassificationBenchmark, MultilabelBenchmark
from zebra.data.sources import FrameSource, Source
from zebra.distributed import ProcessGroup
from zebra.engines.engine import Engine
from zebra.errors import ConfigError, DataError
from zebra.evaluators.frames import select_frames
from zebra.evaluators.shard_cache import EmbeddingKind, ShardCache, evict_oldest_embeddings
from zebra.evaluators.shards import EmbeddedShard, Shard, embed_shards, split_into_shards
from zebra.evaluators.suite_datasets import RequestedDataset
from zebra.evaluators.training_splits import load_training_splits
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load

PROBE_TASKS = frozenset(("linear-probe", "few-shot"))


def list_needed_shards(datasets: Sequence[RequestedDataset]) -> list[Shard]:
    """Return the shards that the tasks of the datasets need, those of the training splits of probes included.

    Raises:
        DataError: A training split is damaged.
    """
    shards: list[Shard] = []
    for dataset in datasets:
        config, benchmark = dataset.config, select_frames(dataset.benchmark, dataset.config.frames)
        if PROBE_TASKS.isdisjoint(config.tasks) or not isinstance(
            benchmark, ClassificationBenchmark | MultilabelBenchmark
        ):
            shards += _split(benchmark.source, ("vectors",))
            continue
        shards += _split(benchmark.source, ("features", "vectors"))
        splits = load_training_splits(  # type: ignore[type-var]  # either kind; mypy takes no union for a TypeVar
            dataset.argument, benchmark, config.split, config.data_root
        )
        for split in (splits.train, splits.validation) if splits else ():
            if split is not None:
                shards += _split(select_frames(split, config.frames).source, ("features",))
    return shards


def _split(source: Source, kinds: tuple[EmbeddingKind, ...]) -> list[Shard]:
    if isinstance(source, FrameSource):
        source, _ = source.split_frames()
    return split_into_shards(source, kinds)


class _Caches:
    """The cache entries of all datasets of an evaluation."""

    def __init__(self, clip: Bundle, shards: Sequence[Shard]) -> None:
        sources = {shard.source.digest: shard.source for shard in shards}
        self._caches = {digest: ShardCache.open(clip, source) for digest, source in sources.items()}

    def find_missing(self, shards: Sequence[Shard]) -> list[int]:
        """Return the positions of the shards that are not cached, each shard once."""
        missing: dict[tuple[str, int, tuple[EmbeddingKind, ...]], int] = {}
        for position, shard in enumerate(shards):
            cache = self._caches[shard.source.digest]
            if not all(cache.has(shard.number, kind) for kind in shard.kinds):
                missing.setdefault((shard.source.digest, shard.number, shard.kinds), position)
        return list(missing.values())

    def write(self, shard: Shard, embedded: EmbeddedShard) -> None:
        """Write a shard; raise OSError if the cache cannot be written."""
        for kind, embeddings in embedded.items():
            self._caches[shard.source.digest].write(shard.number, kind, embeddings)


def embed_in_processes(
    clip: Bundle, shards: Sequence[Shard], group: ProcessGroup, progress: Callable[[int, int], None]
) -> None:
    """Compute the missing shards in all processes that torchrun started; all call this with the same datasets.

    A shard with an image that cannot be used is left to the evaluation, which names it.

    Args:
        progress: Called in the main process with the number of finished shards and their total.

    Raises:
        ConfigError: The processes have different data, or the cache cannot be written.
    """
    digests = group.all_gather_object([shard.source.digest for shard in shards])
    if others := [rank for rank, own in enumerate(digests) if own != digests[0]]:
        raise ConfigError(
            f"rank {others[0]} has other data than rank 0. Give all processes the same copies of the datasets."
        )
    caches = _Caches(clip, shards)
    missing = group.broadcast_from_main(lambda: caches.find_missing(shards))
    own = missing[group.rank :: group.world_size]
    results = iter(embed_shards(clip, [shards[position] for position in own]))
    num_done = 0
    for start in range(0, len(missing), group.world_size):  # a shard of each process at a time
        is_idle = start + group.rank >= len(missing)
        embedded = None if is_idle else next(results)[1]
        position = None if is_idle else missing[start + group.rank]
        finished = group.all_gather_object((position, None if isinstance(embedded, DataError) else embedded))
        group.broadcast_from_main(partial(_write, caches, shards, finished))
        num_done += sum(position is not None for position, _ in finished)
        if group.is_main_process:
            progress(num_done, len(missing))
    if group.is_main_process:
        evict_oldest_embeddings()


class _ShardEmbedder:
    """Embeds shards in a worker, which loads the model once."""

    def __init__(self, model: str, precision: InferencePrecision, device: str) -> None:
        self._arguments = model, precision, device
        self._clip: Bundle | None = None

    def __call__(self, shard: Shard) -> EmbeddedShard | None:
        """Return the embeddings of a shard; None if an image cannot be used."""
        if self._clip is None:
            model, precision, device = self._arguments
            self._clip = load(model, precision=precision, device=device)
        ((_, embedded),) = embed_shards(self._clip, [shard], num_threads=1)
        return None if isinstance(embedded, DataError) else embedded


def embed_on_cluster(
    clip: Bundle, model: str, shards: Sequence[Shard], engine: Engine, progress: Callable[[int, int], None]
) -> None:
    """Compute the missing shards on the workers of an engine; each reads images and model from the same paths.

    Args:
        model: What `zebra.load` opened.
        progress: Called with the number of finished shards and their total.

    Raises:
        ConfigError: The cache cannot be written.
    """
    caches = _Caches(clip, shards)
    missing = caches.find_missing(shards)
    embedder = _ShardEmbedder(model, clip.precision, "cpu" if clip.device.type == "cpu" else "auto")
    jobs: Iterable[Shard] = (shards[position] for position in missing)
    results: Iterator[EmbeddedShard | None] = engine.map(embedder, jobs)
    for done, (position, embedded) in enumerate(zip(missing, results, strict=True), start=1):
        _write(caches, shards, [(position, embedded)])
        progress(done, len(missing))
    evict_oldest_embeddings()


def _write(
    caches: _Caches, shards: Sequence[Shard], finished: Sequence[tuple[int | None, EmbeddedShard | None]]
) -> None:
    for position, embedded in finished:
        if position is not None and embedded is not None:
            try:
                caches.write(shards[position], embedded)
            except OSError as error:
                raise ConfigError(
                    f"the cache of embeddings cannot be written ({error}), which several processes need. Free some "
                    "space, or set ZEBRA_CACHE to another directory."
                ) from error
