"""`zebra overlap`: near duplicates of test images in the training data (CLIP §5).

1. Train a small detector on distorted copies of the training images (`train/duplicate_detector.py`).
2. Embed all training images with it, block by block, and find the nearest one of each evaluation image.
3. Compare perceptual hashes, which find copies that were only rescaled or recompressed.
4. Compare accuracy on all images, on those without a duplicate (clean) and on those with one (overlap).
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.overlap import OverlapConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.locations import ImageRef
from zebra.data.sources import Source, open_images
from zebra.errors import BadSample, ConfigError, DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.results import create_out_dir
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.decode import decode_image
from zebra.images.distort import distort_image
from zebra.images.perceptual_hash import compute_perceptual_hashes, find_nearest_hashes
from zebra.pretrained.load import load
from zebra.protocols.overlap import OverlapScores, bonferroni_correction, evaluate_overlap
from zebra.train.duplicate_detector import IMAGE_SIZE, DuplicateDetector, train_duplicate_detector

MAX_DETECTOR_IMAGES = 20_000
"""Most training images for the detector, evenly spaced."""
FALSE_POSITIVE_RATE = 0.01
"""Target share of clean images that the threshold marks as duplicates; the paper chose its thresholds by eye."""
NUM_PROBES = 512
"""Distorted training images that calibrate the threshold."""
MAX_HASH_DISTANCE = 2
"""Largest number of different bits between the hashes of duplicates."""
TRAIN_IMAGES_PER_BLOCK = 256
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


@dataclass(slots=True)
class NearestTrainImages:
    """Nearest training image of each evaluation image so far."""

    cosine_N: NDArray[np.float32]
    location_N: list[str]
    hash_distance_N: NDArray[np.int64]


def run(
    config: OverlapConfig, callback: Callable[[str, int, int], None] = lambda _phase, _done, _total: None
) -> list[OverlapResult]:
    """Find duplicates; write `out/overlap.json` and `out/pairs.csv`, which lists the nearest pairs first.

    Args:
        config: Model, training data and evaluation datasets.
        callback: Called with the phase, the number of steps done and their total.

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
    clip = load(config.model)
    train_images = list(open_images(config.data, config.data_options).scan())
    detector = _train_detector(train_images, config, callback)
    eval_images = {benchmark.name: _load_eval_images(benchmark.source) for benchmark in benchmarks}
    vectors = {name: detector(images) for name, images in eval_images.items()}
    hashes = {name: compute_perceptual_hashes(images) for name, images in eval_images.items()}
    nearest_by_dataset = {
        name: NearestTrainImages(np.full(len(images), -1, np.float32), [""] * len(images), np.full(len(images), 65))
        for name, images in eval_images.items()
    }
    probes = _build_probes(train_images, detector, config.seed)
    num_done = 0
    for locations, images in _iter_train_blocks(train_images):
        train_ME, hash_M = detector(images), compute_perceptual_hashes(images)
        for name, nearest in nearest_by_dataset.items():
            _update_nearest(nearest, vectors[name] @ train_ME.T, locations)
            nearest.hash_distance_N = np.minimum(nearest.hash_distance_N, find_nearest_hashes(hashes[name], hash_M)[0])
        probes.update(train_ME, locations)
        num_done += len(images)
        callback("comparing", num_done, len(train_images))
    threshold = probes.compute_threshold() if config.threshold is None else config.threshold
    results, pairs = [], []
    scores: dict[str, OverlapScores] = {}
    for benchmark in benchmarks:
        nearest = nearest_by_dataset[benchmark.name]
        is_duplicate_N = (nearest.cosine_N >= threshold) | (nearest.hash_distance_N <= MAX_HASH_DISTANCE)
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
    train_images: Sequence[ImageRef], config: OverlapConfig, callback: Callable[[str, int, int], None]
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
            images.append(image)
        return images

    return train_duplicate_detector(
        load_images,
        len(subset),
        steps=config.steps,
        seed=config.seed,
        callback=lambda step, _loss: callback("training a detector", step, config.steps),
    )


@dataclass(slots=True)
class ThresholdProbes:
    """Distorted training images and, for each, the cosine of the nearest different training image."""

    vector_SE: NDArray[np.float32]
    location_S: list[str]
    max_wrong_cosine_S: NDArray[np.float32]

    def update(self, train_ME: NDArray[np.float32], locations: Sequence[str]) -> None:
        """Compare the probes with a block of training images."""
        cosine_SM = self.vector_SE @ train_ME.T
        cosine_SM[np.array(self.location_S)[:, None] == np.array(locations)] = -1
        self.max_wrong_cosine_S = np.maximum(self.max_wrong_cosine_S, cosine_SM.max(axis=1))

    def compute_threshold(self) -> float:
        """Return the cosine that only `FALSE_POSITIVE_RATE` of the nearest different images reach."""
        return float(np.quantile(self.max_wrong_cosine_S, 1 - FALSE_POSITIVE_RATE))


def _build_probes(train_images: Sequence[ImageRef], detector: DuplicateDetector, seed: int) -> ThresholdProbes:
    rng = np.random.default_rng(seed)
    subset = train_images[:: max(1, len(train_images) // NUM_PROBES)]
    loaded = [
        (train_image.location.key, image)
        for train_image in subset
        if (image := _load_train_image(train_image)) is not None
    ]
    vectors = detector([distort_image(image, IMAGE_SIZE, rng) for _, image in loaded])
    locations = [location for location, _ in loaded]
    return ThresholdProbes(vectors, locations, np.full(len(loaded), -1, np.float32))


def _update_nearest(nearest: NearestTrainImages, cosine_NM: NDArray[np.float32], locations: Sequence[str]) -> None:
    column_N = cosine_NM.argmax(axis=1)
    cosine_N = cosine_NM[np.arange(len(column_N)), column_N]
    for row in np.flatnonzero(cosine_N > nearest.cosine_N).tolist():
        nearest.cosine_N[row], nearest.location_N[row] = cosine_N[row], locations[column_N[row]]


def _iter_train_blocks(train_images: Sequence[ImageRef]) -> Iterator[tuple[list[str], list[Image.Image]]]:
    loaded = (
        (train_image.location.key, image)
        for train_image in train_images
        if (image := _load_train_image(train_image)) is not None
    )
    while block := list(islice(loaded, TRAIN_IMAGES_PER_BLOCK)):
        yield [location for location, _ in block], [image for _, image in block]


def _load_train_image(train_image: ImageRef) -> Image.Image | None:
    """Load a training image; return None if it cannot be decoded, as training skips it too."""
    try:
        image = decode_image(train_image.load().image, train_image.location.key)
    except BadSample:
        return None
    return _shrink(image)


def _load_eval_images(source: Source) -> list[Image.Image]:
    records = (source.read(index) for index in range(len(source)))
    return [_shrink(decode_image(record.image, record.id)) for record in records]


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
