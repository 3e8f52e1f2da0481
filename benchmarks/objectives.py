"""Zero-shot accuracy of four training objectives by number of images (CLIP §2.3, Fig. 2).

    python benchmarks/objectives.py WORLD [--objectives NAME ...] [--rates 1e-3 3e-3] [--steps 512] [--seed 0]

WORLD is a folder that `zebra menagerie` (or `zebra demo`) wrote. The objectives:

    contrastive      CLIP: InfoNCE between the image tower and the text tower
    contrastive-bag  InfoNCE with the mean of word vectors as text tower, the contrastive curve of the paper's figure
    bag-of-words     predict the words of the caption
    captioning       predict the caption, word by word

All train the tiny-resnet tower on the same pairs in the same order, with the same AdamW (the paper's weight decay of
0.2), warm-up and cosine, once at each of two peak learning rates. The better rate is selected on a quarter of the
images of seen-kinds; the curve is evaluated on another quarter and on a quarter of unseen-kinds (the captioner is
slow, with one forward pass per class). Prompts are the class name for bag-of-words and the first template of the
dataset for the others. Rows for each objective and rate, and one that compares the selected ones, go to
results/objectives.jsonl; the curves to results/objectives.svg.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from receipt import RESULTS, save_row
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.train import TrainConfig
from zebra.data.batches import iter_batches
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import open_source
from zebra.images.decode import decode_image
from zebra.images.preprocess import Preprocess
from zebra.losses import bag_of_words_loss, captioning_loss, info_nce
from zebra.models import CLIP, BagOfWords, Captioner
from zebra.models.bag_of_words import tokens_to_multi_hot
from zebra.pretrained.device import resolve_device
from zebra.protocols.metrics import proportion
from zebra.report.style import (
    ACCENT,
    BACKGROUND,
    FAINT,
    FONT_SIZE,
    FOREGROUND,
    MUTED,
    SMALL_FONT_SIZE,
    WIDE_INCHES,
    add_axes,
    create_figure,
    format_percent,
)
from zebra.text.bpe import BPETokenizer
from zebra.text.templates import fill_template
from zebra.train.optimizer import build_optimizer
from zebra.train.precision import autocast, resolve_precision
from zebra.train.schedule import learning_rate
from zebra.train.setup import load_or_train_tokenizer
from zebra.values import Batch, Score

RATES = (1e-3, 3e-3)
"""Peak learning rates to select from."""
EVAL_BATCH_SIZE = 150
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.4)
"""Accuracies for which the required number of images is compared."""


class MeanOfWords(nn.Module):
    """A text tower without word order: the mean of the word vectors of a text."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(config.text.vocab_size, config.embed_dim))

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return embeddings [B, E]."""
        multi_hot_BV = tokens_to_multi_hot(tokens_BL, len(self.vectors)).float()
        return multi_hot_BV / multi_hot_BV.sum(dim=1, keepdim=True).clamp(min=1) @ self.vectors


def build_bag_clip(config: ModelConfig) -> CLIP:
    """Return a CLIP with a text tower without word order."""
    clip = CLIP(config)
    clip.text = MeanOfWords(config)
    return clip


@dataclass(frozen=True, slots=True)
class Objective:
    """A model with its training loss and its zero-shot scores."""

    build: Callable[[ModelConfig], nn.Module]
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    """(model, pixels [B, 3, H, W], token ids [B, L]) → scalar."""
    score: Callable[[Any, Tensor, Tensor], Tensor]
    """(model, pixels [B, 3, H, W], token ids of the prompts [C, L]) → [B, C]."""
    color: str
    line_style: str
    template: str | None = None
    """Template of the prompts; default: the first of the dataset."""


def contrastive_loss(model: CLIP, images: Tensor, tokens: Tensor) -> Tensor:
    """Return the InfoNCE loss."""
    return info_nce(*model(images, tokens))


def cosines(model: CLIP, images: Tensor, tokens: Tensor) -> Tensor:
    """Return the cosines of images and prompts."""
    return model.encode_images(images) @ model.encode_texts(tokens).T


def word_loss(model: BagOfWords, images: Tensor, tokens: Tensor) -> Tensor:
    """Return the loss of predicting the words of captions."""
    logits_BV = model(images)
    return bag_of_words_loss(logits_BV, tokens_to_multi_hot(tokens, logits_BV.shape[1]))


def caption_loss(model: Captioner, images: Tensor, tokens: Tensor) -> Tensor:
    """Return the loss of predicting captions."""
    return captioning_loss(*model(images, tokens))


OBJECTIVES = {
    "contrastive": Objective(CLIP, contrastive_loss, cosines, ACCENT, "-"),
    "contrastive-bag": Objective(build_bag_clip, contrastive_loss, cosines, ACCENT, ":"),
    "bag-of-words": Objective(BagOfWords, word_loss, BagOfWords.log_likelihood, FOREGROUND, "-", template="{}"),
    "captioning": Objective(Captioner, caption_loss, Captioner.log_likelihood, MUTED, "-"),
}


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """A labeled dataset in memory."""

    images: Tensor
    """uint8 [N, 3, H, W]."""
    labels: Tensor
    classnames: tuple[str, ...]
    template: str
    """The first template of the dataset."""

    @classmethod
    def read(cls, folder: Path, preprocess: Preprocess) -> "LabeledImages":
        """Read all images of a dataset."""
        benchmark = read_classification(folder)
        records = [benchmark.source.read(index) for index in range(len(benchmark.source))]
        pixels = [preprocess.resize_and_crop(decode_image(r.image, r.id, mode=preprocess.decode)) for r in records]
        labels = torch.tensor([record.label for record in records])
        return cls(torch.from_numpy(np.stack(pixels)), labels, benchmark.classnames, benchmark.templates[0])

    def quarter(self, first: int) -> "LabeledImages":
        """Return every fourth image of each class, from index `first` on."""
        rows = self.labels.argsort(stable=True)[first::4]
        return replace(self, images=self.images[rows], labels=self.labels[rows])


@dataclass(frozen=True, slots=True)
class Study:
    """Config, data and preprocessing that all objectives share."""

    config: TrainConfig
    tokenizer: BPETokenizer
    preprocess: Preprocess
    selection: LabeledImages
    """A quarter of seen-kinds, which selects the learning rate."""
    evaluation: dict[str, LabeledImages]
    """Datasets whose accuracy is the result."""

    @classmethod
    def open(cls, world: Path, config: TrainConfig) -> "Study":
        """Load the tokenizer and the datasets."""
        tokenizer = load_or_train_tokenizer(config, open_source(config.data, config.data_options))
        model = replace(config.model, text=replace(config.model.text, vocab_size=tokenizer.vocab_size))
        preprocess = Preprocess(image_size=model.image_size)
        seen, unseen = (
            LabeledImages.read(world / "evaluation" / name, preprocess) for name in ("seen-kinds", "unseen-kinds")
        )
        evaluation = {"seen-kinds": seen.quarter(1), "unseen-kinds": unseen.quarter(1)}
        return cls(replace(config, model=model), tokenizer, preprocess, seen.quarter(0), evaluation)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return token ids."""
        return torch.from_numpy(self.tokenizer.encode(texts, truncate=True).ids)

    def train(
        self, objective: Objective, lr: float, steps: int, points: Sequence[int]
    ) -> Iterator[tuple[int, float, nn.Module]]:
        """Train from random weights; yield step, loss and model after each step in `points`."""
        config = self.config
        torch.manual_seed(config.seed)
        model = objective.build(config.model)
        optimizer = build_optimizer(model, config.optimizer)
        for step, batch in enumerate(self.batches(steps, config.workers)):
            model.train()
            optimizer.zero_grad(set_to_none=True)
            with autocast(config.precision, torch.device("cpu")):
                pixels = self.preprocess.normalize(batch.images)
                loss = objective.loss(model, pixels, self.tokens(batch.captions))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.grad_clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(
                    step, peak_lr=lr, warmup_steps=config.optimizer.warmup_steps, total_steps=steps
                )
            optimizer.step()
            if isinstance(model, CLIP):
                model.clamp_logit_scale()
            if step + 1 in points:
                yield step + 1, loss.item(), model.eval()

    @torch.inference_mode()
    def top1(self, objective: Objective, model: nn.Module, dataset: LabeledImages) -> Score:
        """Return zero-shot accuracy with its 95 % interval."""
        template = objective.template or dataset.template
        tokens_CL = self.tokens([fill_template(template, name) for name in dataset.classnames])
        num_correct = 0
        batches = zip(dataset.images.split(EVAL_BATCH_SIZE), dataset.labels.split(EVAL_BATCH_SIZE), strict=True)
        for images, labels in batches:
            with autocast(self.config.precision, images.device):
                score_BC = objective.score(model, self.preprocess.normalize(images), tokens_CL)
            num_correct += int((score_BC.argmax(dim=1) == labels).sum())
        return proportion(num_correct, len(dataset.labels))

    def cost(self, objective: Objective) -> dict[str, Any]:
        """Return parameters, and GFLOP per pair of a forward pass with its loss."""
        model = objective.build(self.config.model)
        batch = next(self.batches(1, workers=0))
        pixels, tokens = self.preprocess.normalize(batch.images), self.tokens(batch.captions)

        def gflop(forward: Callable[[], Tensor]) -> float:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                forward()
            return counter.get_total_flops() / len(tokens) / 1e9

        tower_size, model_size = (sum(p.numel() for p in module.parameters()) for module in (model.visual, model))
        tower_gflop, total_gflop = (
            gflop(lambda: model.visual(pixels)),
            gflop(lambda: objective.loss(model, pixels, tokens)),
        )
        return {
            "parameters": {"image tower": tower_size, "rest": model_size - tower_size},
            "gflop per pair": {"image tower": round(tower_gflop, 5), "rest": round(total_gflop - tower_gflop, 5)},
        }

    def batches(self, steps: int, workers: int) -> Iterator[Batch]:
        """Yield the batches of a run, the same for every objective."""
        config = self.config
        return iter_batches(
            open_source(config.data, config.data_options),
            image_size=config.model.image_size,
            batch_size=config.batch_size,
            seed=config.seed,
            start_sample=0,
            num_steps=steps,
            num_workers=workers,
            config=config.data_options,
        )

    def measure_curve(self, name: str, lr: float, steps: int) -> dict[str, Any]:
        """Train at one learning rate and evaluate during training; return the row."""
        objective, curve = OBJECTIVES[name], []
        points = sorted({math.ceil(steps / 2**power) for power in range(6)})
        for step, loss, model in self.train(objective, lr, steps, points):
            scores = {
                dataset: asdict(self.top1(objective, model, images)) for dataset, images in self.evaluation.items()
            }
            curve.append({"images": step * self.config.batch_size, "loss": round(loss, 4)} | scores)
            print(name, lr, step, {dataset: score["value"] for dataset, score in scores.items()}, flush=True)
        return {
            "objective": name,
            "lr": lr,
            "seed": self.config.seed,
            "batch_size": self.config.batch_size,
            "steps": steps,
            "precision": self.config.precision,
            "vocabulary": self.tokenizer.vocab_size,
            **self.cost(objective),
            "top1 to choose by": self.top1(objective, model, self.selection).value,
            "curve": curve,
        }


