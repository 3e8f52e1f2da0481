"""Validators: callables that score a model during training."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.data.sources import Source
from zebra.distributed import SINGLE_PROCESS, ProcessGroup
from zebra.errors import BadSample, DataError
from zebra.evaluators.decoded_images import DecodedImages, decode_and_resize
from zebra.evaluators.embeddings import evenly_spaced
from zebra.evaluators.zero_shot import build_zero_shot_classifier, equal_class_notes, resolve_prompts
from zebra.images.formats import image_digest
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.protocols.retrieval import RetrievalRanks, compute_retrieval_ranks
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings, Score

HELD_OUT = "held-out"
"""Name of the held-out pairs in logs and metrics."""


class Validator(Protocol):
    """Scores of a model; higher is better."""

    @property
    def name(self) -> str:
        """What the model is validated on."""

    def __call__(self, clip: Bundle) -> Mapping[str, float]:
        """Return scores in [0, 1] by their name in the log; the first one decides when checkpoints are compared."""


class ZeroShotValidator:
    """Zero-shot top-1 accuracy on evenly spaced images of a dataset.

    On all images it equals the score of `zebra evaluate`. The images are decoded at the first call and then stay in
    memory: 3 × S × S bytes each for images of S × S pixels, divided among the processes.
    """

    def __init__(
        self, benchmark: ClassificationBenchmark, num_samples: int, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Select the images; nothing is read yet.

        Args:
            num_samples: Number of images; all of them if the dataset has fewer.
            group: Processes that each embed a slice of the images.
        """
        self.name = benchmark.name
        self.benchmark = benchmark
        self.indices = evenly_spaced(num_samples, len(benchmark.source))
        self.group = group
        self._images: DecodedImages | None = None
        self._has_warned = False

    def score(self, clip: Bundle) -> Score:
        """Return top-1 accuracy with its interval; all processes must call it.

        Raises:
            BadSample: An image cannot be used.
        """
        if self._images is None:
            self._images = DecodedImages.decode(self.benchmark.source, clip.preprocess, self.indices, self.group)
        classifier_CE = build_zero_shot_classifier(clip, resolve_prompts(self.benchmark, "dataset", clip.templates))
        if not self._has_warned:
            self._has_warned = True
            for note in equal_class_notes(classifier_CE, self.benchmark.classnames):
                warnings.warn(f"{self.name}: {note}", stacklevel=2)
        return classify_zero_shot(self._images.embed(clip), classifier_CE).scores()["top1"]

    def __call__(self, clip: Bundle) -> Mapping[str, float]:
        """Return top-1 accuracy, in [0, 1], by the name of the dataset."""
        return {self.name: self.score(clip).value}


class RetrievalValidator:
    """Retrieval on image–caption pairs that are not in the training data; images are decoded once.

    Samples with the same image count as one image with several captions.
    """

    name = HELD_OUT

    def __init__(self, source: Source, preprocess: Preprocess, group: ProcessGroup = SINGLE_PROCESS) -> None:
        """Read all samples of a source; leave out unusable images, with a warning that counts them.

        Args:
            group: Processes that each embed a slice of the images.

        Raises:
            DataError: No image can be used.
        """
        pixels: list[NDArray[np.uint8]] = []
        captions: list[str] = []
        image_of_text: list[int] = []
        ids: list[str] = []
        index_of_image: dict[str, int] = {}
        skipped: Counter[str] = Counter()
        for index in range(len(source)):
            try:
                record = source.read(index)
                digest = image_digest(record.image)
                if digest not in index_of_image:
                    pixels.append(decode_and_resize(record, preprocess))
                    index_of_image[digest] = len(ids)
                    ids.append(record.id)
            except BadSample as bad:
                skipped[bad.reason] += 1
                continue
            captions += record.captions
            image_of_text += [index_of_image[digest]] * len(record.captions)
        self.num_found, self.skipped = len(source), skipped
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.most_common())
        if not ids:
            raise DataError(f"{source.name}: no image can be used ({reasons}). zebra doctor lists the bad samples.")
        if skipped:
            warnings.warn(f"{source.name}: left out {reasons}. zebra doctor lists the bad samples.", stacklevel=2)
        self.images = DecodedImages(
            tuple(ids), pixels[group.local_slice(len(pixels))], np.full(len(ids), -1, dtype=np.int64), group
        )
        self.captions, self.image_of_text_M = captions, np.array(image_of_text)

    def sample_counts(self) -> dict[str, Any]:
        """Return how many samples were found, and how many skipped for each reason, as JSON values."""
        return {"found": self.num_found, "skipped": dict(self.skipped.most_common())}

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the images that are used."""
        return self.images.ids

    def __call__(self, clip: Bundle) -> Mapping[str, float]:
        """Return mean reciprocal rank and recall at 1, in [0, 1], as means over both directions."""
        ranks = self.retrieve(clip)
        recall = float((ranks.text_rank_N == 1).mean() + (ranks.image_rank_M == 1).mean()) / 2
        return {f"{self.name} MRR": mean_reciprocal_rank(ranks), f"{self.name} recall@1": recall}

    def retrieve(self, clip: Bundle) -> RetrievalRanks:
        """Rank the captions for each image and the images for each caption; all processes must call it."""
        return self.rank(*self.embed(clip))

    def embed(self, clip: Bundle) -> tuple[Embeddings, Embeddings]:
        """Return the vectors of the images and of the captions; all processes must call it."""
        text_ME = clip.encode_texts(self.captions).numpy()
        text_ids = tuple(map(str, range(len(self.captions))))
        return self.images.embed(clip), Embeddings(text_ME, text_ids, fingerprint=clip.fingerprint)

    def rank(self, images: Embeddings, texts: Embeddings) -> RetrievalRanks:
        """Rank the captions for each image and the images for each caption by vectors that `embed` returned."""
        return compute_retrieval_ranks(images, texts, self.image_of_text_M)


def open_zero_shot_validators(
    paths: Sequence[str], num_samples: int, group: ProcessGroup = SINGLE_PROCESS
) -> list[ZeroShotValidator]:
    """Open CLIP_benchmark folders for validation on `num_samples` evenly spaced images of each."""
    return [ZeroShotValidator(read_classification(Path(path)), num_samples, group) for path in paths]


def selection_score(scores: Sequence[Mapping[str, float]]) -> float | None:
    """Return the mean of the first score of each validator, by which checkpoints are compared; None without any."""
    return fmean(next(iter(named.values())) for named in scores) if scores else None


def mean_reciprocal_rank(ranks: RetrievalRanks) -> float:
    """Average 1 / rank over both directions; it reacts to changes that recall at 1 on few images does not show."""
    return float((1 / ranks.text_rank_N).mean() + (1 / ranks.image_rank_M).mean()) / 2
