"""A folder of images with same-name .txt captions in, records in a fixed order out."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from zebra.errors import BadSample, DataError
from zebra.values import Record

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
CAPTION_SUFFIX = ".txt"


class FolderSource:
    """Every image below a folder; the caption of `a/b.jpg` is the text of `a/b.txt`.

    A caption without an image is found too, and cannot be used. Hidden files are not looked at.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        digest = hashlib.sha256()
        # Arrow holds a name in a tenth of what a Python string takes, and workers share it.
        self._relative_paths = pa.chunked_array(list(_iter_samples(root, digest)), pa.large_binary())
        self.digest = digest.hexdigest()
        """sha256 hex over names and sizes, captions' included."""

    def __len__(self) -> int:
        return len(self._relative_paths)

    def has_images(self) -> bool:
        """Tell whether there is anything but captions."""
        return any(not name.as_py().endswith(CAPTION_SUFFIX.encode()) for name in self._relative_paths)

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it."""
        stored: bytes = self._relative_paths[index].as_py()
        return stored.decode("utf-8", "backslashreplace")

    def read(self, index: int) -> Record:
        """Read one image with its caption.

        Raises:
            BadSample: missing image, missing caption, caption is not UTF-8, empty caption, NUL character, or unreadable
                file.
        """
        stored: bytes = self._relative_paths[index].as_py()
        path = self.root / os.fsdecode(stored)
        where = self.sample_id(index)
        if path.suffix == CAPTION_SUFFIX:
            raise BadSample("missing image", where, f"no {path.stem}.jpg, .png, … beside the caption")
        caption_path = path.with_suffix(CAPTION_SUFFIX)
        try:
            caption = decode_caption(caption_path.read_bytes(), where)
        except FileNotFoundError:
            raise BadSample("missing caption", where, f"no {path.stem}.txt beside the image") from None
        except OSError as error:
            raise BadSample("unreadable file", where, f"{caption_path}: {error.strerror}") from error
        return Record(id=where, image=read_image_bytes(path, where), captions=(caption,))


def read_image_bytes(path: Path, where: str) -> bytes:
    """Return a file's bytes; BadSample if it is not there or may not be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample("unreadable file", where, f"{path}: {error.strerror}") from error


def decode_caption(data: bytes, where: str) -> str:
    """Decode one caption; BadSample if it is not UTF-8, blank, or holds a NUL."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample(
            "caption is not UTF-8", where, f"byte {error.start} is {data[error.start]:#04x}"
        ) from error
    if not text.strip():
        raise BadSample("empty caption", where)
    if "\0" in text:
        raise BadSample("NUL character", where, f"in the caption {text[:40]!r}")
    return text


def _iter_samples(root: Path, digest: "hashlib._Hash") -> Iterator[pa.Array]:
    """Yield the samples of each directory, sorted by name, as encoded paths relative to `root`."""
    for parent, folders, names in os.walk(root, onerror=raise_listing_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = sorted(name for name in names if not name.startswith("."))
        images = [name for name in visible if name.lower().endswith(IMAGE_SUFFIXES)]
        captions = [name for name in visible if name.endswith(CAPTION_SUFFIX)]
        relative = Path(parent).relative_to(root)
        for name in (*images, *captions):
            digest.update(os.fsencode(relative / name) + b"\0%d\n" % _file_size(Path(parent, name)))
        stems = {Path(name).stem for name in images}
        samples = sorted([*images, *(name for name in captions if Path(name).stem not in stems)])
        yield pa.array([os.fsencode(relative / name) for name in samples], pa.large_binary())


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a link to nowhere is found, and reported when it is read
        return -1


def raise_listing_error(error: OSError) -> None:
    raise DataError(
        f"cannot list the folder {error.filename}: {error.strerror}; check its permissions"
    ) from error
