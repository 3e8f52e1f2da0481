"""Results of `zebra search`, one for each query."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

from zebra.data.video_frames import VIDEO_TIME_SEPARATOR
from zebra.images.formats import UNKNOWN_MEDIA_TYPE, media_type
from zebra.notebook import render_html_images
from zebra.search.searcher import Searcher, SearchResult
from zebra.values import Hit

NOTEBOOK_THUMBNAIL_SIDE = 160
"""Maximum width and height of an image in a notebook, in pixels."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The hits of one query."""

    query: str
    """The query as text, for display."""
    result: SearchResult


@dataclass(frozen=True, slots=True)
class SearchRun:
    """The results of all queries of one run."""

    results: tuple[QueryResult, ...]
    notes: tuple[str, ...]
    """Warnings for the user: a truncated query, a missing index."""
    searcher: Searcher
    """The opened store, for reading images."""

    def _repr_html_(self) -> str:
        """Return the hits with thumbnails, captions and scores, for notebooks."""
        return "".join(
            render_html_images(result.query, map(self._to_html_image, result.result.hits)) for result in self.results
        )

    def _to_html_image(self, hit: Hit) -> tuple[bytes | None, str, str]:
        data = self.searcher.read_thumbnail(hit.id, NOTEBOOK_THUMBNAIL_SIDE)
        image_type = media_type(data or b"")
        caption = str(hit.row.get("caption") or path_in_dataset(hit.row))
        return None if image_type == UNKNOWN_MEDIA_TYPE else data, image_type, f"{hit.score:.3f} {caption}"


def image_path(row: Mapping[str, object]) -> str:
    """Return the path of an image; if it is no file of its own, shard and member, table and row, or video and time."""
    path, location = str(row["path"]), str(row.get("location") or "")
    return location if location.startswith((f"{path}/", f"{path}:", f"{path}{VIDEO_TIME_SEPARATOR}")) else path


def path_in_dataset(row: Mapping[str, object]) -> str:
    """Return the path of an image below the folder of its dataset, or its name; nothing of the folders above."""
    path, dataset = image_path(row), PurePath(str(row.get("source") or ""))
    for folder in (dataset, dataset.parent):
        if dataset.is_absolute() and PurePath(path).is_relative_to(folder):
            return PurePath(path).relative_to(folder).as_posix()
    return PurePath(path).name
