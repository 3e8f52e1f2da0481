"""`zebra overlap`: near duplicates of test images in the training data (CLIP §5).

1. Train a small detector on distorted copies of the training images (`train/duplicate_detector.py`).
2. Embed all training images with it, block by block, and find the nearest one of each evaluation image.
3. Compare perceptual hashes, which find copies that were only rescaled, recompressed or mirrored.
4. Do both with and without uniform borders.
5. Compare accuracy on all images, on those without a duplicate (clean) and on those with one (overlap).
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zebra.config.overlap import OverlapConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.locations import ImageRef
from zebra.data.sources import Source, open_images
from zebra.errors import BadSample, ConfigError, DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.results import create_out_dir
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.borders import trim_borders
from zebra.images.decode import decode_image
from zebra.images.perceptual_hash import compute_perceptual_hashes
from zebra.pretrained.load import load
from zebra.protocols.near_duplicates import ImageSignatures, NearestTrainImages, ThresholdProbes, concatenate_signatures
from zebra.protocols.overlap import OverlapScores, bonferroni_correction, evaluate_overlap
from zebra.train.duplicate_detector import DuplicateDetector, train_duplicate_detector

MAX_DETECTOR_IMAGES = 20_000
"""Most training images for the detector, evenly spaced."""
MIN_PROBES = 1000
"""Training images that calibrate the threshold; all if there are fewer, and less than twice as many."""
IMAGES_PER_BLOCK = 256
MAX_SIDE_PIXELS = 256
"""Longer side of an image after loading; the detector uses 64 pixels."""


@dataclass(frozen=True, slots=True)
class NearestPair:
    """An evaluation image and its nearest training image."""

    dataset: str
    id: str
    train_location: str
    cosine: float
    hash_distance: int
    """Bits that differ from the nearest perceptual hash, which may belong to another training image."""
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class OverlapResult:
    """Overlap of one dataset with the training data."""

    dataset: str
    threshold: float
    scores: OverlapScores
    corrected_fisher_p_value: float | None
    """p-value of Fisher's exact test after Bonferroni correction."""
    corrected_binomial_p_value: float | None
    """p-value of the paper's binomial test after Bonferroni correction."""


