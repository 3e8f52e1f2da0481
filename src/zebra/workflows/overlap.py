"""`zebra overlap`: training data and evaluation sets in; near duplicates, and what they did to accuracy, out (CLIP §5).

1. a small detector is trained on distorted copies of the training pictures (`train/detector.py`)
2. every training picture passes it once, in blocks; each evaluation picture keeps its nearest
3. perceptual hashes find what the detector is not needed for: copies that were only rescaled or compressed anew
4. accuracy on all, on the clean and on the overlapping pictures is compared
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zebra.config.overlap import OverlapConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.sources import Source
from zebra.embed.sources import open_embed_source
from zebra.embed.values import ImageRef
from zebra.errors import BadSample, ConfigError, DataError
from zebra.evaluators.datasets import load_dataset
from zebra.evaluators.results import create_out_dir
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.decode import decode_image
from zebra.images.distort import distort_image
from zebra.images.perceptual_hash import compute_perceptual_hashes
from zebra.images.perceptual_hash import find_nearest_hashes as nearest_hash
from zebra.pretrained.load import load
from zebra.protocols.overlap import OverlapScores, bonferroni_correction, evaluate_overlap
from zebra.train.duplicate_detector import IMAGE_SIZE, DuplicateDetector, train_duplicate_detector

MAX_DETECTOR_IMAGES = 20_000
"""Training pictures that the detector learns from at most, evenly spread."""
FALSE_POSITIVE_RATE = 0.01
"""Share of pictures without a duplicate that are marked all the same; the paper set its thresholds by eye, for few."""
NUM_PROBES = 512
"""Distorted training pictures whose nearest others show how near a wrong one comes."""
MAX_HASH_DISTANCE = 2
"""Bits by which the hashes of one picture may differ."""
TRAIN_IMAGES_PER_BLOCK = 256
MAX_SIDE_PIXELS = 256
"""Longer side to which pictures are brought when they are opened; the detector sees 64 pixels."""


@dataclass(frozen=True, slots=True)
class NearestPair:
    """An evaluation picture and its nearest one in training."""

    dataset: str
    id: str
    train_location: str
    cosine: float
    hash_distance: int
    """By which their perceptual hashes differ: of the nearest by hash, which may be another picture."""
    is_duplicate: bool


@dataclass(frozen=True, slots=True)
class OverlapResult:
    """What was found in one set."""

    dataset: str
    threshold: float
    scores: OverlapScores
    corrected_p_value: float | None
    """The binomial test's p times the number of sets tested (Bonferroni)."""


