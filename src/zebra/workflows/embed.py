"""`zebra embed`: embed a dataset into a store."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from zebra.config.cores import usable_cores
from zebra.config.embed import EmbedConfig
from zebra.data.bad_samples import format_reasons
from zebra.data.ignored import Ignored
from zebra.data.sources import ImageScan, open_images
from zebra.data.videos import VideoSource
from zebra.embed.columns import ExifSource, select_columns
from zebra.embed.existing_rows import ExistingRows
from zebra.embed.pipeline import EmbedPipeline, Progress, dataset_name
from zebra.embed.preprocessing import ImagePreprocessor
from zebra.embed.ray import ALL_CLUSTER_WORKERS, LazyImageEncoder, RayEmbedPipeline, StagedRows
from zebra.embed.stages import EMBED_COLUMNS, EncodePixels
from zebra.engines.ray import require_ray
from zebra.errors import BadSample, ConfigError, DataError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.pretrained.locate import is_hub_model
from zebra.pretrained.torch_threads import limit_torch_threads
from zebra.store import Store, StoreError, StoreMetadata
from zebra.train.caption_vectors import caption_vectors_folder, embed_captions
from zebra.train.stop import stop_on_signals
from zebra.train.stored_vectors import VectorTable

SKIPPED_FILE = "skipped.jsonl"
EmbedCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """Counts and timing of a run."""

    out: Path
    num_rows: int
    """Rows in the store after the run."""
    embedded: int
    reused: int
    """Images written with the vector of another image with equal bytes, in the dataset or in the store."""
    unchanged: int
    """Images that were in the store already and are up to date."""
    skipped: Mapping[str, int]
    """Unusable images by reason, the most frequent first; OUT/skipped.jsonl lists each of them."""
    ignored: tuple[Ignored, ...]
    """Files of the dataset that are not read, by reason."""
    stale: int
    """Rows of this dataset whose images are no longer in it."""
    pruned: int
    """Stale rows that were deleted."""
    captions: int
    """Captions that were embedded."""
    seconds: float
    """Duration of the run without loading the model."""
    images_per_second: float
    """Embedded images per second."""
    precision: str
    columns: tuple[str, ...]
    """Extra columns that were filled."""
    finished: bool
    """False if the run was stopped; run again to continue."""


def run(config: EmbedConfig, callback: EmbedCallback = lambda _progress: None) -> EmbedResult:
    """Embed all images that the store does not hold yet.

    SIGTERM or Ctrl-C ends the run after committing the batches in flight.

    Raises:
        DataError: There are no images, or too many are unusable; the usable ones were written.
        StoreError: The store holds vectors of another model, is locked by another process, or was not written by
            `zebra embed`.
        ConfigError: The store does not have the requested columns or vector type.
        MissingExtra: `engine` is "ray", and Ray is not installed.
    """
    if config.engine == "ray":
        require_ray("zebra embed --engine ray")
    source = _open_source(config)
    name = dataset_name(source)
    out = Path(config.out)
    existing_store = Store.open(out) if Store.exists(out) else None
    columns = select_columns(source, existing_store, (*source.columns.names, *config.columns))
    image_source = ExifSource(source, columns)
    num_workers = config.workers or usable_cores()
    with stop_on_signals() as stop, limit_torch_threads(num_workers):
        stored_size = existing_store.metadata.dimensions if existing_store else None
        bundle = load(
            config.model,
            precision=config.precision,
            dimensions=config.dimensions or stored_size,
            device=config.device if config.engine == "threads" or config.device == "cpu" else "auto",
        )
        with (
            _open_store(config, bundle, existing_store, columns) as store,
            _open_skip_log(store.path / SKIPPED_FILE) as log_skip,
        ):
            pipeline_class, existing_rows, encode_pixels = _build_pipeline_parts(config, bundle, store, name)
            pipeline = pipeline_class(
                image_source,
                existing_rows,
                ImagePreprocessor(
                    bundle.preprocess, config.fast_decode, config.thumbnail_size, config.data_options.max_image_pixels
                ),
                encode_pixels,
                batch_size=config.batch_size,
                num_workers=num_workers if config.engine == "threads" else config.workers or ALL_CLUSTER_WORKERS,
                max_skip_rate=config.data_options.max_skip_rate,
                on_skip=log_skip,
                callback=callback,
                should_stop=stop.is_set,
            )
            start_time = time.monotonic()
            finished = pipeline()
            seconds = time.monotonic() - start_time
            progress = pipeline.progress
            if finished and progress.done == progress.skipped.total():
                reasons = format_reasons(dict(progress.skipped.most_common()))
                raise DataError(
                    f"no image of {name} is usable: {reasons}. Repair them; {store.path / SKIPPED_FILE} lists all"
                )
            stale = existing_rows.count_stale() if finished else 0
            pruned = existing_rows.delete_stale() if finished and config.prune else 0
            has_captions = config.captions or VectorTable.exists(caption_vectors_folder(store.path))
            num_captions = embed_captions(store, bundle) if finished and has_captions else 0
            if finished:
                store.compact()
            return EmbedResult(
                out=store.path,
                num_rows=len(store),
                embedded=progress.embedded,
                reused=progress.reused,
                unchanged=progress.unchanged,
                skipped=dict(progress.skipped.most_common()),
                ignored=source.ignored,
                stale=stale,
                pruned=pruned,
                captions=num_captions,
                seconds=seconds,
                images_per_second=progress.embedded / seconds,
                precision=bundle.precision,
                columns=tuple(columns.names),
                finished=finished,
            )


def _open_source(config: EmbedConfig) -> ImageScan:
    if config.frames is None:
        return open_images(config.data, config.data_options)
    return VideoSource(Path(config.data).expanduser(), config.frames)


def _build_pipeline_parts(
    config: EmbedConfig, bundle: Bundle, store: Store, dataset_name: str
) -> tuple[type[EmbedPipeline], ExistingRows, EncodePixels]:
    """Return the pipeline class of the engine, the rows of the store, and the image tower for its workers."""
    if config.engine == "threads":
        return EmbedPipeline, ExistingRows(store, dataset_name), bundle.encode_pixels
    model = _resolve_model_path(config.model)
    encoder = LazyImageEncoder(model, bundle.precision, bundle.fingerprint, bundle.dimensions, config.device)
    return RayEmbedPipeline, StagedRows(store, dataset_name), encoder


def _resolve_model_path(model: str) -> str:
    """Return the absolute path of a model, for use from another working directory."""
    return model if is_hub_model(model) else str(Path(model).resolve())


def _open_store(config: EmbedConfig, bundle: Bundle, existing: Store | None, columns: pa.Schema) -> Store:
    """Take the writer lock of the store, create it if there is none, and add the columns that it lacks."""
    path = Path(config.out)
    if existing is None:
        metadata = StoreMetadata(
            bundle.fingerprint,
            _resolve_model_path(config.model),
            bundle.embed_dim,
            bundle.precision,
            config.vector_dtype or "float16",
        )
        store = Store.create(path, metadata, pa.schema([*EMBED_COLUMNS, *columns]))
    else:
        store = existing
    store.require_fingerprint(bundle.fingerprint)
    if config.vector_dtype not in (None, store.metadata.dtype):
        raise ConfigError(
            f"{path} stores vectors as {store.metadata.dtype}, not {config.vector_dtype}. Omit --vector-dtype"
        )
    missing = [name for name in EMBED_COLUMNS.names if name not in store.schema.names]
    if missing:
        raise StoreError(
            f"{path} was not written by zebra embed: the columns {', '.join(missing)} are missing. Use another store"
        )
    store.delete([])  # takes the writer lock before hours of work
    new_columns = [field for field in columns if field.name not in store.schema.names]
    if new_columns:
        store.add_columns(pa.schema(new_columns))
    return store


@contextmanager
def _open_skip_log(path: Path) -> Iterator[Callable[[BadSample], None]]:
    """Yield a function that writes a JSON line for each unusable image."""
    with path.open("w", encoding="utf-8") as file:

        def log_skip(error: BadSample) -> None:
            line = {"id": error.location, "reason": error.reason, "detail": error.detail}
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield log_skip