def images_to_reach(curve: Sequence[dict[str, Any]], dataset: str, level: float) -> int | None:
    """Return the number of images at which accuracy first reaches a level, interpolated over the log of images.

    None if it never reaches the level, or already at the first point.
    """
    previous: tuple[float, float] | None = None
    for point in curve:
        current = (math.log(point["images"]), point[dataset]["value"])
        if current[1] >= level:
            if previous is None:  # reached before the first point
                return None
            fraction = (level - previous[1]) / (current[1] - previous[1])
            return round(math.exp(previous[0] + fraction * (current[0] - previous[0])))
        previous = current
    return None


def images_to_reach_levels(rows: dict[str, dict[str, Any]], dataset: str) -> dict[str, dict[str, int | None]]:
    """Return the number of images by level and objective."""
    return {
        f"{level:.0%}": {name: images_to_reach(row["curve"], dataset, level) for name, row in rows.items()}
        for level in LEVELS
    }


def select_rows() -> dict[str, dict[str, Any]]:
    """Return for each objective the latest row of the best learning rate."""
    lines = (RESULTS / "objectives.jsonl").read_text(encoding="utf-8").splitlines()
    latest = {(row["objective"], row["lr"]): row for row in map(json.loads, lines) if "curve" in row}
    # Rows of interrupted runs lack the accuracy for selection. They are used only if there is no other.
    ascending = sorted(latest.values(), key=lambda row: row.get("top1 to choose by", -1.0))
    best = {row["objective"]: row for row in ascending}
    return {name: best[name] for name in OBJECTIVES if name in best}


