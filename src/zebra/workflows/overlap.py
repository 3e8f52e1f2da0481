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
from zebra.data.benchmarks.clip_benchmark import Benchmark
from zebra.data.sources import Source
from zebra.embed.sources import find_pictures
from zebra.embed.values import Picture
from zebra.errors import BadSample, ConfigError, DataError
from zebra.evaluators.datasets import open_set
from zebra.evaluators.results import open_folder
from zebra.evaluators.zero_shot import climb
from zebra.images.decode import decode
from zebra.images.distort import distort
from zebra.images.perceptual_hash import nearest as nearest_hash
from zebra.images.perceptual_hash import perceptual_hashes
from zebra.pretrained.load import load
from zebra.protocols.overlap import Overlap, bonferroni, overlap
from zebra.train.duplicate_detector import SIZE, Detector, train_detector

LEARNED_FROM = 20_000
"""Training pictures that the detector learns from at most, evenly spread."""
FALSE_ALARMS = 0.01
"""Share of pictures without a duplicate that are marked all the same; the paper set its thresholds by eye, for few."""
PROBES = 512
"""Distorted training pictures whose nearest others show how near a wrong one comes."""
SAME_HASH = 2
"""Bits by which the hashes of one picture may differ."""
BLOCK = 256
EDGE = 256
"""Longer side to which pictures are brought when they are opened; the detector sees 64 pixels."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An evaluation picture and its nearest one in training."""

    set: str
    id: str
    training: str
    cosine: float
    bits: int
    """By which their perceptual hashes differ: of the nearest by hash, which may be another picture."""
    duplicate: bool


@dataclass(frozen=True, slots=True)
class OverlapResult:
    """What was found in one set."""

    set: str
    threshold: float
    found: Overlap
    p_corrected: float | None
    """The binomial test's p times the number of sets tested (Bonferroni)."""


Watch = Callable[[str, int, int], None]
"""Told what is being done, how far it is, and of how many."""


@dataclass(slots=True)
class Nearest:
    """The nearest training picture of each evaluation picture so far."""

    cosine_N: NDArray[np.float32]
    which_N: list[str]
    bits_N: NDArray[np.int64]


def run(
    config: OverlapConfig, watch: Callable[[str, int, int], None] = lambda _what, _done, _total: None
) -> list[OverlapResult]:
    """Look for duplicates, write `out/overlap.json` and `out/pairs.csv` (the nearest pairs first, to be looked at).

    Raises:
        ConfigError: A set is not one of labelled pictures.
        DataError: The training data cannot be read, or holds too few pictures to train a detector.
    """
    out = open_folder(config.out)
    sets = [open_set(name, "test", config.data_root) for name in config.datasets]
    labelled = [benchmark for benchmark in sets if isinstance(benchmark, Benchmark)]
    if len(labelled) < len(sets):
        raise ConfigError("overlap is measured on labelled sets; leave captioned and multilabel ones out")
    clip = load(config.model)
    training = list(find_pictures(config.data, config.data_options))
    detector = _learn(training, config, watch)
    evaluation = {benchmark.name: _open_all(benchmark.source) for benchmark in labelled}
    vectors = {name: detector(images) for name, images in evaluation.items()}
    hashes = {name: perceptual_hashes(images) for name, images in evaluation.items()}
    nearest = {
        name: Nearest(np.full(len(images), -1, np.float32), [""] * len(images), np.full(len(images), 65))
        for name, images in evaluation.items()
    }
    probes = _probe(training, detector, config.seed)
    done = 0
    for places, images in _blocks(training):
        known_ME, hash_M = detector(images), perceptual_hashes(images)
        for name, best in nearest.items():
            _update(best, vectors[name] @ known_ME.T, places)
            best.bits_N = np.minimum(best.bits_N, nearest_hash(hashes[name], hash_M)[0])
        probes.look(known_ME, places)
        done += len(images)
        watch("comparing", done, len(training))
    threshold = probes.threshold() if config.threshold is None else config.threshold
    results, pairs = [], []
    found: dict[str, Overlap] = {}
    for benchmark in labelled:
        best = nearest[benchmark.name]
        duplicate_N = (best.cosine_N >= threshold) | (best.bits_N <= SAME_HASH)
        found[benchmark.name] = overlap(climb(clip, benchmark).ensemble.correct_N, duplicate_N)
        results.append(OverlapResult(benchmark.name, threshold, found[benchmark.name], None))
        for row, place in enumerate(best.which_N):
            id = benchmark.source.locate(row)
            cosine, bits = float(best.cosine_N[row]), int(best.bits_N[row])
            pairs.append(Pair(benchmark.name, id, place, cosine, bits, bool(duplicate_N[row])))
    corrected = bonferroni(found)
    results = [OverlapResult(one.set, one.threshold, one.found, corrected.get(one.set)) for one in results]
    _write(out, results, pairs)
    return results