Watch = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and of how many."""


@dataclass(slots=True)
class NearestTrainImages:
    """The nearest training picture of each evaluation picture so far."""

    cosine_N: NDArray[np.float32]
    location_N: list[str]
    hash_distance_N: NDArray[np.int64]


def run(
    config: OverlapConfig, callback: Callable[[str, int, int], None] = lambda _what, _done, _total: None
) -> list[OverlapResult]:
    """Look for duplicates, write `out/overlap.json` and `out/pairs.csv` (the nearest pairs first, to be looked at).

    Raises:
        ConfigError: A set is not one of labelled pictures.
        DataError: The training data cannot be read, or holds too few pictures to train a detector.
    """
    out = create_out_dir(config.out)
    sets = [load_dataset(name, "test", config.data_root) for name in config.datasets]
    labelled = [benchmark for benchmark in sets if isinstance(benchmark, ClassificationBenchmark)]
    if len(labelled) < len(sets):
        raise ConfigError("overlap is measured on labelled sets; leave captioned and multilabel ones out")
    clip = load(config.model)
    training = list(open_embed_source(config.data, config.data_options))
    detector = _train_detector(training, config, callback)
    evaluation = {benchmark.name: _load_eval_images(benchmark.source) for benchmark in labelled}
    vectors = {name: detector(images) for name, images in evaluation.items()}
    hashes = {name: compute_perceptual_hashes(images) for name, images in evaluation.items()}
    nearest = {
        name: NearestTrainImages(
            np.full(len(images), -1, np.float32), [""] * len(images), np.full(len(images), 65)
        )
        for name, images in evaluation.items()
    }
    probes = _build_probes(training, detector, config.seed)
    done = 0
    for places, images in _iter_train_blocks(training):
        known_ME, hash_M = detector(images), compute_perceptual_hashes(images)
        for name, best in nearest.items():
            _update_nearest(best, vectors[name] @ known_ME.T, places)
            best.hash_distance_N = np.minimum(best.hash_distance_N, nearest_hash(hashes[name], hash_M)[0])
        probes.update(known_ME, places)
        done += len(images)
        callback("comparing", done, len(training))
    threshold = probes.compute_threshold() if config.threshold is None else config.threshold
    results, pairs = [], []
    found: dict[str, OverlapScores] = {}
    for benchmark in labelled:
        best = nearest[benchmark.name]
        duplicate_N = (best.cosine_N >= threshold) | (best.hash_distance_N <= MAX_HASH_DISTANCE)
        found[benchmark.name] = evaluate_overlap(
            evaluate_zero_shot(clip, benchmark).ensemble.correct_N, duplicate_N
        )
        results.append(OverlapResult(benchmark.name, threshold, found[benchmark.name], None))
        for row, place in enumerate(best.location_N):
            id = benchmark.source.sample_id(row)
            cosine, bits = float(best.cosine_N[row]), int(best.hash_distance_N[row])
            pairs.append(NearestPair(benchmark.name, id, place, cosine, bits, bool(duplicate_N[row])))
    corrected = bonferroni_correction(found)
    results = [
        OverlapResult(one.dataset, one.threshold, one.scores, corrected.get(one.dataset)) for one in results
    ]
    _write_results(out, results, pairs)
    return results


def _train_detector(
    train_images: Sequence[ImageRef], config: OverlapConfig, callback: Callable[[str, int, int], None]
) -> DuplicateDetector:
    some = train_images[:: max(1, len(train_images) // MAX_DETECTOR_IMAGES)]
    spare = np.random.default_rng(config.seed)

    def draw(rows: NDArray[np.int64]) -> list[Image.Image]:
        images = []
        for row in rows.tolist():
            image = _load_train_image(some[row])
            for _ in range(100):  # a bad one is replaced; what is all bad is told
                if image is not None:
                    break
                image = _load_train_image(some[int(spare.integers(len(some)))])
            if image is None:
                raise DataError(f"hardly a picture of {config.data} is usable; `zebra doctor` says why")
            images.append(image)
        return images

    return train_duplicate_detector(
        draw,
        len(some),
        steps=config.steps,
        seed=config.seed,
        callback=lambda step, _loss: callback("training a detector", step, config.steps),
    )


@dataclass(slots=True)
class ThresholdProbes:
    """Distorted copies of some training pictures, and how near the nearest other picture comes to each."""

    vector_SE: NDArray[np.float32]
    location_S: list[str]
    max_wrong_cosine_S: NDArray[np.float32]

    def update(self, train_ME: NDArray[np.float32], locations: Sequence[str]) -> None:
        """Take in a block of training pictures."""
        cosine_SM = self.vector_SE @ train_ME.T
        cosine_SM[np.array(self.location_S)[:, None] == np.array(locations)] = -1
        self.max_wrong_cosine_S = np.maximum(self.max_wrong_cosine_S, cosine_SM.max(axis=1))

    def compute_threshold(self) -> float:
        """Return what hardly a wrong picture reaches."""
        return float(np.quantile(self.max_wrong_cosine_S, 1 - FALSE_POSITIVE_RATE))


def _build_probes(
    train_images: Sequence[ImageRef], detector: DuplicateDetector, seed: int
) -> ThresholdProbes:
    rng = np.random.default_rng(seed)
    some = train_images[:: max(1, len(train_images) // NUM_PROBES)]
    opened = [
        (picture.location.key, image) for picture in some if (image := _load_train_image(picture)) is not None
    ]
    vectors = detector([distort_image(image, IMAGE_SIZE, rng) for _, image in opened])
    return ThresholdProbes(vectors, [place for place, _ in opened], np.full(len(opened), -1, np.float32))


def _update_nearest(
    nearest: NearestTrainImages, cosine_NM: NDArray[np.float32], locations: Sequence[str]
) -> None:
    column_N = cosine_NM.argmax(axis=1)
    cosine_N = cosine_NM[np.arange(len(column_N)), column_N]
    for row in np.flatnonzero(cosine_N > nearest.cosine_N).tolist():
        nearest.cosine_N[row], nearest.location_N[row] = cosine_N[row], locations[column_N[row]]


def _iter_train_blocks(train_images: Sequence[ImageRef]) -> Iterator[tuple[list[str], list[Image.Image]]]:
    opened = (
        (picture.location.key, image)
        for picture in train_images
        if (image := _load_train_image(picture)) is not None
    )
    while block := list(islice(opened, TRAIN_IMAGES_PER_BLOCK)):
        yield [place for place, _ in block], [image for _, image in block]


def _load_train_image(train_image: ImageRef) -> Image.Image | None:
    """Open a training picture; None for one that training could not use either."""
    try:
        image = decode_image(train_image.load().image_bytes, train_image.location.key)
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
    document = [asdict(result) | {"inflation": result.scores.inflation} for result in results]
    (out_dir / "overlap.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    pairs.sort(key=lambda pair: -pair.cosine)
    with (out_dir / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(NearestPair.__slots__)
        writer.writerows([getattr(pair, name) for name in NearestPair.__slots__] for pair in pairs)
