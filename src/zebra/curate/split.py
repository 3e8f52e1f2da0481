"""Split of a set for training and validation, by groups of copies."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zebra.atomic_io import atomic_write
from zebra.config.curate_copies import SplitRules
from zebra.curate.copies import group_copies
from zebra.curate.copy_rules import IMAGE_COLUMNS, ImageTable
from zebra.curate.pairs import Pairs

SPLIT_NAMES = ("train", "validation")
SPLIT_SCHEMA = pa.schema({"split": pa.string()})


def add_splits(pairs: Pairs, config: SplitRules, folder: Path) -> None:
    """Add the column `split` to the remaining pairs.

    Images that show the same form a group, and a group is drawn as a whole by a hash of the seed and the name of its
    largest image: the draw depends neither on the order of the pool nor on the other groups.

    Args:
        pairs: With the columns of signatures.
        folder: Where the files with the column are.
    """
    images = ImageTable((block.read(IMAGE_COLUMNS) for block in pairs.iter_units()), folder)
    group_I = group_copies(images.signatures)
    is_validation_G = np.array([_draw(sample_id, config.seed) < config.validation for sample_id in images.ids])
    files = []
    is_validation_I = is_validation_G[group_I] if len(group_I) else np.zeros(0, np.bool_)
    for number, (block, is_validation_K) in enumerate(
        zip(pairs.iter_units(), images.spread(is_validation_I), strict=True)
    ):
        split_N = np.full(len(block.is_kept_N), None, object)
        split_N[block.is_kept_N] = np.array(SPLIT_NAMES, object)[is_validation_K.astype(np.int64)]
        path = folder / f"split-{number:09d}.parquet"
        with atomic_write(path) as partial:
            pq.write_table(pa.table([pa.array(split_N, pa.string())], SPLIT_SCHEMA), partial)
        files.append(path)
    pairs.add_columns(files)


def _draw(sample_id: str, seed: int) -> float:
    """Return a number in [0, 1)."""
    digest = sha256(f"{seed}\0{sample_id}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
