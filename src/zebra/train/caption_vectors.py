"""Vectors of all captions of a store, kept in the store's folder for training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.pretrained.bundle import Bundle
from zebra.store import Store
from zebra.train.stored_vectors import VectorInfo, VectorTable

CAPTIONS_FOLDER = "captions"
ENCODE_BATCH = 4096
"""Captions that are embedded and written together."""


def caption_vectors_folder(store_path: Path) -> Path:
    """Return the folder of the caption vectors of a store."""
    return store_path / CAPTIONS_FOLDER


def embed_captions(store: Store, clip: Bundle) -> int:
    """Write the vectors of the distinct captions of a store; return how many were embedded.

    Captions that have a vector by the same model keep it. Nothing is written if all have one.

    Raises:
        WeightsError: The model has no tokenizer.
    """
    clip.require_tokenizer()
    folder = caption_vectors_folder(store.path)
    captions = list(dict.fromkeys(iter_captions(store)))
    old = VectorTable(folder) if VectorTable.exists(folder) else None
    if old is not None and old.info.fingerprint != clip.fingerprint:
        old = None
    known = set(old.keys()) if old is not None else set()
    new = [caption for caption in captions if caption not in known]
    if not new and len(known) == len(captions):
        return 0
    cached = [caption for caption in captions if caption in known]

    def batches() -> Iterator[tuple[list[str], NDArray[np.floating[Any]]]]:
        for start in range(0, len(cached), ENCODE_BATCH):
            assert old is not None
            texts = cached[start : start + ENCODE_BATCH]
            yield texts, old.look_up(texts, "caption").numpy()
        for start in range(0, len(new), ENCODE_BATCH):
            texts = new[start : start + ENCODE_BATCH]
            yield texts, clip.encode_texts(texts).numpy()

    info = VectorInfo(clip.fingerprint, store.metadata.model, clip.logit_scale)
    shape = (len(captions), store.metadata.embed_dim)
    VectorTable.write(folder, batches(), shape=shape, dtype=store.metadata.dtype, info=info)
    return len(new)


def iter_captions(store: Store) -> Iterator[str]:
    """Yield all captions of all rows, in the order of the store."""
    for batch in store.scan(["caption", "other_captions"]):
        for caption, others in zip(batch["caption"].to_pylist(), batch["other_captions"].to_pylist(), strict=True):
            yield from () if caption is None else (caption, *(others or ()))
