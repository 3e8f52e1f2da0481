"""The task `zebra classify`: name what is in images."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zebra.config.classify import ClassifyConfig
from zebra.config.cores import usable_cores
from zebra.data.ignored import Ignored, IgnoredCounter, format_counts
from zebra.data.locations import ImageRef, Location
from zebra.data.regular_files import read_image_bytes
from zebra.embed.preprocessing import ImagePreprocessor, read_record
from zebra.errors import BadSample, ConfigError, DataError
from zebra.images.formats import IMAGE_SUFFIXES
from zebra.images.tensors import stack_pixels
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.classifier import ImageClassifier, load_classifier
from zebra.pretrained.load import load
from zebra.pretrained.torch_threads import limit_torch_threads
from zebra.text.labels import require_distinct_labels, validate_labels
from zebra.values import Classification, Record

if TYPE_CHECKING:
    from zebra.data.sources import ScannableSource
    from zebra.evaluators.classifier import Calibration

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".json")
"""Suffixes of files that may list class names, and that no class name has."""
STANDARD_INPUT = "-"
BATCH_SIZE = 32
DEFAULT_TOP_K = 5


@dataclass(frozen=True, slots=True)
class ImageResult:
    """An image and its classification, or why it cannot be used."""

    image: str
    """Its path; of images in shards and tables, also their name there."""
    result: Classification | BadSample


@dataclass(frozen=True, slots=True)
class ClassifyCounts:
    """Counts of a run."""

    num_images: int
    """Images that were classified."""
    num_unknown: int
    """Those that show none of the classes."""
    skipped: tuple[Ignored, ...]
    """Images that cannot be used, by reason."""
    ignored: tuple[Ignored, ...]
    """Other files in the folders, by reason."""
    threshold: float | None
    calibration: "Calibration | None"
    """Of labels, if `config.calibrate` is set."""


def run(config: ClassifyConfig, callback: Callable[[ImageResult], None] = lambda _result: None) -> ClassifyCounts:
    """Classify images in their order; memory does not grow with their number.

    Args:
        callback: Called with each result as soon as it is computed.

    Raises:
        ConfigError: A label is empty or the name of a file, two are one text to the model, or images to calibrate by
            have another class.
        WeightsError: The model or the classifier is damaged, or they do not belong together.
        DataError: A folder has no images, or no image can be used.
    """
    # Before the model is loaded, so that a typing error costs no wait.
    if config.labels:
        _require_no_files(validate_labels(config.labels))
    inputs = ImageInputs(config.images)
    clip = load(config.model, device=config.device)
    classifier, calibration = build_classifier(config, clip)
    prepare = partial(_prepare_image, ImagePreprocessor(clip.preprocess, thumbnail_size=0))
    num_images = num_unknown = 0
    skipped = IgnoredCounter()
    with limit_torch_threads(1), ThreadPoolExecutor(usable_cores(), "decode") as executor:
        for batch in inputs.iter_batches():
            images = list(executor.map(prepare, batch))
            pixels = [image for image in images if not isinstance(image, BadSample)]
            results = iter(
                classifier.classify_pixels(stack_pixels(pixels), top_k=config.top_k or DEFAULT_TOP_K) if pixels else ()
            )
            for ref, image in zip(batch, images, strict=True):
                result = image if isinstance(image, BadSample) else next(results)
                if isinstance(result, BadSample):
                    skipped.add(result.reason, ref.location.path)
                else:
                    num_images += 1
                    num_unknown += result.label is None
                callback(ImageResult(ref.location.path, result))
    if not num_images:
        reasons = format_counts(skipped.entries())
        raise DataError(f"no image can be used: {reasons}" if reasons else "there are no paths on standard input")
    return ClassifyCounts(num_images, num_unknown, skipped.entries(), inputs.ignored, classifier.threshold, calibration)


def build_classifier(config: ClassifyConfig, clip: Bundle) -> "tuple[ImageClassifier, Calibration | None]":
    """Open the classifier, or build one from the labels, and calibrate that if there are images to do so."""
    if config.classifier is not None:
        classifier = load_classifier(config.classifier, clip)
        if config.threshold is not None:
            classifier.threshold = config.threshold
        return classifier, None
    require_distinct_labels(config.labels, clip.require_tokenizer())
    class_CE = clip.class_vectors(config.labels, config.templates or None)
    calibration = None
    if config.calibrate is not None:
        calibration = _calibrate_labels(clip, config.labels, class_CE.numpy(), config.calibrate)
    threshold = calibration.threshold if calibration and config.threshold is None else config.threshold
    temperature = calibration.temperature if calibration else None
    return ImageClassifier(clip, config.labels, class_CE, temperature=temperature, threshold=threshold), calibration


def _calibrate_labels(
    clip: Bundle, labels: Sequence[str], class_CE: NDArray[np.float32], dataset: str
) -> "Calibration":
    """Choose temperature and threshold by images whose classes are among the labels."""
    # Imported late, because they import scikit-learn and every reader of datasets.
    from zebra.evaluators.classifier import calibrate, embed_examples
    from zebra.workflows.probe import load_examples

    benchmark = load_examples(dataset)
    examples = embed_examples(clip, benchmark.source)
    positions = {label: index for index, label in enumerate(labels)}
    names = [benchmark.classnames[label] for label in examples.labels.tolist()]
    if unknown := [name for name in dict.fromkeys(names) if name not in positions]:
        raise ConfigError(
            f"--calibrate {dataset} has the class {unknown[0]!r}, which is no label. Rename the class, or add the label"
        )
    cosine_NC = examples.vectors.vectors @ class_CE.T
    return calibrate(clip.logit_scale * cosine_NC, cosine_NC, np.array([positions[name] for name in names]))


class ImageInputs:
    """The images of a command, in their order; `-` reads their paths from standard input."""

    def __init__(self, names: Sequence[str]) -> None:
        """Open the folders and datasets; DataError if one has no images."""
        self._has_stdin = STANDARD_INPUT in names
        if names.count(STANDARD_INPUT) > 1:
            raise ConfigError("- is given twice; standard input can be read once")
        sources = {name: _open_dataset(name) for name in names if _is_dataset(name)}
        self.ignored = IgnoredCounter(entry for source in sources.values() for entry in source.ignored).entries()
        self._refs = chain.from_iterable(
            map(partial(_name_by_path, name), sources[name].scan())
            if name in sources
            else map(_file_ref, _iter_stdin_lines() if name == STANDARD_INPUT else [name])
            for name in names
        )

    def iter_batches(self) -> Iterator[list[ImageRef]]:
        """Yield batches; from standard input, what has arrived, so that a slow program delays no result."""
        if self._has_stdin:
            yield from _batch_available(self._refs, BATCH_SIZE)
            return
        while batch := list(islice(self._refs, BATCH_SIZE)):
            yield batch


def _is_dataset(name: str) -> bool:
    if name == STANDARD_INPUT:
        return False
    path = Path(name)
    if "://" in name or _is_dir(path):
        return True
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return False
    from zebra.data.table_files import TABLE_FORMATS

    return suffix in (".tar", *TABLE_FORMATS)


def _open_dataset(name: str) -> "ScannableSource":
    # Imported late, because single images need no reader of datasets.
    from zebra.config.data import DataConfig
    from zebra.data.sources import open_images

    return open_images(name, DataConfig())


def _file_ref(name: str) -> ImageRef:
    def read() -> Record:
        if not Path(name).exists():
            raise BadSample("missing file", name)
        return Record(name, read_image_bytes(Path(name), name))

    return ImageRef(Location(name, "", name), read)


def _name_by_path(name: str, ref: ImageRef) -> ImageRef:
    """Return an image of the folder or dataset `name` with a path that users know it by.

    It begins as `name` does, and tells an image in a shard or table from the others there.
    """
    location = ref.location
    path, folder = Path(location.path), Path(name).expanduser().resolve()
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        path /= location.key
    shown = Path(name) / path.relative_to(folder) if path.is_relative_to(folder) else path
    return ImageRef(Location(location.key, location.stamp, str(shown)), ref.load)


def _iter_stdin_lines() -> Iterator[str]:
    for line in sys.stdin.buffer:
        if name := line.rstrip(b"\r\n"):
            yield os.fsdecode(name)


def _batch_available(refs: Iterable[ImageRef], max_size: int) -> Iterator[list[ImageRef]]:
    """Yield the items that are there, at least one and at most `max_size`."""
    queue: SimpleQueue[ImageRef | BaseException | None] = SimpleQueue()

    def fill() -> None:
        try:
            for ref in refs:
                queue.put(ref)
            queue.put(None)
        except BaseException as error:  # raised in the consumer
            queue.put(error)

    Thread(target=fill, daemon=True).start()
    item: ImageRef | BaseException | None = queue.get()
    while item is not None:
        batch: list[ImageRef] = []
        while isinstance(item, ImageRef):
            batch.append(item)
            if len(batch) == max_size or queue.empty():
                break
            item = queue.get()
        if batch:
            yield batch
        if isinstance(item, BaseException):
            raise item
        if item is not None:
            item = queue.get()


def _prepare_image(preprocess: ImagePreprocessor, ref: ImageRef) -> NDArray[np.uint8] | BadSample:
    try:
        return preprocess(read_record(ref).image, ref.location.key).pixels_3HW
    except BadSample as bad:
        return bad


def _require_no_files(labels: Iterable[str]) -> None:
    """Raise ConfigError for a label that is a file: its name would be scored, not the names in it."""
    for label in labels:
        suffix = Path(label).suffix.lower()
        if suffix in LIST_SUFFIXES or (suffix and _is_file(label)):
            raise ConfigError(
                f"the label {label!r} is the name of a file. To read labels from a text file, one per line, write "
                f"--labels @{label}"
            )


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # too long for a path
        return False


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long for a path
        return False
