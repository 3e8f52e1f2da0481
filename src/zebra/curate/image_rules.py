"""Rules for images, and exact duplicates."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from zebra.config.curate import ImageRules
from zebra.curate.rules import PairRule, PoolRule, Rule

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
    if config.min_side > 1:
        rules.append(
            PairRule(
                "image",
                f"image side under {config.min_side} pixels",
                ("width", "height"),
                lambda table: pc.less(pc.min_element_wise(table["width"], table["height"]), config.min_side),
            )
        )
    if config.max_aspect_ratio is not None:
        rules.append(
            PairRule(
                "image",
                f"aspect ratio over {config.max_aspect_ratio:g}",
                ("width", "height"),
                lambda table: pc.greater(_aspect_ratio(table), config.max_aspect_ratio),
            )
        )
    if config.drop_uniform:
        rules.append(
            PairRule(
                "image", "image of one color", ("contrast",), lambda table: pc.less(table["contrast"], MIN_CONTRAST)
            )
        )
    return rules


def duplicate_rules(config: ImageRules) -> list[Rule]:
    """Return the rules against exact duplicates; the first in the order of the pool is kept."""
    rules: list[Rule] = [PoolRule("duplicates", "repeated pair", ("sha256", "text"), _find_repeated_pairs)]
    if config.drop_duplicates:
        rules.append(PoolRule("duplicates", "repeated image", ("sha256", "index"), _find_repeated_images))
    return rules


def _aspect_ratio(table: pa.Table) -> pa.ChunkedArray:
    sides = [table["width"], table["height"]]
    return pc.divide(pc.cast(pc.max_element_wise(*sides), pa.float64()), pc.min_element_wise(*sides))


def _find_repeated_pairs(read: Callable[[], Iterable[pa.Table]]) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the image and the caption of an earlier one."""
    first_row: dict[bytes, int] = {}
    num_rows = 0
    for table in read():
        pairs = zip(table["sha256"].to_pylist(), table["text"].to_pylist(), strict=True)
        keys = (sha256(digest + text.encode("utf-8", "surrogatepass")).digest() for digest, text in pairs)
        rows = enumerate(keys, num_rows)
        yield np.fromiter((first_row.setdefault(key, row) != row for row, key in rows), np.bool_, len(table))
        num_rows += len(table)


def _find_repeated_images(read: Callable[[], Iterable[pa.Table]]) -> Iterator[NDArray[np.bool_]]:
    """Yield which pairs have the image of an earlier sample; the captions of one sample do not repeat each other."""
    first_index: dict[bytes, int] = {}
    for table in read():
        pairs = zip(table["sha256"].to_pylist(), table["index"].to_pylist(), strict=True)
        yield np.fromiter((first_index.setdefault(digest, index) != index for digest, index in pairs), np.bool_)
