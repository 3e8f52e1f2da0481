"""A folder, a size and a seed in; the whole world as training shards and evaluation folders out."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, repeat
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from zebra.data.benchmarks.writer import write_classification
from zebra.data.shard_writer import ShardWriter
from zebra.errors import DataError
from zebra.menagerie.datasets import DIGIT_CLASSNAMES, DIGIT_TEMPLATES, DRAWN_DATASETS
from zebra.menagerie.handwriting import iter_handwritten_digits
from zebra.menagerie.sample import TRAIN_SPLIT, generate_sample, get_label

MENAGERIE_VERSION = 1
"""Of the drawings and phrases: a new one makes a finished world a different one."""
HANDWRITTEN_DIGITS = "handwritten-digits"
CHUNK_SIZE = 100
"""Pictures that a process draws before it hands them over."""
TRAIN_JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class MenageriePaths:
    """Where a written world lies."""

    train_dir: Path
    """Folder of tar shards."""
    evaluation_dirs: dict[str, Path]
    """Set name → its folder."""


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One encoded picture on its way to a shard."""

    image: bytes
    caption: str
    attributes_json: str
    """As JSON."""
    label: int


def write_menagerie(
    out: Path,
    num_samples: int,
    seed: int,
    workers: int = 2,
    callback: Callable[[int, int], None] | None = None,
) -> MenageriePaths:
    """Write the world into `out`, or return it untouched if this very world is there already.

    Args:
        out: Folder for train/, evaluation/ and world.json; a world left unfinished there is written anew.
        num_samples: Training pairs; the evaluation sets keep their size.
        seed: Of every picture and caption.
        workers: How many draw at a time; the bytes are the same for any number.
        callback: Called with (pictures done, pictures in all).

    Raises:
        DataError: The folder holds something else; nothing in it is changed.
    """
    world = MenageriePaths(
        out / "train", {name: out / "evaluation" / name for name in (*DRAWN_DATASETS, HANDWRITTEN_DIGITS)}
    )
    passport = {"kind": "menagerie", "version": MENAGERIE_VERSION, "samples": num_samples, "seed": seed}
    if _prepare_out_dir(out, passport):
        return world
    count = _ProgressCounter(num_samples + sum(one.num_samples for one in DRAWN_DATASETS.values()), callback)
    with _open_worker_pool(workers) as draw_all:
        with ShardWriter(world.train_dir) as writer:
            for index, drawn in enumerate(count.iterate(draw_all(seed, TRAIN_SPLIT, num_samples))):
                fields = {
                    "jpg": drawn.image,
                    "txt": drawn.caption.encode(),
                    "json": drawn.attributes_json.encode(),
                }
                writer.write(f"{index:09d}", fields)
        for name, one in DRAWN_DATASETS.items():
            pictures = (
                (drawn.image, "png", drawn.label)
                for drawn in count.iterate(draw_all(seed, name, one.num_samples))
            )
            write_classification(world.evaluation_dirs[name], pictures, one.classnames, one.templates)
    digits = ((_encode_image(image, "PNG"), "png", digit) for image, digit in iter_handwritten_digits())
    write_classification(world.evaluation_dirs[HANDWRITTEN_DIGITS], digits, DIGIT_CLASSNAMES, DIGIT_TEMPLATES)
    _write_metadata(out, passport, finished=True)
    return world


def draw_chunk(seed: int, split: str, indices: range) -> list[EncodedSample]:
    """Draw and encode some pictures of a split; runs in the drawing processes."""
    return [_draw_encoded_sample(seed, split, index) for index in indices]


def _draw_encoded_sample(seed: int, split: str, index: int) -> EncodedSample:
    image, caption, facts = generate_sample(seed, split, index)
    if split == TRAIN_SPLIT:
        return EncodedSample(
            _encode_image(image, "JPEG"), caption, json.dumps(asdict(facts), sort_keys=True), -1
        )
    return EncodedSample(_encode_image(image, "PNG"), caption, "", get_label(seed, split, index))


def _encode_image(image: Image.Image, image_format: str) -> bytes:
    buffer = io.BytesIO()
    image.save(
        buffer, image_format, quality=TRAIN_JPEG_QUALITY, subsampling="4:4:4"
    )  # a pattern is nothing but colour
    return buffer.getvalue()


@contextmanager
def _open_worker_pool(workers: int) -> Iterator[Callable[[int, str, int], Iterator[EncodedSample]]]:
    """Give a function (seed, split, size) → pictures in order, drawn here or by a pool."""

    def chunks(size: int) -> list[range]:
        return [range(start, min(start + CHUNK_SIZE, size)) for start in range(0, size, CHUNK_SIZE)]

    if workers == 1:
        yield lambda seed, split, size: chain.from_iterable(
            map(partial(draw_chunk, seed, split), chunks(size))
        )
        return
    # Spawned, since the caller may hold threads (a progress display, torch) that do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield lambda seed, split, size: chain.from_iterable(
                pool.map(draw_chunk, repeat(seed), repeat(split), chunks(size))
            )
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the rest


class _ProgressCounter:
    """Counts what passes through."""

    def __init__(self, num_total: int, callback: Callable[[int, int], None] | None) -> None:
        self.num_total = num_total
        self.callback = callback
        self.num_done = 0

    def iterate(self, samples: Iterator[EncodedSample]) -> Iterator[EncodedSample]:
        for drawn in samples:
            yield drawn
            self.num_done += 1
            if self.callback and (self.num_done % CHUNK_SIZE == 0 or self.num_done == self.num_total):
                self.callback(self.num_done, self.num_total)


def _prepare_out_dir(out: Path, metadata: dict[str, object]) -> bool:
    """Return True if the world is there; else leave the folder empty but for an unfinished world.json."""
    path = out / "world.json"
    if path.is_file():
        found = _read_metadata(path)
        finished = found.pop("finished", False)
        if found != metadata:
            asked = f"samples {metadata['samples']}, seed {metadata['seed']}, version {metadata['version']}"
            raise DataError(
                f"{out} holds another world than {asked}: see {path}; choose another folder or remove it"
            )
        if finished:
            return True
        for name in ("train", "evaluation"):
            shutil.rmtree(out / name, ignore_errors=True)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is not empty and holds no world.json: choose a new folder for the world")
    out.mkdir(parents=True, exist_ok=True)
    _write_metadata(out, metadata, finished=False)
    return False


def _read_metadata(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): choose another folder or remove it") from error
    return found if isinstance(found, dict) else {}


def _write_metadata(out: Path, metadata: dict[str, object], *, finished: bool) -> None:
    text = json.dumps(metadata | {"finished": finished}, indent=2, sort_keys=True)
    (out / "world.json").write_text(text + "\n", encoding="utf-8")
