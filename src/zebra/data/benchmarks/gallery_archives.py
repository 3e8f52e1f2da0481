"""Archives of query images and a gallery, with lists in MATLAB files."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from zebra.data.benchmarks.archive_splits import SplitFiles, find_split_paths
from zebra.data.benchmarks.derived_images import DerivedImages
from zebra.data.benchmarks.matlab_files import report_damaged_matlab
from zebra.data.benchmarks.tasks import GalleryBenchmark, QueryRelevance
from zebra.data.image_source import open_image_files
from zebra.errors import DataError

MAX_MATLAB_BYTES = 64 << 20
"""Maximum size of a ground truth; those of the two datasets have less than 1 MB."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisitedArchive:
    """Oxford and Paris buildings with the revisited ground truth (Radenović et al. 2018).

    A query is an image cropped to a building. The ground truth is also published as a pickle, which is not read.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    """One MATLAB file with imlist, qimlist and gnd: for each query its easy, hard and junk images, from 1, and bbx."""
    image_dir: str = "jpg"
    image_suffix: str = ".jpg"
    kind: Literal["revisited"] = "revisited"

    def read(self, root: Path, split: str) -> GalleryBenchmark:
        """Read one split; raise DataError if the ground truth is damaged or an image is missing."""
        folder = root / self.folder
        (path,) = find_split_paths(folder, self.splits, split)
        content = _load_matlab(path)
        try:
            gallery, queries = (_list_names(content[key]) for key in ("imlist", "qimlist"))
            truths = [dict(truth) for truth in content["gnd"]]
            relevance = tuple(_read_relevance(truth, len(gallery)) for truth in truths)
            boxes = [_read_box(truth["bbx"]) for truth in truths]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{path} is no revisited ground truth ({error!r}). Download it again") from error
        if len(relevance) != len(queries):
            raise DataError(f"{path} has {len(queries)} queries and {len(relevance)} answers. Download it again")
        paths = [folder / self.image_dir / f"{name}{self.image_suffix}" for name in (*gallery, *queries)]
        names = [""] * len(gallery) + ["crop " + " ".join(f"{side:g}" for side in box) for box in boxes]
        source = DerivedImages(
            open_image_files(folder, paths), range(len(paths)), names, partial(_crop, len(gallery), boxes)
        )
        numbers = range(len(paths))
        return GalleryBenchmark(
            self.folder, source, tuple(numbers[len(gallery) :]), tuple(numbers[: len(gallery)]), relevance
        )


def _load_matlab(path: Path) -> Mapping[str, Any]:
    """Read a MATLAB file, which cannot execute code; DataError if it is damaged or far too large."""
    from scipy.io import loadmat

    if path.stat().st_size > MAX_MATLAB_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_MATLAB_BYTES:,} bytes, so it is no ground truth. Download it again"
        )
    with report_damaged_matlab(path):
        content: Mapping[str, Any] = loadmat(path, variable_names=["imlist", "qimlist", "gnd"], simplify_cells=True)
    return content


def _list_names(cells: Iterable[object]) -> list[str]:
    names = [str(cell).strip() for cell in np.atleast_1d(np.asarray(cells, dtype=object))]
    if unsafe := [name for name in names if not name or Path(name).name != name]:
        raise ValueError(f"{unsafe[0]!r} is no name of an image")
    return names


def _read_relevance(truth: Mapping[str, Any], num_images: int) -> QueryRelevance:
    easy, hard, junk = (
        tuple(int(number) - 1 for number in np.ravel(truth[key]).tolist()) for key in ("easy", "hard", "junk")
    )
    if outside := [index for index in (*easy, *hard, *junk) if not 0 <= index < num_images]:
        raise ValueError(f"there is no image {outside[0] + 1}")
    return QueryRelevance(easy, hard, junk)


def _read_box(values: Iterable[float]) -> Box:
    left, top, right, bottom = (float(value) for value in np.ravel(np.asarray(values)))
    if not (left < right and top < bottom):
        raise ValueError(f"the box {left:g}, {top:g}, {right:g}, {bottom:g} is empty")
    return left, top, right, bottom


def _crop(num_gallery: int, boxes: Sequence[Box], index: int, image: Image.Image) -> Image.Image:
    return image.crop(boxes[index - num_gallery])  # Pillow rounds, as in the code of the authors