def run(
    config: OverlapConfig, callback: Callable[[int, int, str], None] = lambda _done, _total, _phase: None
) -> list[OverlapResult]:
    """Find duplicates; write `out/overlap.json` and `out/pairs.csv`, which lists the nearest pairs first.

    Args:
        config: Model, training data and evaluation datasets.
        callback: Called with the number of steps or images done, their total and the phase.

    Raises:
        ConfigError: A dataset is not a classification dataset.
        DataError: The training data cannot be read, or has too few images to train a detector.
    """
    out_dir = create_out_dir(config.out)
    datasets = [load_dataset(name, "test", config.data_root) for name in config.datasets]
    benchmarks = [dataset for dataset in datasets if isinstance(dataset, ClassificationBenchmark)]
    if len(benchmarks) < len(datasets):
        raise ConfigError(
            "zebra overlap supports only datasets with one label per image. Leave out captioned and multilabel ones."
        )
    clip = load(config.model, device=config.device)
    train_images = list(open_images(config.data, config.data_options).scan())
    detector = _train_detector(train_images, config, callback)
    nearest_by_dataset = {
        benchmark.name: NearestTrainImages(_sign_images(_iter_eval_images(benchmark.source), detector)[0])
        for benchmark in benchmarks
    }
    probe_images = train_images[:: max(1, len(train_images) // MIN_PROBES)]
    probes = ThresholdProbes(*_sign_images(_iter_train_images(probe_images), detector))
    num_done = 0
    for block in _iter_blocks(_iter_train_images(train_images)):
        train, locations = _sign_block(block, detector)
        for nearest in nearest_by_dataset.values():
            nearest.update(train, locations)
        probes.update(train, locations)
        num_done += len(block)
        callback(num_done, len(train_images), "comparing")
    threshold = probes.compute_threshold() if config.threshold is None else config.threshold
    results, pairs = [], []
    scores: dict[str, OverlapScores] = {}
    for benchmark in benchmarks:
        nearest = nearest_by_dataset[benchmark.name]
        is_duplicate_N = nearest.find_duplicates(threshold)
        scores[benchmark.name] = evaluate_overlap(
            evaluate_zero_shot(clip, benchmark).ensemble.correct_N, is_duplicate_N
        )
        results.append(OverlapResult(benchmark.name, threshold, scores[benchmark.name], None, None))
        for row, location in enumerate(nearest.location_N):
            id = benchmark.source.sample_id(row)
            cosine, hash_distance = float(nearest.cosine_N[row]), int(nearest.hash_distance_N[row])
            pairs.append(NearestPair(benchmark.name, id, location, cosine, hash_distance, bool(is_duplicate_N[row])))
    fisher = bonferroni_correction({name: score.fisher_p_value for name, score in scores.items()})
    binomial = bonferroni_correction({name: score.binomial_p_value for name, score in scores.items()})
    results = [
        replace(
            result,
            corrected_fisher_p_value=fisher.get(result.dataset),
            corrected_binomial_p_value=binomial.get(result.dataset),
        )
        for result in results
    ]
    _write_results(out_dir, results, pairs)
    return results


def _train_detector(
    train_images: Sequence[ImageRef], config: OverlapConfig, callback: Callable[[int, int, str], None]
) -> DuplicateDetector:
    subset = train_images[:: max(1, len(train_images) // MAX_DETECTOR_IMAGES)]
    replacement_rng = np.random.default_rng(config.seed)

    def load_images(rows: NDArray[np.int64]) -> list[Image.Image]:
        images = []
        for row in rows.tolist():
            image = _load_train_image(subset[row])
            for _ in range(100):  # replace an unusable image; give up if all are unusable
                if image is not None:
                    break
                image = _load_train_image(subset[int(replacement_rng.integers(len(subset)))])
            if image is None:
                raise DataError(f"almost no image of {config.data} can be read. `zebra doctor` lists the reasons.")
            images.append(trim_borders(image))
        return images

    return train_duplicate_detector(
        load_images,
        len(subset),
        steps=config.steps,
        seed=config.seed,
        callback=lambda step, _loss: callback(step, config.steps, "training a detector"),
    )


def _sign_images(
    images: Iterator[tuple[str, Image.Image]], detector: DuplicateDetector
) -> tuple[ImageSignatures, list[str]]:
    """Return signatures and names of all images; only one block of images is open at a time."""
    blocks = [_sign_block(block, detector) for block in _iter_blocks(images)]
    return concatenate_signatures([signatures for signatures, _ in blocks]), [
        name for _, names in blocks for name in names
    ]


def _sign_block(
    block: Sequence[tuple[str, Image.Image]], detector: DuplicateDetector
) -> tuple[ImageSignatures, list[str]]:
    """Return the signatures of each image with and without its borders."""
    images = [image for _, image in block]
    views = [images, [trim_borders(image) for image in images]]
    signatures = ImageSignatures(
        np.stack([detector(view) for view in views]),
        np.stack([compute_perceptual_hashes(view) for view in views]),
        np.stack([compute_perceptual_hashes([ImageOps.mirror(image) for image in view]) for view in views]),
    )
    return signatures, [name for name, _ in block]


def _iter_blocks(images: Iterator[tuple[str, Image.Image]]) -> Iterator[list[tuple[str, Image.Image]]]:
    while block := list(islice(images, IMAGES_PER_BLOCK)):
        yield block


def _iter_eval_images(source: Source) -> Iterator[tuple[str, Image.Image]]:
    for index in range(len(source)):
        record = source.read(index)
        yield record.id, _shrink(decode_image(record.image, record.id))


def _iter_train_images(train_images: Sequence[ImageRef]) -> Iterator[tuple[str, Image.Image]]:
    for train_image in train_images:
        if (image := _load_train_image(train_image)) is not None:
            yield train_image.location.key, image


def _load_train_image(train_image: ImageRef) -> Image.Image | None:
    """Load a training image; return None if it cannot be decoded, as training skips it too."""
    try:
        image = decode_image(train_image.load().image, train_image.location.key)
    except BadSample:
        return None
    return _shrink(image)


def _shrink(image: Image.Image) -> Image.Image:
    image.thumbnail((MAX_SIDE_PIXELS, MAX_SIDE_PIXELS), Image.Resampling.BICUBIC)
    return image


def _write_results(out_dir: Path, results: Sequence[OverlapResult], pairs: list[NearestPair]) -> None:
    documents = [asdict(result) | {"inflation": result.scores.inflation} for result in results]
    (out_dir / "overlap.json").write_text(json.dumps(documents, indent=1) + "\n", encoding="utf-8")
    pairs.sort(key=lambda pair: -pair.cosine)
    with (out_dir / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NearestPair.__slots__)
        writer.writerows([getattr(pair, name) for name in NearestPair.__slots__] for pair in pairs)
