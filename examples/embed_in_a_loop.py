"""Embed images from Python as they arrive, and write them to a store.

    python examples/embed_in_a_loop.py MODEL STORE IMAGE...

For images that are not files of a dataset, such as those of a camera, a database or a queue. A row needs an id, a
digest, a path and a vector; all other columns are optional.
"""

import sys
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pyarrow as pa

import zebra
from zebra.errors import BadSample
from zebra.store import Store, StoreMetadata

BATCH_SIZE = 32


def make_row(path: str, data: bytes) -> dict[str, str]:
    """Return the required columns of one image except its vector."""
    digest = sha256(data).hexdigest()
    return {"id": sha256(f"{digest} {path}".encode()).hexdigest(), "digest": digest, "path": path}


def main(model: str, out: str, *paths: str) -> None:
    """Append the images to a new store, batch by batch."""
    clip = zebra.load(model, precision="auto")
    metadata = StoreMetadata(clip.fingerprint, model, clip.embed_dim, clip.precision, "float16")
    remaining = iter(paths)
    with Store.create(Path(out), metadata) as store:
        while batch := list(islice(remaining, BATCH_SIZE)):
            images = [Path(path).read_bytes() for path in batch]
            try:
                vectors_BE = clip.encode_images(images).numpy()
            except BadSample as error:  # zebra embed would skip only this image
                sys.exit(f"unusable image: {error}")
            table = pa.Table.from_pylist([make_row(*pair) for pair in zip(batch, images, strict=True)])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(vectors_BE.ravel()), clip.embed_dim)
            store.append(table.append_column("vector", vectors))
            print(f"{len(store)} images in {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
