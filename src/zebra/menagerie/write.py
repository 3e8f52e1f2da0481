"""Write the menagerie: training shards and evaluation datasets."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from zebra.data.benchmarks.writer import write_classification
from zebra.data.shard_writer import ShardWriter
from zebra.errors import DataError
from zebra.menagerie.datasets import DIGIT_CLASSNAMES, DIGIT_TEMPLATES, DRAWN_DATASETS
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.sample import TRAIN_SPLIT, generate_sample

MENAGERIE_VERSION = 2
"""Version of drawings, phrases and file contents; a directory of another version is refused."""
HANDWRITTEN_DIGITS = "handwritten-digits"
CHUNK_SIZE = 100
"""Images per task of a worker process."""
TRAIN_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class MenageriePaths:
    """Paths of a written menagerie."""

    train_dir: Path
    """Directory of tar shards."""
    evaluation_dirs: dict[str, Path]
    """Dataset name → its directory."""


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One encoded image with its caption, attributes and label."""

    image: bytes
    caption: str
    attributes_json: str
    """The ImageAttributes as JSON."""
    label: int


def write_menagerie(
    out: Path,
    num_samples: int,
    seed: int,
    workers: int = 2,
    callback: Callable[[int, int], None] = lambda _done, _total: None,
) -> MenageriePaths:
    """Write the menagerie to `out`, unless the same menagerie is already complete there.

    Args:
        out: Directory for train/, evaluation/ and menagerie.json; an incomplete menagerie is written again.
        num_samples: Number of training pairs; evaluation datasets have a fixed size.
        seed: Seed of all images and captions.
        workers: Number of worker processes; the files do not depend on it.
        callback: Called with (images done, total images).

    Raises:
        DataError: If the directory holds anything else; nothing in it is changed.
    """
    paths = MenageriePaths(
        out / "train", {name: out / "evaluation" / name for name in (*DRAWN_DATASETS, HANDWRITTEN_DIGITS)}
    )
    metadata = {"kind": "menagerie", "version": MENAGERIE_VERSION, "samples": num_samples, "seed": seed}
    if _prepare_out_dir(out, metadata):
        return paths
    total = num_samples + sum(dataset.num_samples for dataset in DRAWN_DATASETS.values())
    num_done = 0

    def draw_split(split: str, size: int) -> Iterator[EncodedSample]:
        nonlocal num_done
        chunks = [range(start, min(start + CHUNK_SIZE, size)) for start in range(0, size, CHUNK_SIZE)]
        for samples in map_chunks(partial(draw_chunk, seed, split), chunks):
            yield from samples
            num_done += len(samples)
            callback(num_done, total)

    with _open_worker_pool(workers) as map_chunks:
        with ShardWriter(paths.train_dir) as writer:
            for index, sample in enumerate(draw_split(TRAIN_SPLIT, num_samples)):
                fields = {"jpg": sample.image, "txt": sample.caption.encode(), "json": sample.attributes_json.encode()}
                writer.write(f"{index:09d}", fields)
        for name, dataset in DRAWN_DATASETS.items():
            samples = ((sample.image, "png", sample.label) for sample in draw_split(name, dataset.num_samples))
            write_classification(paths.evaluation_dirs[name], samples, dataset.classnames, dataset.templates)
    digits = ((_encode_image(image, "PNG"), "png", digit) for image, digit in iter_handwritten_digits())
    write_classification(paths.evaluation_dirs[HANDWRITTEN_DIGITS], digits, DIGIT_CLASSNAMES, DIGIT_TEMPLATES)
    _write_metadata(out, metadata, finished=True)
    return paths


def draw_chunk(seed: int, split: str, indices: range) -> list[EncodedSample]:
    """Draw and encode samples of a split; runs in the worker processes."""
    image_format = "JPEG" if split == TRAIN_SPLIT else "PNG"
    return [
        EncodedSample(
            _encode_image(image, image_format), caption, json.dumps(asdict(attributes), sort_keys=True), label
        )
        for image, caption, attributes, label in (generate_sample(seed, split, index) for index in indices)
    ]


def _encode_image(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(
        buffer, image_format, quality=TRAIN_JPEG_QUALITY, subsampling="4:4:4"
    )  # chroma subsampling would blur the patterns
    return buffer.getvalue()


@contextmanager
def _open_worker_pool(workers: int) -> Iterator[Callable[..., Iterator[list[EncodedSample]]]]:
    """Yield the function `map`, of this process or of a pool."""
    if workers == 1:
        yield map
        return
    # Spawn: the caller may have threads (progress display, torch) that do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield pool.map
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, do not wait for pending tasks


def _prepare_out_dir(out: Path, metadata: dict[str, object]) -> bool:
    """Return True if the menagerie is complete; else empty the directory and mark it as incomplete."""
    path = out / "menagerie.json"
    if path.is_file():
        existing = _read_metadata(path)
        finished = existing.pop("finished", False)
        if existing != metadata:
            requested = f"samples {metadata['samples']}, seed {metadata['seed']}, version {metadata['version']}"
            raise DataError(
                f"{out} holds another menagerie, not {requested}; see {path}. Choose another directory or remove it."
            )
        if finished:
            return True
        for name in ("train", "evaluation"):
            shutil.rmtree(out / name, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty and has no menagerie.json. Choose a new directory.")
    out.mkdir(parents=True, exist_ok=True)
    _write_metadata(out, metadata, finished=False)
    return False


def _read_metadata(path: Path) -> dict[str, object]:
    try:
        metadata = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"invalid JSON in {path}: {error}. Choose another directory or remove it.") from error
    return metadata if isinstance(metadata, dict) else {}


def _write_metadata(out: Path, metadata: dict[str, object], *, finished: bool) -> None:
    text = json.dumps(metadata | {"finished": finished}, indent=2, sort_keys=True)
    (out / "menagerie.json").write_text(text + "\n", encoding="utf-8")
