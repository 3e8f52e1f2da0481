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

from zebra.data.benchmarks.writer import write_benchmark
from zebra.data.shards import ShardWriter
from zebra.errors import DataError
from zebra.menagerie.datasets import DIGIT_TEMPLATES, DIGITS, DRAWN
from zebra.menagerie.handwriting import handwritten_digits
from zebra.menagerie.sample import TRAIN, label, picture

VERSION = 1
"""Of the drawings and phrases: a new one makes a finished world a different one."""
HANDWRITTEN = "handwritten-digits"
CHUNK = 100
"""Pictures that a process draws before it hands them over."""
JPEG_QUALITY = 92


@dataclass(frozen=True, slots=True)
class World:
    """Where a written world lies."""

    train: Path
    """Folder of tar shards."""
    evaluation: dict[str, Path]
    """Set name → its folder."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One encoded picture on its way to a shard."""

    image: bytes
    caption: str
    facts: str
    """As JSON."""
    label: int


def write_world(
    out: Path,
    samples: int,
    seed: int,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> World:
    """Write the world into `out`, or return it untouched if this very world is there already.

    Args:
        out: Folder for train/, evaluation/ and world.json; a world left unfinished there is written anew.
        samples: Training pairs; the evaluation sets keep their size.
        seed: Of every picture and caption.
        processes: How many draw at a time; the bytes are the same for any number.
        progress: Called with (pictures done, pictures in all).

    Raises:
        DataError: The folder holds something else; nothing in it is changed.
    """
    world = World(out / "train", {name: out / "evaluation" / name for name in (*DRAWN, HANDWRITTEN)})
    passport = {"kind": "menagerie", "version": VERSION, "samples": samples, "seed": seed}
    if _claim(out, passport):
        return world
    count = _Counter(samples + sum(one.size for one in DRAWN.values()), progress)
    with _drawers(processes) as draw_all:
        with ShardWriter(world.train) as writer:
            for index, drawn in enumerate(count.each(draw_all(seed, TRAIN, samples))):
                fields = {"jpg": drawn.image, "txt": drawn.caption.encode(), "json": drawn.facts.encode()}
                writer.write(f"{index:09d}", fields)
        for name, one in DRAWN.items():
            pictures = (
                (drawn.image, "png", drawn.label) for drawn in count.each(draw_all(seed, name, one.size))
            )
            write_benchmark(world.evaluation[name], pictures, one.classnames, one.templates)
    digits = ((_encoded(image, "PNG"), "png", digit) for image, digit in handwritten_digits())
    write_benchmark(world.evaluation[HANDWRITTEN], digits, DIGITS, DIGIT_TEMPLATES)
    _stamp(out, passport, finished=True)
    return world


def draw_chunk(seed: int, split: str, indices: range) -> list[Drawn]:
    """Draw and encode some pictures of a split; runs in the drawing processes."""
    return [_drawn(seed, split, index) for index in indices]


def _drawn(seed: int, split: str, index: int) -> Drawn:
    image, caption, facts = picture(seed, split, index)
    if split == TRAIN:
        return Drawn(_encoded(image, "JPEG"), caption, json.dumps(asdict(facts), sort_keys=True), -1)
    return Drawn(_encoded(image, "PNG"), caption, "", label(seed, split, index))


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=JPEG_QUALITY, subsampling="4:4:4")  # a pattern is nothing but colour
    return buffer.getvalue()


@contextmanager
def _drawers(processes: int) -> Iterator[Callable[[int, str, int], Iterator[Drawn]]]:
    """Give a function (seed, split, size) → pictures in order, drawn here or by a pool."""

    def chunks(size: int) -> list[range]:
        return [range(start, min(start + CHUNK, size)) for start in range(0, size, CHUNK)]

    if processes == 1:
        yield lambda seed, split, size: chain.from_iterable(
            map(partial(draw_chunk, seed, split), chunks(size))
        )
        return
    # Spawned, since the caller may hold threads (a progress display, torch) that do not survive a fork.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        try:
            yield lambda seed, split, size: chain.from_iterable(
                pool.map(draw_chunk, repeat(seed), repeat(split), chunks(size))
            )
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C nobody waits for the rest


class _Counter:
    """Counts what passes through."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.total = total
        self.progress = progress
        self.done = 0

    def each(self, pictures: Iterator[Drawn]) -> Iterator[Drawn]:
        for drawn in pictures:
            yield drawn
            self.done += 1
            if self.progress and (self.done % CHUNK == 0 or self.done == self.total):
                self.progress(self.done, self.total)


def _claim(out: Path, passport: dict[str, object]) -> bool:
    """Return True if the world is there; else leave the folder empty but for an unfinished world.json."""
    path = out / "world.json"
    if path.is_file():
        found = _read_passport(path)
        finished = found.pop("finished", False)
        if found != passport:
            asked = f"samples {passport['samples']}, seed {passport['seed']}, version {passport['version']}"
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
    _stamp(out, passport, finished=False)
    return False


def _read_passport(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): choose another folder or remove it") from error
    return found if isinstance(found, dict) else {}


def _stamp(out: Path, passport: dict[str, object], *, finished: bool) -> None:
    text = json.dumps(passport | {"finished": finished}, indent=2, sort_keys=True)
    (out / "world.json").write_text(text + "\n", encoding="utf-8")
