"""IIIT5K: images of words with lexicons in a MATLAB file."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import SplitFiles, find_split_files
from zebra.data.benchmarks.matlab_files import report_damaged_matlab
from zebra.data.benchmarks.tasks import LexiconBenchmark
from zebra.data.image_source import hash_values, open_image_files
from zebra.errors import DataError

MAX_LEXICON_BYTES = 1 << 29
"""Maximum size of a file with lexicons, which is read as a whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LexiconArchive:
    """Images, and a MATLAB file per split with a structure per image: ImgName, GroundTruth and its lexicon."""

    folder: str
    splits: tuple[SplitFiles, ...]
    """Name of the MATLAB variable of each split, and of its file without suffix."""
    lexicon_field: str
    """smallLexi has 50 words, mediumLexi 1,000."""
    kind: Literal["lexicons"] = "lexicons"

    def read(self, root: Path, split: str) -> LexiconBenchmark:
        """Read one split; raise DataError if a file is damaged, an image is missing or a word is not in its lexicon."""
        folder = root / self.folder
        (variable,) = find_split_files(self.splits, split, root)
        matlab_path = folder / f"{variable}.mat"
        words: dict[str, int] = {}
        paths, answers, lexicons = [], [], []
        for number, row in enumerate(_read_structures(matlab_path, variable), start=1):
            try:
                name, answer = str(row["ImgName"]), str(row["GroundTruth"])
                lexicon = [str(word) for word in np.atleast_1d(row[self.lexicon_field])]
            except (LookupError, TypeError) as error:
                raise DataError(f"{matlab_path}: entry {number} lacks {error}. Download it again") from error
            if answer not in lexicon:
                raise DataError(
                    f"{matlab_path}: the word {answer!r} of {name} is not in its {self.lexicon_field}, so no model can "
                    "choose it. Download it again"
                )
            paths.append(folder / name)
            answers.append(words.setdefault(answer, len(words)))
            lexicons.append(np.array([words.setdefault(word, len(words)) for word in lexicon], np.int64))
        if not paths:
            raise DataError(f"{matlab_path} has no images. Download it again")
        images = open_image_files(folder, paths)
        source = replace(images, digest=hash_values(images.digest, self.lexicon_field, answers, [*words]))
        return LexiconBenchmark(folder.name, (), source, tuple(words), np.array(answers, np.int64), tuple(lexicons))


def _read_structures(path: Path, variable: str) -> list[Any]:
    from scipy.io import loadmat

    with report_damaged_matlab(path):
        if path.stat().st_size > MAX_LEXICON_BYTES:
            raise DataError(f"{path} has more than {MAX_LEXICON_BYTES:,} bytes. Download it again")
        values = loadmat(path, variable_names=[variable], simplify_cells=True)[variable]
    return values if isinstance(values, list) else list(np.atleast_1d(values))
