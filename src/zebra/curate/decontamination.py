"""Rules that drop images of evaluation datasets from a pool."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zebra.curate.copies import IMAGES_PER_BLOCK, CopyIndex
from zebra.curate.copy_rules import SIGNATURE_COLUMNS, read_signatures
from zebra.curate.rules import PoolReader, PoolRule
from zebra.curate.signature_files import sign_images
from zebra.curate.signatures import Signature, is_copy
from zebra.data.bad_samples import describe_bad_samples
from zebra.data.locations import ImageRef, Location
from zebra.data.sources import Source
from zebra.errors import DataError
from zebra.images.decode import MAX_PIXELS


def decontamination_rule(dataset: str, read_dataset: Callable[[], Sequence[Signature]]) -> PoolRule:
    """Return the rule that drops pairs with an image of a dataset, or a crop of one; a gray copy counts too.

    Args:
        dataset: Its name, for the account.
        read_dataset: Returns the signatures of its images, and of their mirror images.
    """

    def find(reader: PoolReader) -> Iterable[NDArray[np.bool_]]:
        signatures = read_dataset()
        return reader.map(partial(_find_copies, index=CopyIndex(signatures), references=signatures))

    return PoolRule("avoid", f"image of {dataset}", SIGNATURE_COLUMNS, find)


def sign_evaluation_images(
    images: Source, folder: Path, num_threads: int, callback: Callable[[int, int, str], None]
) -> list[Signature]:
    """Return the signatures of evaluation images, and of their mirror images.

    Args:
        folder: Where signatures are kept, so that an interrupted run continues.
        num_threads: Images decoded at a time.
        callback: Called with the number of images done, their total and what is done.

    Raises:
        DataError: An image cannot be read.
    """
    refs = [
        ImageRef(Location(images.sample_id(index), images.digest, images.name), partial(images.read, index))
        for index in range(len(images))
    ]
    signatures = []
    for is_mirrored in (False, True):
        signed, bad_samples = sign_images(
            *(refs, folder / "avoid"),
            crops=True,
            is_mirrored=is_mirrored,
            max_pixels=MAX_PIXELS,
            num_threads=num_threads,
            callback=lambda done, total: callback(done, total, f"reading {images.name}"),
        )
        if bad_samples:
            raise DataError(
                f"{len(bad_samples)} images of {images.name} cannot be read: {describe_bad_samples(bad_samples)}. "
                "Repair them, or leave this dataset out of copies.avoid."
            )
        signatures += [image.signature for image in signed]
    return signatures


def _find_copies(table: pa.Table, index: CopyIndex, references: Sequence[Signature]) -> NDArray[np.bool_]:
    is_copy_N = np.zeros(len(table), np.bool_)
    for start in range(0, len(table), IMAGES_PER_BLOCK):
        queries = read_signatures(table.slice(start, IMAGES_PER_BLOCK))
        for row, reference, placement in index.find(queries):
            if not is_copy_N[start + row]:
                is_copy_N[start + row] = is_copy(queries[row], references[reference], placement, any_color=True)
    return is_copy_N
