"""Videos as a source of images: frames at a rate or at changes of scene."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import pyarrow as pa

from zebra.config.frames import seconds_between_frames
from zebra.data.columns import choose_columns
from zebra.data.folder_walk import walk_folder
from zebra.data.ignored import Ignored, IgnoredCounter
from zebra.data.locations import ImageRef, Location, columns_stamp, file_stamp
from zebra.data.video_frames import (
    VIDEO_SUFFIXES,
    VIDEO_TIME_SEPARATOR,
    format_time,
    import_av,
    iter_frames,
    read_duration,
)
from zebra.errors import BadSample, DataError, escape_unencodable
from zebra.values import Record

VIDEO_COLUMNS = pa.schema({"video": pa.string(), "time": pa.float64()})
"""Path of the video below the data, and seconds after its start."""
TYPICAL_SCENE_SECONDS = 5.0
"""For estimates of the number of frames."""


class VideoSource:
    """Frames of a video, or of all videos below a folder.

    A video is decoded once from start to end while `scan` runs. A video that cannot be used is one bad sample, and so
    is the rest of one that is damaged after some frames.
    """

    available_columns = VIDEO_COLUMNS

    def __init__(self, path: Path, frames: str) -> None:
        """List the videos.

        Args:
            frames: As in `zebra.config.frames`.

        Raises:
            ConfigError: `frames` is invalid.
            DataError: There is nothing at the path, or no video.
            MissingExtra: PyAV is not installed.
        """
        import_av()
        self.name = str(path)
        self._frames, self._seconds_between = frames, seconds_between_frames(frames)
        self.columns = VIDEO_COLUMNS
        self._root, self._videos, self.ignored = _list_videos(path)
        if not self._videos:
            raise DataError(f"{path.absolute()} has no videos ({', '.join(VIDEO_SUFFIXES)}). Give a video or a folder")

    def select_columns(self, columns: Sequence[str] | pa.Schema) -> None:
        """Choose the extra columns of `scan`; ConfigError if one is missing."""
        self.columns = choose_columns(columns, VIDEO_COLUMNS, self.name)

    def num_images(self) -> int:
        """Estimate the number of frames by the durations that the files state."""
        seconds_between = self._seconds_between or TYPICAL_SCENE_SECONDS
        return sum(1 + int(read_duration(self._root / video) / seconds_between) for video in self._videos)

    def scan(self) -> Iterator[ImageRef]:
        """Yield all frames in the order of videos and times, already decoded."""
        root = self._root.resolve()
        for video in self._videos:
            path = root / video
            key, name = escape_unencodable(str(path)), escape_unencodable(str(video))
            stamp = f"{file_stamp(path)} {self._frames}{columns_stamp(self.columns)}"
            try:
                for frame in iter_frames(path, self._seconds_between):
                    frame_key = f"{key}{VIDEO_TIME_SEPARATOR}{format_time(frame.seconds)}"
                    values = {"video": name, "time": frame.seconds}
                    columns = {column: values[column] for column in self.columns.names}
                    record = Record(frame_key, frame.jpeg, columns=columns)
                    yield ImageRef(Location(frame_key, stamp, key), partial(_return_record, record))
            except BadSample as bad:
                error = BadSample(bad.reason, key, bad.detail)
                yield ImageRef(Location(key, stamp, key), partial(_raise_error, error))


def _list_videos(path: Path) -> tuple[Path, list[Path], tuple[Ignored, ...]]:
    """Return a folder, the videos below it as relative paths, and the other files."""
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"there is no video or folder at {path.absolute()}. Check the path")
        return path.parent, [Path(path.name)] if path.suffix.lower() in VIDEO_SUFFIXES else [], ()
    ignored, videos = IgnoredCounter(), []
    for folder, names in walk_folder(path, ignored):
        for name in names:
            if name.lower().endswith(VIDEO_SUFFIXES):
                videos.append(folder / name)
            else:
                ignored.add_by_suffix(str(folder / name))
    return path, videos, ignored.entries()


def _return_record(record: Record) -> Record:
    return record


def _raise_error(error: BadSample) -> NoReturn:
    raise error