def _learn(
    training: Sequence[Picture], config: OverlapConfig, watch: Callable[[str, int, int], None]
) -> Detector:
    some = training[:: max(1, len(training) // LEARNED_FROM)]
    spare = np.random.default_rng(config.seed)

    def draw(rows: NDArray[np.int64]) -> list[Image.Image]:
        images = []
        for row in rows.tolist():
            image = _opened(some[row])
            for _ in range(100):  # a bad one is replaced; what is all bad is told
                if image is not None:
                    break
                image = _opened(some[int(spare.integers(len(some)))])
            if image is None:
                raise DataError(f"hardly a picture of {config.data} is usable; `zebra doctor` says why")
            images.append(image)
        return images

    return train_detector(
        draw,
        len(some),
        steps=config.steps,
        seed=config.seed,
        watch=lambda step, _loss: watch("training a detector", step, config.steps),
    )


@dataclass(slots=True)
class Probes:
    """Distorted copies of some training pictures, and how near the nearest other picture comes to each."""

    vector_SE: NDArray[np.float32]
    own_S: list[str]
    wrong_S: NDArray[np.float32]

    def look(self, known_ME: NDArray[np.float32], places: Sequence[str]) -> None:
        """Take in a block of training pictures."""
        cosine_SM = self.vector_SE @ known_ME.T
        cosine_SM[np.array(self.own_S)[:, None] == np.array(places)] = -1
        self.wrong_S = np.maximum(self.wrong_S, cosine_SM.max(axis=1))

    def threshold(self) -> float:
        """Return what hardly a wrong picture reaches."""
        return float(np.quantile(self.wrong_S, 1 - FALSE_ALARMS))


def _probe(training: Sequence[Picture], detector: Detector, seed: int) -> Probes:
    rng = np.random.default_rng(seed)
    some = training[:: max(1, len(training) // PROBES)]
    opened = [(picture.spot.location, image) for picture in some if (image := _opened(picture)) is not None]
    vectors = detector([distort(image, SIZE, rng) for _, image in opened])
    return Probes(vectors, [place for place, _ in opened], np.full(len(opened), -1, np.float32))


def _update(best: Nearest, cosine_NM: NDArray[np.float32], places: Sequence[str]) -> None:
    column_N = cosine_NM.argmax(axis=1)
    cosine_N = cosine_NM[np.arange(len(column_N)), column_N]
    for row in np.flatnonzero(cosine_N > best.cosine_N).tolist():
        best.cosine_N[row], best.which_N[row] = cosine_N[row], places[column_N[row]]


def _blocks(training: Sequence[Picture]) -> Iterator[tuple[list[str], list[Image.Image]]]:
    opened = (
        (picture.spot.location, image) for picture in training if (image := _opened(picture)) is not None
    )
    while block := list(islice(opened, BLOCK)):
        yield [place for place, _ in block], [image for _, image in block]


def _opened(picture: Picture) -> Image.Image | None:
    """Open a training picture; None for one that training could not use either."""
    try:
        image = decode(picture.load().image, picture.spot.location)
    except BadSample:
        return None
    return _small(image)


def _open_all(source: Source) -> list[Image.Image]:
    records = (source.read(index) for index in range(len(source)))
    return [_small(decode(record.image, record.id)) for record in records]


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((EDGE, EDGE), Image.Resampling.BICUBIC)
    return image


def _write(out: Path, results: Sequence[OverlapResult], pairs: list[Pair]) -> None:
    document = [asdict(result) | {"inflation": result.found.inflation} for result in results]
    (out / "overlap.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    pairs.sort(key=lambda pair: -pair.cosine)
    with (out / "pairs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Pair.__slots__)
        writer.writerows([getattr(pair, name) for name in Pair.__slots__] for pair in pairs)
