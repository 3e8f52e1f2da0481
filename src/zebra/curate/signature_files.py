"""Signatures of the images of a dataset, in files that a later run reuses."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import ImageOps

from zebra.atomic_io import atomic_write
from zebra.curate.signatures import SIGNATURE_VERSION, Signature, compute_signature
from zebra.data.locations import ImageRef
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.local_features import FEATURE_DTYPE

IMAGES_PER_UNIT = 512
SIGNATURE_SCHEMA = pa.schema(
    {
        "sha256": pa.binary(32),  # of the encoded image
        "num_bytes": pa.int64(),
        "width": pa.int32(),
        "height": pa.int32(),
        "phash": pa.uint64(),
        "features": pa.binary(),
        "thumbnail": pa.binary(),
        "reason": pa.string(),  # why the image cannot be used; null if it can
        "detail": pa.string(),
    }
)


@dataclass(frozen=True, slots=True)
class SignedImage:
    """An image with its signature."""

    ref: ImageRef
    sha256: bytes
    num_bytes: int
    width: int
    height: int
    signature: Signature


def sign_images(
    refs: Sequence[ImageRef],
    folder: Path,
    *,
    crops: bool,
    is_mirrored: bool = False,
    max_pixels: int,
    num_threads: int,
    callback: Callable[[int, int], None],
) -> tuple[list[SignedImage], list[BadSample]]:
    """Return the readable images in order, and the others.

    Finished units are found by the locations and stamps of their images, so an interrupted run continues.

    Args:
        folder: Where the files are; created if it does not exist.
        crops: Compute local features.
        is_mirrored: Sign the mirror images.
        max_pixels: Largest width × height to decode.
        num_threads: Images decoded at a time.
        callback: Called with the number of images done and their total.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images: list[SignedImage] = []
    bad_samples: list[BadSample] = []

    def sign(ref: ImageRef) -> dict[str, Any]:
        return _sign_image(ref, crops, is_mirrored, max_pixels)

    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, len(refs), IMAGES_PER_UNIT):
            callback(start, len(refs))
            unit = refs[start : start + IMAGES_PER_UNIT]
            stamps = [[ref.location.key, ref.location.stamp] for ref in unit]
            key = json.dumps([SIGNATURE_VERSION, crops, is_mirrored, max_pixels, stamps])
            path = folder / f"{sha256(key.encode()).hexdigest()[:32]}.parquet"
            if not path.is_file():
                rows = list(pool.map(sign, unit))
                with atomic_write(path) as partial:
                    pq.write_table(pa.Table.from_pylist(rows, SIGNATURE_SCHEMA), partial)
            for ref, row in zip(unit, pq.read_table(path).to_pylist(), strict=True):
                if row["reason"] is None:
                    images.append(_read_row(ref, row))
                else:
                    bad_samples.append(BadSample(row["reason"], ref.location.key, row["detail"]))
    callback(len(refs), len(refs))
    return images, bad_samples


def _sign_image(ref: ImageRef, crops: bool, is_mirrored: bool, max_pixels: int) -> dict[str, Any]:
    try:
        data = ref.load().image
        image = decode_image(data, ref.location.key, max_pixels=max_pixels)
    except BadSample as bad:
        return {"reason": bad.reason, "detail": bad.detail}
    signature = compute_signature(ImageOps.mirror(image) if is_mirrored else image, crops=crops)
    return {
        "sha256": sha256(data).digest(),
        "num_bytes": len(data),
        "width": image.width,
        "height": image.height,
        "phash": signature.hash,
        "features": signature.features.tobytes(),
        "thumbnail": signature.thumbnail,
    }


def _read_row(ref: ImageRef, row: dict[str, Any]) -> SignedImage:
    signature = Signature(row["phash"], np.frombuffer(row["features"], FEATURE_DTYPE), row["thumbnail"])
    return SignedImage(ref, row["sha256"], row["num_bytes"], row["width"], row["height"], signature)