def plot(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot zero-shot accuracy against the number of images, with 95 % intervals."""
    figure = create_figure(WIDE_INCHES, 3.9)
    figure.patch.set(facecolor=BACKGROUND, alpha=1)
    datasets = ("seen-kinds", "unseen-kinds")
    highest = max(point[name]["high"] for row in rows.values() for point in row["curve"] for name in datasets)
    top = math.ceil(10 * highest) / 10
    for left, dataset in zip((0.55, 0.55 + WIDE_INCHES / 2), datasets, strict=True):
        axes = add_axes(figure, left=left, bottom=0.6, right=WIDE_INCHES - left - WIDE_INCHES / 2 + 0.75, top=0.75)
        for name, row in rows.items():
            style = {"color": OBJECTIVES[name].color, "linestyle": OBJECTIVES[name].line_style, "linewidth": 1.8}
            images = [point["images"] for point in row["curve"]]
            value, low, high = ([point[dataset][k] for point in row["curve"]] for k in ("value", "low", "high"))
            axes.fill_between(images, low, high, color=style["color"], alpha=0.12, linewidth=0)
            axes.plot(images, value, marker="o", markersize=3.5, label=name, **style)
        axes.axhline(1 / 90, color=FAINT, linewidth=1.6, label="chance")
        axes.set_xscale("log")
        axes.set_xticks(images, [f"{count / 1000:.2g}k" for count in images])
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, top)
        axes.yaxis.set_major_formatter(lambda value, _: format_percent(value, 0))
        axes.grid(axis="y", color=FAINT, linewidth=0.8)
        axes.set_xlabel("images processed", fontsize=SMALL_FONT_SIZE, color=MUTED, loc="left", labelpad=6)
        axes.set_title(
            f"zero-shot top-1, {dataset}", fontsize=FONT_SIZE, color=FOREGROUND, fontweight="bold", loc="left"
        )
    figure.legend(*axes.get_legend_handles_labels(), loc="upper left", ncols=len(rows) + 1, frameon=False,
                  fontsize=SMALL_FONT_SIZE, labelcolor=FOREGROUND, handlelength=2.2)  # fmt: skip
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train every objective, save the rows and plot the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--objectives", nargs="*", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--rates", type=float, nargs="*", default=RATES)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = TrainConfig(
        data=str(args.world / "train"), out="", model=get_preset("tiny-resnet"), steps=args.steps,
        batch_size=args.batch_size, workers=args.workers, seed=args.seed,
        precision=resolve_precision("auto", resolve_device("cpu")),
    )  # fmt: skip
    study = Study.open(args.world, config)
    for name in args.objectives:
        for lr in args.rates:
            save_row("objectives", study.measure_curve(name, lr, args.steps))
    rows = select_rows()
    save_row("objectives", {"images to reach": {name: images_to_reach_levels(rows, name) for name in study.evaluation}})
    plot(rows, RESULTS / "objectives.svg")


if __name__ == "__main__":
    main()
