"""`zebra dedup`: near duplicates as a list and on a page."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from zebra.atomic_io import atomic_write
from zebra.config.cores import usable_cores
from zebra.config.dedup import DedupConfig
from zebra.curate.copies import find_originals
from zebra.curate.duplicate_files import DuplicateFile, remove_files
from zebra.curate.semantic import find_similar_originals
from zebra.curate.signature_files import SignedImage, sign_images
from zebra.data.folders import FolderSource
from zebra.data.locations import ImageRef, Location
from zebra.data.sources import open_images
from zebra.embed.result_column import require_result_column, write_result_column
from zebra.errors import BadSample, ConfigError
from zebra.report.duplicates import DuplicateGroup, GroupMember, write_duplicates_page
from zebra.report.thumbnails import THUMBNAIL_SIDE, open_thumbnail
from zebra.search.originals import LOCATION_COLUMNS, read_original, read_thumbnail
from zebra.search.results import image_path
from zebra.search.selection import select_rows
from zebra.store.store import Store
from zebra.values import Record

SIGNATURES_FOLDER = ".signatures"
GROUPS_FILE, PAGE_FILE, RECORD_FILE = "groups.csv", "duplicates.html", "removed.csv"
Callback = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class DedupResult:
    """Groups of near duplicates among images."""

    num_images: int
    """Readable images."""
    groups: list[DuplicateGroup]
    bad_samples: list[BadSample]
    num_same_files: int
    """Names of files that have another name too, such as symbolic links; they are no duplicates."""
    num_skipped: int
    """Comparisons left out because very many images have similar hashes; some copies may be missing."""
    outcomes: Counter[str]
    """Number of images that were moved, deleted or left, by reason."""

    @property
    def num_duplicates(self) -> int:
        """Return the number of images that are copies of a larger one."""
        return sum(len(group.members) - 1 for group in self.groups)


def run(config: DedupConfig, callback: Callback = lambda _done, _total, _stage: None) -> DedupResult:
    """Find near duplicates; write groups.csv and duplicates.html to `config.out`; move or delete files if told.

    Signatures of images are kept in the output folder, so that an interrupted run continues and a second run on the
    same images is fast.

    Args:
        callback: Called with the number of images done, their total and the stage.

    Raises:
        ConfigError: Files are to be moved, but the data is not a folder of image files, or the target is inside of it.
        DataError: The data cannot be read, or a file of the same name is at the target.
    """
    is_store = Store.exists(Path(config.data))
    if not is_store and (config.by == "vectors" or config.column):
        flag = "--by vectors" if config.by == "vectors" else "--column"
        raise ConfigError(
            f"{flag} needs a store; {config.data} is none. Embed the images first: zebra embed MODEL {config.data} "
            "--out STORE"
        )
    if not is_store:
        return _compare_pixels(config, callback)
    with Store.open(Path(config.data)) as store:
        require_result_column(store, config.column, pa.string())
        _require_removable(config, None)
        result = _compare_vectors(config, store) if config.by == "vectors" else _compare_pixels(config, callback, store)
        if config.column:
            _write_column(store, config.column, result.groups)
        return result


def _compare_pixels(config: DedupConfig, callback: Callback, store: Store | None = None) -> DedupResult:
    out = Path(config.out)
    refs, root, id_by_key = _list_images(config, store)
    _require_removable(config, root)
    images, bad_samples = sign_images(
        refs,
        out / SIGNATURES_FOLDER,
        crops=config.crops,
        max_pixels=config.data_options.max_image_pixels,
        num_threads=usable_cores(),
        callback=lambda done, total: callback(done, total, "reading"),
    )
    distinct = _drop_same_files(images) if root else images
    distinct.sort(key=_sort_key)
    groups, num_skipped = _find_groups(distinct, callback, id_by_key)
    _write_groups(out / GROUPS_FILE, groups)
    outcomes: Counter[str] = Counter()
    write_duplicates_page(groups, len(images), out / PAGE_FILE)
    if root and (config.delete or config.move_to):
        files = [
            DuplicateFile(Path(member.path), Path(group.members[0].path), member.stamp)
            for group in groups
            for member in group.members[1:]
        ]
        move_to = Path(config.move_to).absolute() if config.move_to else None
        outcomes = remove_files(files, root, out / RECORD_FILE, move_to)
    num_same_files = len(images) - len(distinct)
    return DedupResult(len(images), groups, bad_samples, num_same_files, num_skipped, outcomes)


def _list_images(config: DedupConfig, store: Store | None) -> tuple[list[ImageRef], Path | None, dict[str, str]]:
    """Return the images, their folder if they are files of their own below one, and the ids of those of a store."""
    if store is not None:
        columns = [name for name in LOCATION_COLUMNS if name in store.schema.names and name != "thumbnail"]
        rows = [row for batch in store.scan(["id", *columns]) for row in batch.to_pylist()]
        return list(map(_row_ref, rows)), None, {image_path(row): row["id"] for row in rows}
    source = open_images(config.data, config.data_options)
    return list(source.scan()), source.root.resolve() if isinstance(source, FolderSource) else None, {}


def _row_ref(row: Mapping[str, Any]) -> ImageRef:
    location = image_path(row)
    return ImageRef(Location(location, row["digest"], row["path"]), partial(_load_row, {"thumbnail": None, **row}))


def _load_row(row: Mapping[str, Any]) -> Record:
    data = read_original(row)
    if data is None:
        raise BadSample("missing image", image_path(row), "it has moved or changed since it was embedded")
    return Record(image_path(row), data, ())


def _require_removable(config: DedupConfig, root: Path | None) -> None:
    flag = "--delete" if config.delete else "--move-to" if config.move_to else None
    if flag and root is None:
        raise ConfigError(
            f"{flag} needs a folder of image files; {config.data} is none. Leave it out, and use {GROUPS_FILE}."
        )
    if config.move_to and root and Path(config.move_to).resolve().is_relative_to(root):
        raise ConfigError(
            f"--move-to {config.move_to} is inside of {config.data}, where the next run would find the images again. "
            "Give a directory elsewhere."
        )


def _drop_same_files(images: Sequence[SignedImage]) -> list[SignedImage]:
    """Return one image of each file; a file with two names must not be removed as a copy of itself."""
    by_file: dict[object, SignedImage] = {}
    for image in images:
        path = Path(image.ref.location.path)
        try:
            stat = path.stat()
            identity: object = (stat.st_dev, stat.st_ino)
        except OSError:  # a name that is not UTF-8
            identity = path
        if identity not in by_file or not path.is_symlink():
            by_file[identity] = image
    return list(by_file.values())


def _sort_key(image: SignedImage) -> tuple[object, ...]:
    """Return the key by which the image to keep comes first: most pixels, most bytes, no link, name."""
    location = image.ref.location
    return (-image.width * image.height, -image.num_bytes, Path(location.path).is_symlink(), location.key)


def _find_groups(
    images: Sequence[SignedImage], callback: Callback, id_by_key: Mapping[str, str]
) -> tuple[list[DuplicateGroup], int]:
    """Return the groups, largest first; the images must be sorted, those to keep first."""
    first_by_digest: dict[bytes, int] = {}
    same_bytes = [first_by_digest.setdefault(image.sha256, index) for index, image in enumerate(images)]
    unique = [index for index, first in enumerate(same_bytes) if index == first]
    signatures = [images[index].signature for index in unique]
    originals = find_originals(signatures, callback=lambda done, total: callback(done, total, "comparing"))
    members: dict[int, list[GroupMember]] = {}
    position = {index: number for number, index in enumerate(unique)}
    for index, image in enumerate(images):
        number = position[same_bytes[index]]
        original = unique[int(originals.original_N[number])]
        kind = originals.kind_N[number] or ("same bytes" if index != original else "kept")
        members.setdefault(original, []).append(_make_member(image, kind, id_by_key))
    return _sort_groups(members.values()), originals.num_skipped


def _sort_groups(groups: Iterable[Sequence[GroupMember]]) -> list[DuplicateGroup]:
    """Return the groups of several images, largest first."""
    several = [DuplicateGroup(tuple(group)) for group in groups if len(group) > 1]
    return sorted(several, key=lambda group: (-len(group.members), group.members[0].key))


def _make_member(image: SignedImage, kind: str, id_by_key: Mapping[str, str]) -> GroupMember:
    location = image.ref.location
    return GroupMember(
        location.key,
        location.path,
        location.stamp,
        kind,
        image.width,
        image.height,
        image.num_bytes,
        image.signature.open_thumbnail,
        id_by_key.get(location.key),
    )


def _compare_vectors(config: DedupConfig, store: Store) -> DedupResult:
    selection = select_rows(store, "", ("id", "path", "location", "width", "height"))
    rows = selection.rows.to_pylist()
    order_N = np.array(sorted(range(len(rows)), key=lambda index: _row_sort_key(rows[index])))
    original_N = order_N[find_similar_originals(selection.vectors_NE[order_N], config.min_cosine)]
    members: dict[int, list[GroupMember]] = {}
    for position, original in zip(order_N.tolist(), original_N.tolist(), strict=True):
        row = rows[position]
        kind = "kept" if position == original else "similar"
        thumbnail = partial(_open_stored_thumbnail, store, position)
        key = image_path(row)
        member = GroupMember(key, row["path"], "", kind, row["width"], row["height"], None, thumbnail, row["id"])
        members.setdefault(original, []).append(member)
    groups, out = _sort_groups(members.values()), Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    _write_groups(out / GROUPS_FILE, groups)
    write_duplicates_page(groups, len(rows), out / PAGE_FILE)
    return DedupResult(len(rows), groups, [], 0, 0, Counter())


def _row_sort_key(row: Mapping[str, Any]) -> tuple[int, str]:
    return -(row["width"] or 0) * (row["height"] or 0), image_path(row)


def _open_stored_thumbnail(store: Store, position: int) -> Image.Image:
    columns = [name for name in LOCATION_COLUMNS if name in store.schema.names]
    (row,) = store.take_positions([position], columns).to_pylist()
    return open_thumbnail(read_thumbnail(row, THUMBNAIL_SIDE))


def _write_column(store: Store, column: str, groups: Sequence[DuplicateGroup]) -> None:
    """Write the id of the kept image into the rows of its duplicates."""
    kept_by_id = {
        member.id: group.members[0].id for group in groups for member in group.members[1:] if member.id is not None
    }
    write_result_column(store, column, [*kept_by_id], pa.array(kept_by_id.values(), pa.string()))


def _write_groups(path: Path, groups: Sequence[DuplicateGroup]) -> None:
    """Write a line per image: the number of its group, how it relates to the kept image, name and size."""
    with atomic_write(path) as partial_path, partial_path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("group", "kind", "image", "width", "height", "bytes"))
        for number, group in enumerate(groups, 1):
            for member in group.members:
                writer.writerow((number, member.kind, member.key, member.width, member.height, member.num_bytes))
