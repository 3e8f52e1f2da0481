"""Archives of neighboring video frames with JSON files of sets and labels."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import SplitFiles, find_split_paths
from zebra.data.benchmarks.tasks import FrameSetBenchmark
from zebra.data.image_source import hash_values, open_image_files
from zebra.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameSetArchive:
    """Frames as images, and a JSON file per split: anchor frame → its neighbors, as paths below the folder."""

    folder: str
    splits: tuple[SplitFiles, ...]
    labels_file: str
    """JSON: frame → its right classes. A frame without an entry has the classes of its anchor."""
    classnames_file: str
    """JSON: class → (WordNet ID, name)."""
    kind: Literal["frame_sets"] = "frame_sets"

    def read(self, root: Path, split: str) -> FrameSetBenchmark:
        """Read one split; raise DataError if a file is damaged or a frame is missing."""
        folder = root / self.folder
        (sets_path,) = find_split_paths(folder, self.splits, split)
        sets, labels = _read_object(sets_path), _read_object(folder / self.labels_file)
        names = _read_object(folder / self.classnames_file)
        # A frame of several sets is one image for each of its labels.
        positions: dict[tuple[str, tuple[int, ...]], int] = {}
        try:
            classnames = tuple(str(names[str(index)][1]).replace("_", " ") for index in range(len(names)))
            frame_sets = tuple(
                tuple(
                    positions.setdefault((frame, tuple(labels.get(frame, labels[anchor]))), len(positions))
                    for frame in (anchor, *neighbors)
                )
                for anchor, neighbors in sets.items()
            )
            labels_MC = np.zeros((len(positions), len(classnames)), np.bool_)
            for (_, classes), position in positions.items():
                labels_MC[position, list(classes)] = True
        except (LookupError, TypeError) as error:
            raise DataError(
                f"{sets_path} and {self.labels_file} do not fit together ({error!r}). Unpack them again"
            ) from error
        if not frame_sets:
            raise DataError(f"{sets_path} has no frames. Unpack the archive again")
        images = open_image_files(folder, [folder / frame for frame, _ in positions])
        source = replace(images, digest=hash_values(images.digest, [*positions], frame_sets, classnames))
        return FrameSetBenchmark(folder.name, classnames, (), source, labels_MC, frame_sets)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}). Unpack the archive again") from error
    if not isinstance(value, dict):
        raise DataError(f"{path} is no JSON object. Unpack the archive again")
    return value
