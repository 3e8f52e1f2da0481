"""RareAct: segments of videos that were annotated for an action each."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import SplitFiles, find_split_paths
from zebra.data.benchmarks.tasks import ActionAnnotations, ActionBenchmark
from zebra.data.benchmarks.video_archives import find_video, missing_video_notes, read_text_rows
from zebra.data.image_source import hash_values
from zebra.data.video_clips import VideoClip, open_clips
from zebra.errors import DataError

COLUMNS = ("id", "video_id", "start", "end", "class_id", "verb", "noun", "annotation")
MAX_ANNOTATION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionArchive:
    """Videos, and a table of segments with RareAct's columns. Videos that are not on disk are left out and counted."""

    folder: str
    splits: tuple[SplitFiles, ...]
    video_patterns: tuple[str, ...]
    """Paths below the folder without suffix, tried in this order."""
    kind: Literal["actions"] = "actions"

    def read(self, root: Path, split: str) -> ActionBenchmark:
        """Read one split; raise DataError if the table is malformed or no video is on disk."""
        folder = root / self.folder
        (table,) = find_split_paths(folder, self.splits, split)
        actions: dict[int, tuple[str, str]] = {}
        clips, ids, videos, classes, annotations, num_missing = [], [], [], [], [], 0
        for line, row in read_text_rows(table, COLUMNS):
            try:
                start, end, label, annotation = (float(row[key]) for key in ("start", "end", "class_id", "annotation"))
            except ValueError as error:
                raise DataError(f"{table}:{line}: {error}. Correct the line") from error
            if annotation not in range(MAX_ANNOTATION + 1) or label < 0 or not 0 <= start < end:
                raise DataError(
                    f"{table}:{line}: annotation {annotation:g} of class {label:g} from {start:g} to {end:g} s is not "
                    "possible. Correct the line"
                )
            actions[int(label)] = row["verb"], row["noun"]
            path = find_video(folder, self.video_patterns, row, f"{table}:{line}")
            if path is None:
                num_missing += 1
                continue
            clips.append(VideoClip(path, start, end))
            ids.append(f"{row['id']} {row['video_id']}#{start:g}-{end:g}")
            videos.append(row["video_id"])
            classes.append(int(label))
            annotations.append(int(annotation))
        if not clips:
            raise DataError(f"{folder} has none of the {num_missing:,} videos of {table.name}. Unpack them there")
        if missing := [label for label in range(max(actions) + 1) if label not in actions]:
            raise DataError(f"{table} has no row of the class {missing[0]}. Download it again")
        video_N = np.unique(videos, return_inverse=True)[1].astype(np.int64)
        names = tuple(actions[label] for label in range(len(actions)))
        source = open_clips(folder, clips, ids=ids)
        digest = hash_values(source.content_digest, classes, annotations, names)
        return ActionBenchmark(
            folder.name,
            (),
            replace(source, content_digest=digest),
            ActionAnnotations(video_N, np.array(classes, np.int64), np.array(annotations, np.int64), names),
            notes=missing_video_notes(num_missing, num_missing + len(clips)),
        )
