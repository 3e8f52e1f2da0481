"""Rules for images that are on lists, by digest or perceptual hash."""

from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zebra.curate.digest_lists import DIGEST_BYTES, DigestLists
from zebra.curate.measurements import Measurement
from zebra.curate.pipeline import Stage
from zebra.curate.rules import PairRule
from zebra.data.sources import Source, read_many
from zebra.errors import BadSample
from zebra.images.decode import decode_image
from zebra.images.perceptual_hash import compute_perceptual_hashes, find_nearest_hashes
from zebra.values import Record

MAX_HASH_DISTANCE = 2
"""Most bits in which the perceptual hash of a listed image may differ: the same image, rescaled or recompressed."""
HASH_VERSION = 1
"""Changes when a perceptual hash may change."""
_HASH_SCHEMA = pa.schema({"list_phash": pa.uint64()})


def image_list_rules(lists: Mapping[str, DigestLists], columns: Collection[str]) -> list[Stage]:
    """Return the rules for the bytes of images.

    Args:
        lists: Stage → its lists.
        columns: Columns of the pool.
    """
    digest_columns = {"sha256": ("sha256", "source_sha256") if "url" in columns else ("sha256",), "md5": ("md5",)}
    return [
        _digest_rule(stage, kind, names, content[kind])
        for stage, content in lists.items()
        for kind, names in digest_columns.items()
        if kind in content
    ]


def hash_list_stages(lists: Mapping[str, DigestLists], source: Source, max_pixels: int) -> list[Stage]:
    """Return the measurement of perceptual hashes and the rules for them, if a list has some.

    Args:
        lists: Stage → its lists.
        source: The images, by the column `index`.
        max_pixels: Largest width × height to decode.
    """
    rules = [_hash_rule(stage, content["phash"]) for stage, content in lists.items() if "phash" in content]
    return [_hash_measurement(source, max_pixels), *rules] if rules else []


def _digest_rule(stage: str, kind: str, columns: tuple[str, ...], digests: frozenset[bytes]) -> PairRule:
    """Return the rule for digests of the bytes, also as the server sent them."""
    value_set = pa.array(sorted(digests), pa.binary(DIGEST_BYTES[kind]))

    def find(table: pa.Table) -> pa.ChunkedArray:
        is_listed = pc.is_in(table[columns[0]], value_set)
        for column in columns[1:]:
            is_listed = pc.or_(is_listed, pc.is_in(table[column], value_set))
        return is_listed

    return PairRule(stage, f"listed {kind}", columns, find)


def _hash_measurement(source: Source, max_pixels: int) -> Measurement:
    def compute(table: pa.Table) -> pa.Table:
        indices, image_N = np.unique(table["index"].to_numpy(), return_inverse=True)
        hashes = [_hash(record, max_pixels) for record in read_many(source, indices.tolist())]
        return pa.table({"list_phash": pa.array([hashes[image] for image in image_N], pa.uint64())})

    key = f"list phash {HASH_VERSION} {max_pixels}"
    return Measurement("phash", key, ("index",), _HASH_SCHEMA, compute, is_parallel=True)


def _hash(record: Record | BadSample, max_pixels: int) -> int | None:
    """Return the perceptual hash; None if the image has changed, which is an error when it is written."""
    if isinstance(record, BadSample):
        return None
    try:
        image = decode_image(record.image, record.id, max_pixels=max_pixels)
    except BadSample:
        return None
    return int(compute_perceptual_hashes([image])[0])


def _hash_rule(stage: str, digests: frozenset[bytes]) -> PairRule:
    reference_M = np.array(sorted(int.from_bytes(digest) for digest in digests), np.uint64)

    def find(table: pa.Table) -> pa.Array:
        column = table["list_phash"].combine_chunks()
        distance_N, _ = find_nearest_hashes(column.fill_null(0).to_numpy(), reference_M)
        return pc.and_(column.is_valid(), pa.array(distance_N <= MAX_HASH_DISTANCE))

    return PairRule(stage, "listed phash", ("list_phash",), find)
