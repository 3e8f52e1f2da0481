"""Images that clients add: their folder beside the store, and their rows."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from zebra.atomic_io import atomic_write
from zebra.data.locations import Location, file_stamp
from zebra.embed.stages import make_row_id, rows_to_table
from zebra.embed.values import ImageFeatures, StoreRow
from zebra.errors import ConfigError
from zebra.images.decode import read_header
from zebra.images.formats import image_digest, media_type
from zebra.images.orientation import read_orientation
from zebra.search.arrow_rows import to_unit_vectors
from zebra.serve.errors import HTTPError
from zebra.serve.model_client import Vector
from zebra.store import Store
from zebra.values import Record

FOLDER_SUFFIX = "-added"
"""End of the folder's name; it begins with that of the store."""
MIN_FREE_BYTES = 2**30
"""Free disk space below which no image is added."""
MAX_NAME_CHARS = 80
SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/gif": ".gif"}
FIRST_TURNED_ORIENTATION = 5
"""EXIF orientations from here on exchange width and height."""


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image that was decoded and embedded."""

    data: bytes
    name: str
    """File name that the client gave."""
    caption: str | None
    vector_E: Vector
    thumbnail: bytes


@dataclass(frozen=True, slots=True)
class AddedImages:
    """Ids of images after they were added, in the order in which they were given."""

    ids: list[str]
    num_new: int
    """Number of rows that were written; the others were in the folder before."""


def added_folder(store_path: Path) -> Path:
    """Return the folder of the images that were added to a store."""
    path = store_path.resolve()
    return path.with_name(path.name + FOLDER_SUFFIX)


def add_images(store_path: Path, images: Sequence[NewImage]) -> AddedImages:
    """Write images to the folder and their rows to the store, as one commit; one call at a time.

    A file is named after its digest and the name that the client gave, so that equal files are stored once. A file
    whose row is not written, because the process ends, is found by `zebra embed MODEL FOLDER --out STORE`.

    Raises:
        ConfigError: The store was not made by `zebra embed`.
        StoreError: Another process writes to the store.
        HTTPError: The disk is nearly full (503).
    """
    folder = added_folder(store_path)
    if shutil.disk_usage(store_path).free < MIN_FREE_BYTES:
        raise HTTPError(503, "the disk is nearly full, so that no images are added")
    with Store.open(store_path) as store:
        if not {"location", "source", "stamp", "label"} <= set(store.schema.names):
            raise ConfigError("this store was not made by `zebra embed`, so that no images are added to it")
        folder.mkdir(exist_ok=True)
        rows = [_write_file(folder, image, store.metadata.embed_dim) for image in images]
        ids = [make_row_id(row.digest, row.location.key) for row in rows]
        existing = _find_existing(store, ids)
        new = {id: row for id, row in zip(ids, rows, strict=True) if id not in existing}
        if new:
            store.append(rows_to_table(list(new.values()), store.schema, str(folder)))
    return AddedImages(ids, len(new))


def _find_existing(store: Store, ids: Sequence[str]) -> set[str]:
    wanted = pa.array(ids, pa.string())
    return {id for batch in store.scan(["id"]) for id in batch["id"].filter(pc.is_in(batch["id"], wanted)).to_pylist()}


def _write_file(folder: Path, image: NewImage, embed_dim: int) -> StoreRow:
    """Write an image and its caption, and return its row."""
    digest = image_digest(image.data)
    path = folder / f"{safe_stem(image.name)}-{digest[:12]}{SUFFIXES[media_type(image.data)]}"
    caption = image.caption.strip() if image.caption else ""
    if not path.exists():
        if caption:
            with atomic_write(path.with_suffix(".txt")) as partial:
                partial.write_text(caption, encoding="utf-8")
        with atomic_write(path, fsync=True) as partial:
            partial.write_bytes(image.data)
    header = read_header(image.data, image.name)
    width, height = header.size if read_orientation(header) < FIRST_TURNED_ORIENTATION else header.size[::-1]
    vector_E = image.vector_E
    if embed_dim < len(vector_E):
        vector_E = to_unit_vectors(vector_E[None, :embed_dim])[0]
    features = ImageFeatures(width, height, image.thumbnail, vector_E)
    caption_path = path.with_suffix(".txt")
    stamp = f"{file_stamp(path)} {file_stamp(caption_path) if caption else '-'}"
    return StoreRow(
        Location(str(path), stamp, str(path)), Record(str(path), b"", (caption,) if caption else ()), digest, features
    )


def safe_stem(name: str) -> str:
    """Return a file name without its suffix and without characters that mean something to a file system.

    >>> safe_stem("../../etc/passwd.png"), safe_stem("Urlaub 2021 – Meer.jpg"), safe_stem("...")
    ('passwd', 'Urlaub 2021 – Meer', 'image')
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    printable = "".join(character for character in stem if character.isprintable())
    return (
        re.sub(r'[/\\:*?"<>|]', "_", printable).strip(" .")[:MAX_NAME_CHARS].encode("utf-8", "ignore").decode()
        or "image"
    )
