"""Archives with lists in MATLAB files."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.archive_splits import ArchiveSplit, SplitFiles, find_split_files
from zebra.data.benchmarks.matlab_files import report_damaged_matlab
from zebra.data.image_source import open_image_files
from zebra.errors import DataError

MAX_MATLAB_VALUES = 1 << 20
"""Maximum number of values of a MATLAB variable; the labels of Flowers102 are 8,189."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MatlabArchive:
    """Flowers102: image numbers of each split, and labels from 1, in MATLAB files."""

    folder: str
    splits: tuple[SplitFiles, ...]
    """Name of the MATLAB variable of each split."""
    splits_file: str
    labels_file: str
    image_pattern: str
    """File name with `{}` for the image number."""
    kind: Literal["mat"] = "mat"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if a file or image is missing."""
        folder = root / self.folder
        (variable,) = find_split_files(self.splits, split, root)
        numbers = _read_matlab_vector(folder / self.splits_file, variable)
        all_labels = _read_matlab_vector(folder / self.labels_file, "labels")
        if not len(numbers) or numbers.min() < 1 or numbers.max() > len(all_labels):
            raise DataError(
                f"{folder / self.splits_file}: {variable} has image numbers outside 1 … {len(all_labels)}. Download "
                "both MATLAB files again"
            )
        labels = all_labels[numbers - 1] - 1
        paths = [folder / self.image_pattern.format(f"{number:05d}") for number in numbers]
        return ArchiveSplit(open_image_files(folder, paths, labels.tolist()), labels)


def _read_matlab_vector(path: Path, variable: str) -> NDArray[np.int64]:
    """Read a variable of at most MAX_MATLAB_VALUES numbers; its size is checked before memory is taken for it.

    Raises:
        DataError: The file is missing or damaged, or the variable is missing, too large or no array of numbers.
    """
    from scipy.io import loadmat, whosmat

    with report_damaged_matlab(path):
        shape = next((shape for name, shape, _ in whosmat(path) if name == variable), None)
        if shape is None or math.prod(shape) > MAX_MATLAB_VALUES:
            found = "is missing" if shape is None else f"has the shape {shape}"
            raise DataError(f"{path}: the variable {variable} {found}. Download the file again")
        return np.ravel(loadmat(path, variable_names=[variable])[variable]).astype(np.int64)
