"""Groups of near duplicates as a self-contained HTML page with the images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from PIL import Image

from zebra.report.page import Gallery, GalleryItem, Headline, Section, write_page

MAX_GROUPS, MAX_IMAGES = 200, 24
"""Most groups on the page, and images of a group; groups.csv has all."""
KIND_TEXTS = {
    "kept": "kept",
    "same bytes": "the same bytes",
    "same": "the same image",
    "crop": "cropped",
    "similar": "similar",
}


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An image of a group."""

    key: str
    """Its name in the dataset."""
    path: str
    """Its file."""
    stamp: str
    """Changes when the file may have changed."""
    kind: str
    """"kept", or how it relates to the kept image: "same bytes", "same", "crop" or "similar"."""
    width: int | None
    height: int | None
    num_bytes: int | None
    """None if the image was not read."""
    open_thumbnail: Callable[[], Image.Image]
    id: str | None = None
    """Its id in the store, if the images are those of a store."""


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that show the same, the one to keep first."""

    members: tuple[GroupMember, ...]


def write_duplicates_page(groups: Sequence[DuplicateGroup], num_images: int, path: Path) -> None:
    """Write the groups with thumbnails, largest groups first."""
    num_duplicates = sum(len(group.members) - 1 for group in groups)
    sizes = [member.num_bytes for group in groups for member in group.members[1:]]
    headlines = [
        Headline(f"{num_images:,}", "images"),
        Headline(f"{num_duplicates:,}", "duplicates", f"in {len(groups):,} groups"),
    ]
    if None not in sizes:
        headlines.append(Headline(_format_bytes(sum(filter(None, sizes))), "in duplicates"))
    is_by_vectors = any(member.kind == "similar" for group in groups for member in group.members)
    shown = (
        "the model can hardly tell apart" if is_by_vectors else "show the same, from files of the same bytes to crops"
    )
    lead = f"Images that {shown}. The first of each group is the largest."
    if not groups:
        lead = "No two images show the same."
    elif len(groups) > MAX_GROUPS:
        lead += f" The page has the {MAX_GROUPS} largest groups; groups.csv has all."
    sections = [_build_section(number, group) for number, group in enumerate(groups[:MAX_GROUPS], 1)]
    write_page(path, "Near duplicates", lead, sections, headlines)


def _build_section(number: int, group: DuplicateGroup) -> Section:
    items = tuple(
        GalleryItem(
            member.open_thumbnail(),
            KIND_TEXTS[member.kind],
            " · ".join(filter(None, ("/".join(PurePath(member.key).parts[-2:]), *_describe_size(member)))),
        )
        for member in group.members[:MAX_IMAGES]
    )
    hidden = len(group.members) - len(items)
    summary = f"{len(group.members)} images" + (f", {hidden} of them not shown." if hidden else ".")
    return Section(f"Group {number}", summary, Gallery(items))


def _describe_size(member: GroupMember) -> tuple[str, str]:
    pixels = f"{member.width} × {member.height}" if member.width and member.height else ""
    return pixels, "" if member.num_bytes is None else _format_bytes(member.num_bytes)


def _format_bytes(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
