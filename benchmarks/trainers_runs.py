"""A run of zebra's trainer, and the evaluation of what either trainer leaves."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.tasks import ClassificationBenchmark
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load
from zebra.protocols.prompts import average_prompt_vectors
from zebra.text.templates import fill_template
from zebra.train.checkpoint import list_checkpoints, load_checkpoint
from zebra.workflows import train

NUM_CURVE_POINTS = 6
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "zebra": {},
    "open_clip": {
        "optimizer": {"name": "adamw", "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.2, "grad_clip_norm": 0.0}
    },
    "adamw": {"optimizer": {"name": "adamw"}},
}
"""Settings → changes of the recipe. open_clip's are the defaults of its trainer for ResNets, with its vocabulary; adamw
is the recipe before Muon."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What distinguishes one run from others on the same data."""

    data: str
    """A table with the columns filepath and caption."""
    settings: str
    """A name of VARIANTS."""
    seed: int
    epochs: int
    steps: int
    """Steps of all epochs; open_clip drops the last, incomplete batch of an epoch."""

    @property
    def curve_steps(self) -> list[int]:
        """Return the steps at which the model is evaluated."""
        every = self.steps // NUM_CURVE_POINTS
        return [*range(every, every * NUM_CURVE_POINTS, every), self.steps]


@dataclass(frozen=True, slots=True)
class Encoder:
    """A trained model as functions to unit vectors, with the preprocessing and tokenizer of its library."""

    encode_images: Callable[[Sequence[bytes]], NDArray[np.float32]]
    encode_texts: Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The model after some steps."""

    step: int
    cpu_seconds: float
    """CPU time of the process since the start of training, the loader included."""
    encoder: Encoder


def zebra_config(settings: RunSettings, recipe: str, peer_vocabulary: str) -> TrainConfig:
    """Return the recipe on the data of a run, without validation, with one thread and without workers.

    Args:
        peer_vocabulary: The merges file of open_clip.
    """
    document = read_recipe(recipe) | {
        "data": settings.data,
        "out": "",
        "steps": settings.steps,
        "epochs": None,
        "seed": settings.seed,
        "workers": 0,
        "precision": "fp32",
        "val_fraction": 0.0,
        "checkpoint_every": settings.steps // NUM_CURVE_POINTS,
        "checkpoint_minutes": 1e6,
        "keep_checkpoints": NUM_CURVE_POINTS + 1,
    }
    changes = VARIANTS[settings.settings]
    if settings.settings == "open_clip":
        changes = changes | {"tokenizer": peer_vocabulary}
    return structure(TrainConfig, merge_mappings(document, changes), f"recipe {recipe}")


def merge_mappings(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `document` with the changes, mapping by mapping."""
    merged = dict(document)
    for name, value in changes.items():
        old = merged.get(name)
        is_nested = isinstance(value, Mapping) and isinstance(old, Mapping | None)
        merged[name] = merge_mappings(old or {}, value) if is_nested else value
    return merged


def train_with_zebra(settings: RunSettings, config: TrainConfig) -> list[Snapshot]:
    """Train as `config` says; return the points of the curve."""
    seconds_by_step: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        train.run(
            replace(config, out=folder),
            callback=lambda report, _: seconds_by_step.update({report.step: time.process_time() - start}),
        )
        clip = load(Path(folder) / "model")
        snapshots = [load_checkpoint(path) for path in list_checkpoints(Path(folder) / "checkpoints")]
        return [
            Snapshot(
                snapshot.step, seconds_by_step[snapshot.step], _zebra_encoder(clip, dict(snapshot.tensors["model"]))
            )
            for snapshot in snapshots
            if snapshot.step in settings.curve_steps
        ]


def _zebra_encoder(clip: Bundle, weights: Mapping[str, Any]) -> Encoder:
    model = CLIP(clip.model.config)
    # Copies, because the checkpoint's file is mapped and will be removed.
    model.load_state_dict({name: tensor.clone() for name, tensor in weights.items()})
    bundle = Bundle(model.eval(), clip.tokenizer, clip.preprocess)
    return Encoder(
        lambda images: bundle.encode_images(images).numpy(), lambda texts: bundle.encode_texts(texts).numpy()
    )


@dataclass(frozen=True, slots=True)
class LoadedBenchmark:
    """The images of a benchmark in memory."""

    name: str
    benchmark: ClassificationBenchmark
    images: tuple[bytes, ...]
    label_N: NDArray[np.int64]

    @classmethod
    def read(cls, benchmark: ClassificationBenchmark) -> "LoadedBenchmark":
        """Read all images."""
        records = [benchmark.source.read(index) for index in range(len(benchmark.source))]
        label_N = np.array([record.label for record in records], dtype=np.int64)
        return cls(benchmark.name, benchmark, tuple(record.image for record in records), label_N)

    def rank_labels(self, encoder: Encoder) -> dict[str, NDArray[np.int64]]:
        """Return how many classes score higher than the right one, [N]: of all, and of those with an image."""
        names, templates = self.benchmark.classnames, self.benchmark.templates
        prompts = [fill_template(template, name) for name in names for template in templates]
        class_CE = average_prompt_vectors(encoder.encode_texts(prompts), [len(templates)] * len(names))
        score_NC = encoder.encode_images(self.images) @ class_CE.T
        is_higher_NC = score_NC > score_NC[np.arange(len(score_NC)), self.label_N][:, None]
        return {"all": is_higher_NC.sum(axis=1), "present": is_higher_NC[:, np.unique(self.label_N)].sum(axis=1)}


def score_ranks(rank_by_classes: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
    """Return top-1 and top-5 among all classes, and top-1 among those that have an image."""
    rank_N, rank_of_present_N = rank_by_classes["all"], rank_by_classes["present"]
    scores = {"top1": rank_N < 1, "top5": rank_N < 5, "top1 of present": rank_of_present_N < 1}
    return {name: round(float(correct_N.mean()), 4) for name, correct_N in scores.items()}
