"""What the demo studies beside zero-shot: the model and its run in; few-shot curves and robustness out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.errors import DataError
from zebra.evaluators.linear_probe import ProbeResults, evaluate_probes
from zebra.evaluators.zero_shot import build_zero_shot_classifier, resolve_prompts
from zebra.images.decode import decode_image
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.protocols.robustness import ShiftRobustness, evaluate_robustness
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.report.demo import FINAL_MODEL
from zebra.train.checkpoint import list_checkpoints, load_checkpoint
from zebra.values import Embeddings, Score

STANDARD_DATASET = "seen-kinds"
SHIFTED_DATASETS = ("sketch", "inverted", "noisy")
IMAGES_PER_DATASET = 400
"""Of each set, evenly spread: enough for a line, few enough for every checkpoint."""
BATCH = 100


def evaluate_demo_probes(
    clip: Bundle, benchmarks: Iterable[ClassificationBenchmark]
) -> dict[str, ProbeResults]:
    """Fit probes with a few examples per class, beside zero-shot on the same pictures."""
    return {
        benchmark.name: evaluate_probes(clip, benchmark, None, resolve_prompts(benchmark, "dataset"))
        for benchmark in benchmarks
    }


@dataclass(frozen=True, slots=True)
class Sample:
    """Some pictures of a set, decoded once for every model that looks at them."""

    benchmark: ClassificationBenchmark
    pixels_N3HW: torch.Tensor
    label_N: np.ndarray[tuple[int], np.dtype[np.int64]]

    def score(self, clip: Bundle) -> Score:
        """Return zero-shot top-1."""
        parts = [clip.encode_pixels(part) for part in torch.split(self.pixels_N3HW, BATCH)]
        ids = tuple(map(str, range(len(self.label_N))))
        images = Embeddings(torch.cat(parts).numpy(), ids, self.label_N, clip.fingerprint)
        return classify_zero_shot(
            images, build_zero_shot_classifier(clip, resolve_prompts(self.benchmark, "dataset"))
        ).scores()["top1"]


def draw_sample(clip: Bundle, benchmark: ClassificationBenchmark) -> Sample:
    """Decode some pictures of a set."""
    chosen = np.linspace(0, len(benchmark.source) - 1, IMAGES_PER_DATASET).astype(int).tolist()
    records = [benchmark.source.read(index) for index in chosen]
    pixels = [
        clip.preprocess.resize_and_crop(decode_image(record.image, record.id, mode=clip.preprocess.decode))
        for record in records
    ]
    return Sample(
        benchmark,
        torch.from_numpy(np.stack(pixels)),
        np.array([record.label for record in records], np.int64),
    )


def evaluate_checkpoint_robustness(
    clip: Bundle, checkpoints: Path, benchmarks: Mapping[str, ClassificationBenchmark]
) -> tuple[ShiftRobustness, ...]:
    """Measure the final model against the line that its own earlier checkpoints make; nothing if they are too few.

    The paper's reference models were trained on the standard set alone. So were these: what is asked is whether the
    end of training brought more, or less, under a shift than its course had promised.
    """
    samples = {name: draw_sample(clip, benchmarks[name]) for name in (STANDARD_DATASET, *SHIFTED_DATASETS)}
    accuracies = {FINAL_MODEL: {name: sample.score(clip) for name, sample in samples.items()}}
    for path in list_checkpoints(checkpoints)[:-1]:  # the last is the model itself
        snapshot = load_checkpoint(path)
        model = CLIP(clip.model.config)
        model.load_state_dict(dict(snapshot.tensors["model"]))
        before = Bundle(model.to(clip.device).eval(), clip.tokenizer, clip.preprocess)
        accuracies[f"step {snapshot.step}"] = {name: sample.score(before) for name, sample in samples.items()}
    references = [name for name in accuracies if name != FINAL_MODEL]
    try:
        return evaluate_robustness(
            accuracies, STANDARD_DATASET, references, references[0] if references else FINAL_MODEL
        )
    except DataError:  # a short run has too few checkpoints, or all of one accuracy
        return ()
