"""`zebra embed`: a model, pictures and a config in; a store with their vectors out."""

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch

from zebra.config.cores import usable_cores
from zebra.config.embed import EmbedConfig
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.pipeline import EmbedPipeline, Progress
from zebra.embed.ray import ALL_CLUSTER_WORKERS, LazyImageEncoder, RayEmbedPipeline, StagedRows, require_ray
from zebra.embed.sources import open_embed_source
from zebra.embed.stages import EMBED_COLUMNS, EncodePixels, ImagePreprocessor
from zebra.errors import BadSample, ConfigError, DataError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import HUB_PREFIX, load
from zebra.store import Store, StoreError, StoreMetadata
from zebra.train.stop import stop_on_signals

SKIPPED_FILE = "skipped.jsonl"
EmbedCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What a run did."""

    out: Path
    num_rows: int
    """In the store now."""
    embedded: int
    reused: int
    """Written with the vector of equal bytes, in the data or in the store."""
    unchanged: int
    """In the store before, and unchanged."""
    skipped: Mapping[str, int]
    """By reason, the most frequent first; each is named in OUT/skipped.jsonl."""
    stale: int
    """In the store from this data set, and no longer in it."""
    pruned: int
    """Of those, deleted."""
    seconds: float
    """Spent on the pictures, without loading the model."""
    images_per_second: float
    """Embedded ones."""
    precision: str
    finished: bool
    """False if it stopped on request; run again to go on."""


def run(config: EmbedConfig, callback: EmbedCallback = lambda _tally: None) -> EmbedResult:
    """Embed what the store does not hold yet.

    SIGTERM or Ctrl-C ends the run with the batches at hand committed.

    Raises:
        DataError: There are no pictures, or too many, or all, are unusable; what is usable was written.
        StoreError: The store holds vectors of another model, is being written to by another process, or is no store
            of `zebra embed`.
        ConfigError: Columns or vectors are asked for that the store does not have.
        MissingExtra: Ray is to do it, and is not installed.
    """
    if config.engine == "ray":
        require_ray()
    pictures = open_embed_source(config.data, config.data_options, config.columns)
    if not len(pictures):
        raise DataError(f"there are no pictures in {pictures.name}")
    workers = config.workers or usable_cores()
    with stop_on_signals() as stop, _limit_torch_threads(workers):
        bundle = load(config.model, precision=config.precision)
        with (
            _open_store(config, bundle, pictures.extra_columns) as store,
            _open_skip_log(store.path / SKIPPED_FILE) as skip,
        ):
            engine, known, tower = _build_pipeline_parts(config, bundle, store, pictures.name)
            pipeline = engine(
                pictures,
                known,
                ImagePreprocessor(
                    bundle.preprocess,
                    config.fast_decode,
                    config.thumbnail_size,
                    config.data_options.max_image_pixels,
                ),
                tower,
                batch_size=config.batch_size,
                num_workers=workers if config.engine == "threads" else config.workers or ALL_CLUSTER_WORKERS,
                max_skip_rate=config.data_options.max_skip_rate,
                on_skip=skip,
                callback=callback,
                should_stop=lambda: stop.is_requested,
            )
            began = time.monotonic()
            finished = pipeline()
            seconds = time.monotonic() - began
            tally = pipeline.progress
            if finished and tally.done == tally.skipped.total():
                raise DataError(
                    f"not one picture of {pictures.name} is usable; the reasons are in {store.path / SKIPPED_FILE}"
                )
            vanished = known.count_stale() if finished else 0
            pruned = known.delete_stale() if finished and config.prune else 0
            if finished:
                store.compact()
            return EmbedResult(
                out=store.path,
                num_rows=len(store),
                embedded=tally.embedded,
                reused=tally.reused,
                unchanged=tally.unchanged,
                skipped=dict(tally.skipped.most_common()),
                stale=vanished,
                pruned=pruned,
                seconds=seconds,
                images_per_second=tally.embedded / seconds,
                precision=bundle.precision,
                finished=finished,
            )


def _build_pipeline_parts(
    config: EmbedConfig, bundle: Bundle, store: Store, dataset_name: str
) -> tuple[type[EmbedPipeline], ExistingRows, EncodePixels]:
    """Return who does the work, what is known of it, and the tower as it travels to where it is done."""
    if config.engine == "threads":
        return EmbedPipeline, ExistingRows(store, dataset_name), bundle.encode_pixels
    tower = LazyImageEncoder(_resolve_model_path(config.model), bundle.precision, bundle.fingerprint)
    return RayEmbedPipeline, StagedRows(store, dataset_name), tower


def _resolve_model_path(model: str) -> str:
    """Return where a model is, for who stands in another folder."""
    return model if model.startswith(HUB_PREFIX) else str(Path(model).resolve())


def _open_store(config: EmbedConfig, bundle: Bundle, extra_columns: pa.Schema) -> Store:
    """Open or make the store, as its only writer."""
    path = Path(config.out)
    if not (path / "images.lance").exists():
        facts = StoreMetadata(
            bundle.fingerprint,
            _resolve_model_path(config.model),
            bundle.embed_dim,
            bundle.precision,
            config.vector_dtype or "float16",
        )
        store = Store.create(path, facts, pa.schema([*EMBED_COLUMNS, *extra_columns]))
    else:
        store = Store.open(path)
    store.require_fingerprint(bundle.fingerprint)
    if config.vector_dtype not in (None, store.metadata.dtype):
        raise ConfigError(
            f"{path} keeps vectors as {store.metadata.dtype}, not {config.vector_dtype}; leave --vectors out"
        )
    absent = [name for name in EMBED_COLUMNS.names if name not in store.schema.names]
    if absent:
        raise StoreError(
            f"{path} was not made by zebra embed: it lacks {', '.join(absent)}; name another store"
        )
    for column in extra_columns:
        if column.name not in store.schema.names:
            raise ConfigError(
                f"{path} was made without the column {column.name!r}; leave it out, or embed into a new store"
            )
    store.delete([])  # changes nothing, but makes us the writer before hours of work
    return store


@contextmanager
def _open_skip_log(path: Path) -> Iterator[Callable[[BadSample], None]]:
    """Write one line for each picture that is left out of this run."""
    with path.open("w", encoding="utf-8") as file:

        def skip(bad: BadSample) -> None:
            line = {"id": bad.location, "reason": bad.reason, "detail": bad.detail}
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield skip


@contextmanager
def _limit_torch_threads(num_workers: int) -> Iterator[None]:
    """Share the cores among the workers, and leave Pillow's warnings alone.

    Decoding silences warnings, which belong to the whole process: threads that do so at once may leave the silence
    behind, so what holds now is put back in the end.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // num_workers))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        torch.set_num_threads(threads)
