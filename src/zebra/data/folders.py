"""A folder of images with captions in .txt files of the same name."""

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from zebra.data.columns import escape_unencodable
from zebra.data.locations import ImageRef, Location, file_stamp
from zebra.errors import BadSample, DataError
from zebra.values import Record

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
CAPTION_SUFFIX = ".txt"


class FolderSource:
    """Every image below a folder; the caption of `a/b.jpg` is the text of `a/b.txt`.

    A caption without an image counts as a bad sample. Hidden files are ignored.
    """

    columns = pa.schema([])

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = str(root)
        digest = hashlib.sha256()
        # Arrow needs a tenth of the memory of Python strings, and workers share it.
        self._relative_paths = pa.chunked_array(list(_iter_samples(root, digest)), pa.large_binary())
        self.digest = digest.hexdigest()
        """SHA-256 in hex over the names and sizes of images and captions."""

    def __len__(self) -> int:
        return len(self._relative_paths)

    def has_images(self) -> bool:
        """Return whether the folder has at least one image."""
        return any(True for _ in self._iter_images())

    def num_images(self) -> int:
        """Return the number of images, without captions that have no image."""
        return sum(1 for _ in self._iter_images())

    def scan(self) -> Iterator[ImageRef]:
        """Yield all images; the stamp has size and modification time of the image and its caption."""
        root = self.root.resolve()
        for name in self._iter_images():
            path = root / os.fsdecode(name)
            key = escape_unencodable(str(path))
            stamp = f"{file_stamp(path)} {file_stamp(path.with_suffix(CAPTION_SUFFIX))}"
            yield ImageRef(Location(key, stamp, key), partial(_load_image, path, key))

    def sample_id(self, index: int) -> str:
        """Return the ID of a sample without reading it."""
        encoded: bytes = self._relative_paths[index].as_py()
        return encoded.decode("utf-8", "backslashreplace")

    def read(self, index: int) -> Record:
        """Read one image with its caption.

        Raises:
            BadSample: missing image, missing caption, caption is not UTF-8, empty caption, NUL character or
                unreadable file.
        """
        encoded: bytes = self._relative_paths[index].as_py()
        path = self.root / os.fsdecode(encoded)
        sample_id = self.sample_id(index)
        if path.suffix == CAPTION_SUFFIX:
            raise BadSample("missing image", sample_id, f"no {path.stem}.jpg, .png, … beside the caption")
        caption_path = path.with_suffix(CAPTION_SUFFIX)
        try:
            caption = decode_caption(caption_path.read_bytes(), sample_id)
        except FileNotFoundError:
            raise BadSample("missing caption", sample_id, f"no {path.stem}.txt beside the image") from None
        except OSError as error:
            raise BadSample("unreadable file", sample_id, f"{caption_path}: {error.strerror}") from error
        return Record(id=sample_id, image=read_image_bytes(path, sample_id), captions=(caption,))

    def _iter_images(self) -> Iterator[bytes]:
        """Yield the encoded relative paths of the images."""
        for chunk in self._relative_paths.chunks:
            for name in chunk:
                encoded: bytes = name.as_py()
                if not encoded.endswith(CAPTION_SUFFIX.encode()):
                    yield encoded


def _load_image(path: Path, key: str) -> Record:
    """Read an image and its caption, which is optional."""
    image = read_image_bytes(path, key)
    try:
        text = path.with_suffix(CAPTION_SUFFIX).read_bytes()
    except FileNotFoundError:
        return Record(key, image)
    except OSError as error:
        raise BadSample("unreadable file", key, f"its {CAPTION_SUFFIX}: {error.strerror}") from error
    return Record(key, image, (decode_caption(text, key),) if text.strip() else ())


def read_image_bytes(path: Path, where: str) -> bytes:
    """Return a file's bytes; raise BadSample if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadSample("unreadable file", where, f"{path}: {error.strerror}") from error


def decode_caption(data: bytes, where: str) -> str:
    """Decode one caption; raise BadSample if it is blank, is not UTF-8 or contains a NUL character."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample("caption is not UTF-8", where, f"byte {error.start} is {data[error.start]:#04x}") from error
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
    except OSError:  # a dangling link is reported when it is read
        return -1


def raise_listing_error(error: OSError) -> None:
    """Raise DataError for a folder that cannot be listed; for use as `os.walk(onerror=…)`."""
    raise DataError(f"cannot list the folder {error.filename}: {error.strerror}. Check its permissions") from error
