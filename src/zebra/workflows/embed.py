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

from zebra.config.embed import EmbedConfig
from zebra.data.dataset_stats import usable_cores
from zebra.embed.existing_rows import Known
from zebra.embed.pipeline import Pipeline, Tally
from zebra.embed.ray import WHOLE_CLUSTER, Gathered, Model, RayPipeline, require_ray
from zebra.embed.sources import find_pictures
from zebra.embed.stages import OWN_COLUMNS, Encode, Prepare
from zebra.errors import BadSample, ConfigError, DataError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import HUB, load
from zebra.store import Store, StoreError, StoreFacts
from zebra.train.stop import stop_on_signals

SKIPPED = "skipped.jsonl"
Watch = Callable[[Tally], None]


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What a run did."""

    out: Path
    rows: int
    """In the store now."""
    embedded: int
    reused: int
    """Written with the vector of equal bytes, in the data or in the store."""
    already: int
    """In the store before, and unchanged."""
    skipped: Mapping[str, int]
    """By reason, the most frequent first; each is named in OUT/skipped.jsonl."""
    vanished: int
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


def run(config: EmbedConfig, watch: Watch = lambda _tally: None) -> EmbedResult:
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
    pictures = find_pictures(config.data, config.data_options, config.columns)
    if not len(pictures):
        raise DataError(f"there are no pictures in {pictures.name}")
    workers = config.workers or usable_cores()
    with stop_on_signals() as stop, _threads(workers):
        bundle = load(config.model, precision=config.precision)
        with _open(config, bundle, pictures.columns) as store, _skips(store.path / SKIPPED) as skip:
            engine, known, tower = _engine(config, bundle, store, pictures.name)
            pipeline = engine(
                pictures,
                known,
                Prepare(
                    bundle.preprocess,
                    config.fast_decode,
                    config.thumbnails,
                    config.data_options.max_image_pixels,
                ),
                tower,
                batch_size=config.batch_size,
                workers=workers if config.engine == "threads" else config.workers or WHOLE_CLUSTER,
                max_skip_rate=config.data_options.max_skip_rate,
                skip=skip,
                watch=watch,
                stop=lambda: stop.requested,
            )
            began = time.monotonic()
            finished = pipeline()
            seconds = time.monotonic() - began
            tally = pipeline.tally
            if finished and tally.done == tally.skipped.total():
                raise DataError(
                    f"not one picture of {pictures.name} is usable; the reasons are in {store.path / SKIPPED}"
                )
            vanished = known.vanished() if finished else 0
            pruned = known.prune() if finished and config.prune else 0
            if finished:
                store.compact()
            return EmbedResult(
                out=store.path,
                rows=len(store),
                embedded=tally.embedded,
                reused=tally.reused,
                already=tally.already,
                skipped=dict(tally.skipped.most_common()),
                vanished=vanished,
                pruned=pruned,
                seconds=seconds,
                images_per_second=tally.embedded / seconds,
                precision=bundle.precision,
                finished=finished,
            )


def _engine(
    config: EmbedConfig, bundle: Bundle, store: Store, data: str
) -> tuple[type[Pipeline], Known, Encode]:
    """Return who does the work, what is known of it, and the tower as it travels to where it is done."""
    if config.engine == "threads":
        return Pipeline, Known(store, data), bundle.encode_pixels
    tower = Model(_place(config.model), bundle.precision, bundle.fingerprint)
    return RayPipeline, Gathered(store, data), tower


def _place(model: str) -> str:
    """Return where a model is, for who stands in another folder."""
    return model if model.startswith(HUB) else str(Path(model).resolve())


def _open(config: EmbedConfig, bundle: Bundle, columns: pa.Schema) -> Store:
    """Open or make the store, as its only writer."""
    path = Path(config.out)
    if not (path / "images.lance").exists():
        facts = StoreFacts(
            bundle.fingerprint,
            _place(config.model),
            bundle.embed_dim,
            bundle.precision,
            config.vectors or "float16",
        )
        store = Store.create(path, facts, pa.schema([*OWN_COLUMNS, *columns]))
    else:
        store = Store.open(path)
    store.require(bundle.fingerprint)
    if config.vectors not in (None, store.facts.dtype):
        raise ConfigError(
            f"{path} keeps vectors as {store.facts.dtype}, not {config.vectors}; leave --vectors out"
        )
    absent = [name for name in OWN_COLUMNS.names if name not in store.schema.names]
    if absent:
        raise StoreError(
            f"{path} was not made by zebra embed: it lacks {', '.join(absent)}; name another store"
        )
    for column in columns:
        if column.name not in store.schema.names:
            raise ConfigError(
                f"{path} was made without the column {column.name!r}; leave it out, or embed into a new store"
            )
    store.delete([])  # changes nothing, but makes us the writer before hours of work
    return store


@contextmanager
def _skips(path: Path) -> Iterator[Callable[[BadSample], None]]:
    """Write one line for each picture that is left out of this run."""
    with path.open("w", encoding="utf-8") as file:

        def skip(bad: BadSample) -> None:
            line = {"id": bad.where, "reason": bad.reason, "detail": bad.detail}
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield skip


@contextmanager
def _threads(workers: int) -> Iterator[None]:
    """Share the cores among the workers, and leave Pillow's warnings alone.

    Decoding silences warnings, which belong to the whole process: threads that do so at once may leave the silence
    behind, so what holds now is put back in the end.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // workers))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        torch.set_num_threads(threads)
