"""Rules against near duplicates of other images of a pool."""

import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.config.curate_copies import CopyRules
from zebra.curate.copies import MAX_HASH_DISTANCE, find_originals
from zebra.curate.measurements import Measurement
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PoolReader, PoolRule, ReasonRule
from zebra.curate.scan import SAMPLES_PER_READ
from zebra.curate.signatures import SIGNATURE_VERSION, Signature, compute_signature
from zebra.data.sources import Source, read_many
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.local_features import FEATURE_DTYPE
from zebra.values import Record

STAGE = "copies"
SIGNATURE_COLUMNS = ("phash", "features", "thumbnail")
SIGNATURE_SCHEMA = pa.schema(
    {"phash": pa.uint64(), "features": pa.binary(), "thumbnail": pa.binary(), "copies_reason": pa.string()}
)
"""Columns of the signatures of images; the last one says why an image cannot be read again."""
IMAGE_COLUMNS = ("index", "id", "width", "height", "num_bytes", *SIGNATURE_COLUMNS)


def signature_stages(source: Source, *, crops: bool, max_pixels: int, num_threads: int) -> list[Stage]:
    """Return the measurement of signatures, which the rules against copies and the split need.

    Args:
        source: The pool, by the column `index`.
        crops: Compute local features.
        max_pixels: Largest width × height to decode.
        num_threads: Images of a unit decoded at a time; with 1, units are computed at the same time instead.
    """

    def compute(table: pa.Table) -> pa.Table:
        indices, image_N = np.unique(table["index"].to_numpy(), return_inverse=True)
        rows: list[dict[str, Any]] = []
        with ThreadPoolExecutor(num_threads) as pool:
            for start in range(0, len(indices), SAMPLES_PER_READ):
                records = read_many(source, indices[start : start + SAMPLES_PER_READ].tolist())
                rows += pool.map(partial(_sign, crops=crops, max_pixels=max_pixels), records)
        return pa.Table.from_pylist([rows[image] for image in image_N], SIGNATURE_SCHEMA)

    key = f"signatures {SIGNATURE_VERSION} crops={crops} max_pixels={max_pixels}"
    measurement = Measurement(*(STAGE, key, ("index",), SIGNATURE_SCHEMA, compute), is_parallel=num_threads == 1)
    return [measurement, ReasonRule(STAGE, "copies_reason")]


def copy_rules(config: CopyRules) -> list[PoolRule]:
    """Return the rule that keeps the largest of images that show the same; none without a distance."""
    max_distance = config.max_distance
    if max_distance is None:
        return []
    return [
        PoolRule(
            STAGE, "near duplicate of a larger image", IMAGE_COLUMNS, lambda reader: _find_copies(reader, max_distance)
        )
    ]


class ImageTable:
    """The images of tables of pairs, the larger ones first; their signatures are in a file."""

    def __init__(self, tables: Iterable[pa.Table], folder: Path) -> None:
        """Write the signatures.

        Args:
            tables: With the columns IMAGE_COLUMNS.
            folder: Where the file is; it must outlive this object.
        """
        keys: dict[int, tuple[int, int, str, int]] = {}
        places: dict[int, tuple[int, int, int, int]] = {}
        self._indices: list[NDArray[np.int64]] = []
        path, offset = folder / "signatures", 0
        with path.open("wb") as stream:
            for table in tables:
                self._indices.append(table["index"].to_numpy())
                for row in table.filter(_is_first(table["index"].to_numpy())).to_pylist():
                    if row["index"] in places:  # captions of one image may be in two tables
                        continue
                    keys[row["index"]] = (-row["width"] * row["height"], -row["num_bytes"], row["id"], row["index"])
                    middle = offset + stream.write(row["features"])
                    stop = middle + stream.write(row["thumbnail"])
                    places[row["index"]] = (row["phash"], offset, middle, stop)
                    offset = stop
        self._order = sorted(keys, key=keys.__getitem__)
        content = memoryview(b"")
        if offset:
            with path.open("rb") as stream:
                content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        self.signatures = [_view_signature(content, *places[index]) for index in self._order]
        self.ids = [keys[index][2] for index in self._order]

    def spread(self, values_I: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield the values of the pairs of each table, from those of the images in the order of `signatures`."""
        position = {index: number for number, index in enumerate(self._order)}
        for index_N in self._indices:
            yield values_I[[position[index] for index in index_N.tolist()]]


def read_signatures(table: pa.Table) -> list[Signature]:
    """Return the signatures of the rows of a table with SIGNATURE_COLUMNS."""
    columns = (table[name].to_pylist() for name in SIGNATURE_COLUMNS)
    return [
        Signature(phash, np.frombuffer(features, FEATURE_DTYPE), thumbnail)
        for phash, features, thumbnail in zip(*columns, strict=True)
    ]


def _find_copies(reader: PoolReader, max_distance: int = MAX_HASH_DISTANCE) -> Iterator[NDArray[np.bool_]]:
    with reader.make_folder() as folder:
        images = ImageTable(reader(), folder)
        original_I = find_originals(images.signatures, max_distance).original_N
        yield from images.spread(original_I != np.arange(len(original_I)))


def _sign(record: Record | BadSample, crops: bool, max_pixels: int) -> dict[str, Any]:
    try:
        if isinstance(record, BadSample):
            raise record
        image = decode_image(record.image, record.id, max_pixels=max_pixels)
    except BadSample as bad:  # it was readable before
        return {"copies_reason": bad.reason}
    signature = compute_signature(image, crops=crops)
    return {"phash": signature.hash, "features": signature.features.tobytes(), "thumbnail": signature.thumbnail}


def _is_first(index_N: NDArray[np.int64]) -> pa.Array:
    is_first_N = np.ones(len(index_N), np.bool_)
    is_first_N[1:] = index_N[1:] != index_N[:-1]
    return pa.array(is_first_N)


def _view_signature(content: memoryview, phash: int, start: int, middle: int, stop: int) -> Signature:
    return Signature(phash, np.frombuffer(content[start:middle], FEATURE_DTYPE), content[middle:stop])
