"""Rules for images, and exact duplicates."""

from collections.abc import Callable, Collection, Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate import ImageRules
from zebra.curate.partitions import (
    DIGEST_TYPE,
    compute_digests,
    find_all_but_first,
    find_among_equal,
    find_more_frequent,
)
from zebra.curate.rules import PairRule, PoolReader, PoolRule, Rule

PUBLISHED_SIZES = (("original_width", "original_height"), ("given_width", "given_height"))
"""Columns with width and height: of DataComp and img2dataset, and width and height of any other table of links."""
MIN_CONTRAST = 2.0
"""Standard deviation of the gray values, of 256, below which an image counts as one color."""


def image_rules(config: ImageRules) -> list[Rule]:
    """Return the rules of a config for single images."""
    rules: list[Rule] = []
    if config.min_bytes > 1:
        rules.append(
            PairRule(
                "image",
                f"image under {config.min_bytes:,} bytes",
                ("num_bytes",),
                lambda table: pc.less(table["num_bytes"], config.min_bytes),
            )
        )
    rules += _size_rules(config, "image", "width", "height")
    if config.drop_uniform:
        rules.append(
            PairRule(
                "image", "image of one color", ("contrast",), lambda table: pc.less(table["contrast"], MIN_CONTRAST)
            )
        )
    return rules


def published_size_rules(config: ImageRules, columns: Collection[str]) -> list[Rule]:
    """Return the rules for the sizes that the pool says its images have, which are known before a download.

    Args:
        columns: Columns of the pool.
    """
    return [
        rule
        for width, height in PUBLISHED_SIZES
        if {width, height} <= set(columns)
        for rule in _size_rules(config, "size", width, height)
    ]


def duplicate_rules(config: ImageRules) -> list[Rule]:
    """Return the rules against exact duplicates; the sample whose name comes first is kept."""
    rules: list[Rule] = [PoolRule("duplicates", "repeated pair", ("sha256", "text", "id"), _find_repeated_pairs)]
    if config.max_captions is not None:
        find = partial(_find_frequent_images, limit=config.max_captions)
        reason = f"image with over {config.max_captions:,} captions"
        rules.append(PoolRule("duplicates", reason, ("sha256", "id", "index"), find))
    if config.drop_duplicates:
        rules.append(PoolRule("duplicates", "repeated image", ("sha256", "id", "index"), _find_repeated_images))
    return rules


def _size_rules(config: ImageRules, stage: str, width: str, height: str) -> list[Rule]:
    """Return the rules for the columns with width and height."""
    rules: list[Rule] = []
    if config.min_side > 1:
        rules.append(
            PairRule(
                stage,
                f"image side under {config.min_side} pixels",
                (width, height),
                lambda table: pc.less(_extreme_side(pc.min_element_wise, table[width], table[height]), config.min_side),
            )
        )
    if config.max_aspect_ratio is not None:
        rules.append(
            PairRule(
                stage,
                f"aspect ratio over {config.max_aspect_ratio:g}",
                (width, height),
                lambda table: pc.greater(_aspect_ratio(table[width], table[height]), config.max_aspect_ratio),
            )
        )
    return rules


def _extreme_side(
    choose: Callable[..., pa.ChunkedArray], width: pa.ChunkedArray, height: pa.ChunkedArray
) -> pa.ChunkedArray:
    return choose(pc.cast(width, pa.float64()), pc.cast(height, pa.float64()), skip_nulls=False)


def _aspect_ratio(width: pa.ChunkedArray, height: pa.ChunkedArray) -> pa.ChunkedArray:
    longer, shorter = (_extreme_side(choose, width, height) for choose in (pc.max_element_wise, pc.min_element_wise))
    return pc.divide(longer, shorter)


def _find_repeated_pairs(reader: PoolReader) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the image and the caption of another one before them."""
    return find_among_equal(reader, _pair_keys, partial(find_all_but_first, columns=("id",)))


def _pair_keys(table: pa.Table) -> pa.Table:
    content = pc.binary_join_element_wise(table["sha256"].cast(pa.binary()), table["text"].cast(pa.binary()), b"")
    return pa.table({"digest": compute_digests(content), "id": table["id"]})


def _find_frequent_images(reader: PoolReader, limit: int) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have an image with more than `limit` captions."""
    return find_among_equal(reader, _image_keys, partial(find_more_frequent, limit=limit))


def _find_repeated_images(reader: PoolReader) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the image of another sample before theirs; captions of one sample do not repeat it."""
    return find_among_equal(reader, _image_keys, _find_other_samples)


def _image_keys(table: pa.Table) -> pa.Table:
    digest = pc.binary_slice(table["sha256"].cast(pa.binary()), 0, DIGEST_TYPE.byte_width).cast(DIGEST_TYPE)
    return pa.table({"digest": digest, "id": table["id"], "index": table["index"]})


def _find_other_samples(table: pa.Table) -> NDArray[np.bool_]:
    is_first_N = ~find_all_but_first(table, ("id",))
    group_N, index_N = table["group"].to_numpy(), table["index"].to_numpy()
    first_index_G = np.empty(int(is_first_N.sum()), np.int64)
    first_index_G[group_N[is_first_N]] = index_N[is_first_N]
    is_other_N: NDArray[np.bool_] = first_index_G[group_N] != index_N
    return is_other_N
