"""Neighboring hits of one video as one range of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zebra.data.video_frames import VIDEO_TIME_SEPARATOR, format_time
from zebra.values import Hit

MAX_GAP_SECONDS = 2.0
"""Hits of one video that are at most this far apart belong to one range."""


@dataclass(frozen=True, slots=True)
class HitRange:
    """Hits that are shown together: one image, or neighboring frames of a video."""

    best: Hit
    """The hit with the highest score."""
    num_hits: int
    path: str | None
    """Path of the video with the first and the last time; None for an image."""


def merge_video_hits(hits: Sequence[Hit]) -> list[HitRange]:
    """Merge neighboring frames; the ranges have the order of their best hits."""
    rank = {hit.id: index for index, hit in enumerate(hits)}
    frames = sorted((hit for hit in hits if is_frame(hit.row)), key=lambda hit: (hit.row["path"], hit.row["time"]))
    groups = [[hit] for hit in hits if not is_frame(hit.row)]
    previous: Hit | None = None
    for hit in frames:
        if previous is not None and _is_neighbor(previous, hit):
            groups[-1].append(hit)
        else:
            groups.append([hit])
        previous = hit
    groups.sort(key=lambda group: min(rank[hit.id] for hit in group))
    return [_build_range(group, min(group, key=lambda hit: rank[hit.id])) for group in groups]


def is_frame(row: Mapping[str, object]) -> bool:
    """Return whether a row is a frame that `zebra embed --frames` read from a video."""
    location = str(row.get("location") or "")
    return isinstance(row.get("time"), float) and location.startswith(f"{row['path']}{VIDEO_TIME_SEPARATOR}")


def _is_neighbor(first: Hit, second: Hit) -> bool:
    gap = float(str(second.row["time"])) - float(str(first.row["time"]))
    return first.row["path"] == second.row["path"] and gap <= MAX_GAP_SECONDS


def _build_range(group: Sequence[Hit], best: Hit) -> HitRange:
    if len(group) == 1:
        return HitRange(best, 1, None)
    first, last = (format_time(float(str(hit.row["time"]))) for hit in (group[0], group[-1]))
    return HitRange(best, len(group), f"{best.row['path']}{VIDEO_TIME_SEPARATOR}{first}–{last}")
