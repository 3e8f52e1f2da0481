"""Groups of near duplicates as a self-contained HTML page with the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from zebra.curate.signatures import Signature
from zebra.report.page import Gallery, GalleryItem, Headline, Section, write_page

MAX_GROUPS, MAX_IMAGES = 200, 24
"""Most groups on the page, and images of a group; groups.csv has all."""
KIND_TEXTS = {"kept": "kept", "same bytes": "the same bytes", "same": "the same image", "crop": "cropped"}


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
    """"kept", or how it relates to the kept image: "same bytes", "same" or "crop"."""
    width: int
    height: int
    num_bytes: int
    signature: Signature


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Images that show the same, the one to keep first."""

    members: tuple[GroupMember, ...]


def write_duplicates_page(groups: Sequence[DuplicateGroup], num_images: int, path: Path) -> None:
    """Write the groups with thumbnails, largest groups first."""
    num_duplicates = sum(len(group.members) - 1 for group in groups)
    num_bytes = sum(member.num_bytes for group in groups for member in group.members[1:])
    headlines = [
        Headline(f"{num_images:,}", "images"),
        Headline(f"{num_duplicates:,}", "duplicates", f"in {len(groups):,} groups"),
        Headline(_format_bytes(num_bytes), "in duplicates"),
    ]
    lead = "Images that show the same, from files of the same bytes to crops. The first of each group is the largest."
    if not groups:
        lead = "No two images show the same."
    elif len(groups) > MAX_GROUPS:
        lead += f" The page has the {MAX_GROUPS} largest groups; groups.csv has all."
    sections = [_build_section(number, group) for number, group in enumerate(groups[:MAX_GROUPS], 1)]
    write_page(path, "Near duplicates", lead, sections, headlines)


def _build_section(number: int, group: DuplicateGroup) -> Section:
    items = tuple(
        GalleryItem(
            member.signature.open_thumbnail(),
            KIND_TEXTS[member.kind],
            f"{'/'.join(PurePath(member.key).parts[-2:])} · {member.width} × {member.height} · "
            f"{_format_bytes(member.num_bytes)}",
        )
        for member in group.members[:MAX_IMAGES]
    )
    hidden = len(group.members) - len(items)
    summary = f"{len(group.members)} images" + (f", {hidden} of them not shown." if hidden else ".")
    return Section(f"Group {number}", summary, Gallery(items))


def _format_bytes(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"
