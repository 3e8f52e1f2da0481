"""A model and a source of pictures in, their embeddings out; computed once, and kept in a store in the cache folder."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.config.cache import cache_dir
from zebra.data.sources import Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import StoreError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.head_cache import weight_checksums
from zebra.protocols.linear_probe import select
from zebra.store import Store, StoreMetadata
from zebra.values import Embeddings

MAX_EMBEDDING_CACHE_BYTES = 8 * 2**30
"""Of embeddings on disk; those unused for longest go first."""
ROWS_PER_APPEND = 8192
FEATURES_LABEL = "features before the projection"


def embed_source(
    clip: Bundle, source: Source, *, projected: bool = True, group: ProcessGroup = SINGLE_PROCESS
) -> Embeddings:
    """Return the vectors of all pictures, in the order of the source, from the cache if they are there.

    What decides them names them: the model's fingerprint and weights in memory, its precision and what runs it, and
    the digest of the data. A model that was never saved has no fingerprint, and its vectors are not kept.

    Args:
        projected: False gives the features before the projection, not of unit length (the paper's probe features).
        group: The processes that embed a share each, of a model that was never saved.

    Raises:
        BadSample: A picture is unusable: a score over the rest would be of another set.
    """
    if not clip.fingerprint:
        return embed_distributed(clip, source, range(len(source)), group, projected=projected)
    decided = [
        clip.fingerprint,
        weight_checksums(clip.model.visual),
        clip.precision,
        clip.backend,
        str(clip.preprocess),
    ]
    name = hashlib.sha256(json.dumps([decided, source.digest, projected]).encode()).hexdigest()[:32]
    folder = cache_dir() / "embeddings" / name
    kept = _load_cached_embeddings(folder, source)
    if kept is not None:
        return kept
    fresh = embed_indices(clip, source, range(len(source)), projected=projected)
    try:
        _cache_embeddings(folder, fresh, clip, projected)
    except (OSError, StoreError) as error:  # a cache that cannot be written costs time alone
        warnings.warn(f"the embeddings of {source.name} are not kept: {error}", stacklevel=2)
    return fresh


def embed_indices(
    clip: Bundle, source: Source, indices: Iterable[int], *, projected: bool = True
) -> Embeddings:
    """Embed the pictures at some positions of a source; see `embed_source`."""
    ids: list[str] = []
    labels: list[int] = []

    def pictures() -> Iterator[bytes]:
        for index in indices:
            record = source.read(index)
            ids.append(record.id)
            labels.append(-1 if record.label is None else record.label)
            yield record.image

    vectors = clip.encode_images(pictures(), projected=projected).numpy()
    return Embeddings(vectors, tuple(ids), np.array(labels, dtype=np.int64), clip.fingerprint)


def embed_distributed(
    clip: Bundle, source: Source, indices: Sequence[int], group: ProcessGroup, *, projected: bool = True
) -> Embeddings:
    """Embed the pictures at some positions of a source, each process its share; all get all, in order."""
    mine = embed_indices(clip, source, indices[group.local_slice(len(indices))], projected=projected)
    parts = group.all_gather_object(mine)
    labels = [part.labels for part in parts if part.labels is not None]
    vectors = np.concatenate([part.vectors for part in parts if len(part.ids)])
    return Embeddings(
        vectors, tuple(id for part in parts for id in part.ids), np.concatenate(labels), mine.fingerprint
    )


def stratified_halves(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Divide labelled images into two halves of each class, by a seed."""
    assert images.labels is not None
    rng = np.random.default_rng(seed)
    first = np.zeros(len(images.labels), dtype=np.bool_)
    for label in np.unique(images.labels):
        rows = rng.permutation(np.flatnonzero(images.labels == label))
        first[rows[: len(rows) // 2]] = True
    return select(images, np.flatnonzero(first)), select(images, np.flatnonzero(~first))


def _load_cached_embeddings(path: Path, source: Source) -> Embeddings | None:
    try:
        with Store.open(path) as store:
            if len(store) != len(source):
                return None
            ids, vectors = store.read_vectors()
            labels = [label for batch in store.scan(["label"]) for label in batch["label"].to_pylist()]
            path.touch()
            fingerprint = store.metadata.fingerprint
    except StoreError:  # none there, or damaged
        return None
    return Embeddings(
        vectors.astype(np.float32, copy=False),
        tuple(ids.to_pylist()),
        np.array(labels, np.int64),
        fingerprint,
    )


def _cache_embeddings(path: Path, embeddings: Embeddings, clip: Bundle, projected: bool) -> None:
    shutil.rmtree(path, ignore_errors=True)
    width = embeddings.vectors.shape[1]
    model = f"{clip.fingerprint}{'' if projected else f', {FEATURES_LABEL}'}"
    facts = StoreMetadata(clip.fingerprint, model, width, clip.precision, "float32")
    assert embeddings.labels is not None
    with Store.create(path, facts, pa.schema({"label": pa.int64()})) as store:
        for start in range(0, len(embeddings.ids), ROWS_PER_APPEND):
            rows = slice(start, start + ROWS_PER_APPEND)
            ids = list(embeddings.ids[rows])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.vectors[rows].ravel()), width)
            columns = {
                "id": ids,
                "digest": ids,
                "path": ids,
                "vector": vectors,
                "label": embeddings.labels[rows],
            }
            store.append(pa.table(columns))
    _evict_oldest(path)


def _evict_oldest(newest: Path) -> None:
    folders = sorted(newest.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if total > MAX_EMBEDDING_CACHE_BYTES and folder != newest:
            shutil.rmtree(folder, ignore_errors=True)
