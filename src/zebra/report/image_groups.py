"""Sections with images of a store, for the pages of clusters and outliers."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

from zebra.report.page import Gallery, GalleryItem, Section
from zebra.report.thumbnails import THUMBNAIL_SIDE, open_thumbnail
from zebra.search.originals import LOCATION_COLUMNS, read_thumbnail
from zebra.search.results import path_in_dataset
from zebra.store import Store

MAX_CAPTION_CHARS = 70


def build_image_section(
    store: Store, heading: str, summary: str, positions: Sequence[int], notes: Sequence[str]
) -> Section:
    """Return a section with the images at some positions of a store, each with its caption or path and a note."""
    wanted = {*LOCATION_COLUMNS, "caption", "source"}
    columns = [name for name in store.schema.names if name in wanted]
    rows = store.take_positions(positions, columns).to_pylist() if positions else []
    items = tuple(_build_item(row, note) for row, note in zip(rows, notes, strict=True))
    return Section(heading, summary, Gallery(items))


def _build_item(row: Mapping[str, Any], note: str) -> GalleryItem:
    text = shorten(row["caption"] or path_in_dataset(row), MAX_CAPTION_CHARS, placeholder=" …")
    return GalleryItem(open_thumbnail(read_thumbnail(row, THUMBNAIL_SIDE)), text, note)
