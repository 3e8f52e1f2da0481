"""A model and a source of pictures in, their embeddings out; computed once, and kept in a store in the cache folder."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from zebra.config.cache import cache_folder
from zebra.data.sources import Source
from zebra.distributed import ALONE, World
from zebra.errors import StoreError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.head_cache import weight_bits
from zebra.protocols.linear_probe import take
from zebra.store import Store, StoreFacts
from zebra.values import Embeddings

KEPT_BYTES = 8 * 2**30
"""Of embeddings on disk; those unused for longest go first."""
APPEND_ROWS = 8192
FEATURES = "features before the projection"


def embed_source(clip: Bundle, source: Source, *, projected: bool = True, world: World = ALONE) -> Embeddings:
    """Return the vectors of all pictures, in the order of the source, from the cache if they are there.

    What decides them names them: the model's fingerprint and weights in memory, its precision and what runs it, and
    the digest of the data. A model that was never saved has no fingerprint, and its vectors are not kept.

    Args:
        projected: False gives the features before the projection, not of unit length (the paper's probe features).
        world: The processes that embed a share each, of a model that was never saved.

    Raises:
        BadSample: A picture is unusable: a score over the rest would be of another set.
    """
    if not clip.fingerprint:
        return embed_shared(clip, source, range(len(source)), world, projected=projected)
    decided = [
        clip.fingerprint,
        weight_bits(clip.model.visual),
        clip.precision,
        clip.backend,
        str(clip.preprocess),
    ]
    name = hashlib.sha256(json.dumps([decided, source.digest, projected]).encode()).hexdigest()[:32]
    folder = cache_folder() / "embeddings" / name
    kept = _kept(folder, source)
    if kept is not None:
        return kept
    fresh = embed_some(clip, source, range(len(source)), projected=projected)
    try:
        _keep(folder, fresh, clip, projected)
    except (OSError, StoreError) as error:  # a cache that cannot be written costs time alone
        warnings.warn(f"the embeddings of {source.name} are not kept: {error}", stacklevel=2)
    return fresh


def embed_some(clip: Bundle, source: Source, indices: Iterable[int], *, projected: bool = True) -> Embeddings:
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


def embed_shared(
    clip: Bundle, source: Source, indices: Sequence[int], world: World, *, projected: bool = True
) -> Embeddings:
    """Embed the pictures at some positions of a source, each process its share; all get all, in order."""
    mine = embed_some(clip, source, indices[world.share(len(indices))], projected=projected)
    parts = world.objects(mine)
    labels = [part.labels for part in parts if part.labels is not None]
    vectors = np.concatenate([part.vectors for part in parts if len(part.ids)])
    return Embeddings(
        vectors, tuple(id for part in parts for id in part.ids), np.concatenate(labels), mine.fingerprint
    )


def halves(images: Embeddings, seed: int) -> tuple[Embeddings, Embeddings]:
    """Divide labelled images into two halves of each class, by a seed."""
    assert images.labels is not None
    rng = np.random.default_rng(seed)
    first = np.zeros(len(images.labels), dtype=np.bool_)
    for label in np.unique(images.labels):
        rows = rng.permutation(np.flatnonzero(images.labels == label))
        first[rows[: len(rows) // 2]] = True
    return take(images, np.flatnonzero(first)), take(images, np.flatnonzero(~first))


def _kept(folder: Path, source: Source) -> Embeddings | None:
    try:
        with Store.open(folder) as store:
            if len(store) != len(source):
                return None
            ids, vectors = store.vectors()
            labels = [label for batch in store.scan(["label"]) for label in batch["label"].to_pylist()]
            folder.touch()
            fingerprint = store.facts.fingerprint
    except StoreError:  # none there, or damaged
        return None
    return Embeddings(
        vectors.astype(np.float32, copy=False),
        tuple(ids.to_pylist()),
        np.array(labels, np.int64),
        fingerprint,
    )


def _keep(folder: Path, embeddings: Embeddings, clip: Bundle, projected: bool) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    width = embeddings.vectors.shape[1]
    model = f"{clip.fingerprint}{'' if projected else f', {FEATURES}'}"
    facts = StoreFacts(clip.fingerprint, model, width, clip.precision, "float32")
    assert embeddings.labels is not None
    with Store.create(folder, facts, pa.schema({"label": pa.int64()})) as store:
        for start in range(0, len(embeddings.ids), APPEND_ROWS):
            rows = slice(start, start + APPEND_ROWS)
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
    _evict(folder)


def _evict(newest: Path) -> None:
    folders = sorted(newest.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    total = 0
    for folder in folders:
        total += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if total > KEPT_BYTES and folder != newest:
            shutil.rmtree(folder, ignore_errors=True)
