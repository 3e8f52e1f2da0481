"""Embed pictures as they come, from Python, and write a store by hand.

    python examples/embed_in_a_loop.py MODEL STORE PICTURE...

For pictures that are no files of a data set: those of a camera, a database, a queue. A row needs an id, a digest, a
path and a vector; everything else may be left out.
"""

import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pyarrow as pa

import zebra
from zebra.errors import BadSample
from zebra.store import Store, StoreMetadata

TOGETHER = 32


def row(path: str, data: bytes) -> dict[str, str]:
    """Describe one picture."""
    digest = sha256(data).hexdigest()
    return {"id": sha256(f"{digest} {path}".encode()).hexdigest(), "digest": digest, "path": path}


def main(model: str, out: str, *paths: str) -> None:
    """Append the pictures to a new store, a few at a time."""
    clip = zebra.load(model, precision="auto")
    facts = StoreMetadata(clip.fingerprint, model, clip.embed_dim, clip.precision, "float16")
    coming = iter(paths)
    with Store.create(Path(out), facts) as store:
        while batch := list(islice(coming, TOGETHER)):
            pictures = [Path(path).read_bytes() for path in batch]
            try:
                vectors_BE = clip.encode_images(pictures).numpy()
            except BadSample as bad:  # zebra embed would leave out this one picture and go on
                sys.exit(f"cannot use {bad}")
            table = pa.Table.from_pylist([row(*pair) for pair in zip(batch, pictures, strict=True)])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_BE.ravel()), clip.embed_dim)
            store.append(table.append_column("vector", vectors))
            print(f"{len(store)} pictures in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
