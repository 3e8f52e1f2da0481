"""Accuracy after training on captions that repeat, by loss: InfoNCE and the sigmoid loss, without and with labels.

    python benchmarks/repeated_captions.py IMAGES [--settings labels …] [--losses info_nce …] [--seeds 0 1 2]

Images of the menagerie's 90 kinds, at 32 pixels, with captions that repeat as those of own images do. Draws the images
into the file IMAGES (.npz) once. The settings:

    labels       the caption is the name of the kind; batches of 128
    batch-512    the same with batches of 512 and a third of the steps
    unbalanced   the same as labels; kind k is drawn with a probability proportional to 1 / (1 + k)
    ten          ten of the kinds only, so that a batch of 128 has each of them about 13 times
    names        a product with several names: the caption is one of three of the kind, its article number among them

The losses of one setting see the same images in the same order, from the same initial weights:

    info_nce            each image matches its own text only
    info_nce groups     texts of the same kind are left out of the denominator, as in --objective.multi-positive
    info_nce summed     the probabilities of all texts of the same kind are summed (SupCon's L_in), not in zebra
    info_nce templates  as groups; the captions are put into sentences at random
    sigmoid             each image matches its own text only
    sigmoid masked      other texts of the same kind take no part, as in --objective.multi-positive
    sigmoid groups      each image matches all texts of its kind, not in zebra

Accuracy is that of 20 further images per kind, after each third of the steps; with several names, the mean over the
names. A row for each run goes to results/repeated_captions.jsonl; runs whose row exists are left out.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from receipt import RESULTS, save_row
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig
from zebra.losses import info_nce, sigmoid_loss
from zebra.menagerie.attributes import sample_single
from zebra.menagerie.drawing import draw_image
from zebra.menagerie.rng import SampleRng
from zebra.menagerie.splits import ALL_KINDS, kind_name
from zebra.models import CLIP
from zebra.text.bpe import BPETokenizer
from zebra.text.templates import fill_template
from zebra.train.optimizer import build_optimizer
from zebra.train.schedule import learning_rate

NAME = "repeated_captions"
NUM_TRAIN, NUM_TEST = 5400, 1800
SIDE, CROP = 36, 32
WORLD_SEED, PEAK_LR = 5, 2e-3
OPTIMIZER = OptimizerConfig(weight_decay=1.0, warmup_steps=30)
NUM_THIRDS = 3
TEMPLATES = ("{}", "a {}", "a photo of a {}.", "a drawing of a {}.", "a small image of a {}.", "this is a {}")

LossFn = Callable[[CLIP, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(model, image_NE, text_NE, logit_scale, label_N) → scalar."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How captions repeat."""

    batch_size: int = 128
    num_steps: int = 300
    kinds: tuple[int, ...] = tuple(range(len(ALL_KINDS)))
    is_balanced: bool = True
    names_per_kind: int = 1

    def names(self) -> list[tuple[str, ...]]:
        """Return the names of each kind, the usual one first."""
        return [
            (kind_name(*ALL_KINDS[kind]), f"{ALL_KINDS[kind][0]} that is {ALL_KINDS[kind][1]}", f"article {kind:03}")[
                : self.names_per_kind
            ]
            for kind in self.kinds
        ]


SETTINGS = {
    "labels": Setting(),
    "batch-512": Setting(batch_size=512, num_steps=99),
    "unbalanced": Setting(is_balanced=False),
    "ten": Setting(kinds=tuple(range(0, len(ALL_KINDS), 9)), num_steps=90),
    "names": Setting(names_per_kind=3),
}


def sum_positives(_: CLIP, image_NE: Tensor, text_NE: Tensor, scale: Tensor, label_N: Tensor) -> Tensor:
    """Return InfoNCE with the summed probability of all texts of an image's label, and the reverse."""
    logits_NN = scale * image_NE @ text_NE.T
    positive_NN = logits_NN.masked_fill(label_N[:, None] != label_N, -torch.inf)
    loss: Tensor = sum((logits_NN.logsumexp(dim) - positive_NN.logsumexp(dim)).mean() for dim in (0, 1)) / 2
    return loss


def match_positives(model: CLIP, image_NE: Tensor, text_NE: Tensor, scale: Tensor, label_N: Tensor) -> Tensor:
    """Return the sigmoid loss in which each image matches all texts of its label."""
    sign_NN = 2 * (label_N[:, None] == label_N).float() - 1
    return -F.logsigmoid(sign_NN * (scale * image_NE @ text_NE.T + model.logit_bias)).sum() / len(sign_NN)


LOSSES: dict[str, LossFn] = {
    "info_nce": lambda _model, image, text, scale, _label: info_nce(image, text, scale),
    "info_nce groups": lambda _, image, text, scale, label: info_nce(image, text, scale, label_N=label),
    "info_nce summed": sum_positives,
    "info_nce templates": lambda _, image, text, scale, label: info_nce(image, text, scale, label_N=label),
    "sigmoid": lambda model, image, text, scale, _label: sigmoid_loss(image, text, scale, model.logit_bias),
    "sigmoid masked": lambda model, image, text, scale, label: sigmoid_loss(
        image, text, scale, model.logit_bias, label_N=label
    ),
    "sigmoid groups": match_positives,
}


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the images of both splits, uint8 [N, SIDE, SIDE, 3], image i of kind i % 90; draw them if needed."""
    if not path.exists():
        splits = {}
        for split, num_images in (("train", NUM_TRAIN), ("test", NUM_TEST)):
            splits[split] = np.empty((num_images, SIDE, SIDE, 3), np.uint8)
            for index in range(num_images):
                rng = SampleRng(WORLD_SEED, split, index)
                image = draw_image(sample_single(rng, ALL_KINDS[index % len(ALL_KINDS)]), rng)
                splits[split][index] = np.asarray(image.resize((SIDE, SIDE)))
        np.savez(path, **splits)
    with np.load(path) as splits:
        return dict(splits)


class Run:
    """One model, trained on one setting with one loss."""

    def __init__(self, images: dict[str, NDArray[np.uint8]], setting: Setting, loss_name: str, seed: int) -> None:
        self.images, self.setting, self.loss_fn = images, setting, LOSSES[loss_name]
        self.names, self.rng = setting.names(), np.random.default_rng(seed)
        self.templates = TEMPLATES if loss_name.endswith("templates") else ("{}",)
        torch.manual_seed(seed)
        config = get_preset("tiny-resnet")
        texts = [name for names in self.names for name in names]
        self.tokenizer = BPETokenizer.train([*texts, *TEMPLATES], config.text.vocab_size, config.text.context_length)
        text_config = replace(config.text, vocab_size=self.tokenizer.vocab_size)
        has_bias = loss_name.startswith("sigmoid")
        self.model = CLIP(replace(config, image_size=CROP, text=text_config, logit_bias=has_bias))
        self.optimizer = build_optimizer(self.model, OPTIMIZER)
        kind_of_image_N = np.arange(NUM_TRAIN) % len(ALL_KINDS)
        weight_N = np.isin(kind_of_image_N, setting.kinds) / (1.0 + (not setting.is_balanced) * kind_of_image_N)
        self.probability_N = weight_N / weight_N.sum()
        self.class_of_kind = {kind: index for index, kind in enumerate(setting.kinds)}

    def take_step(self, step: int) -> None:
        """Train on one random batch."""
        index_B = self.rng.choice(NUM_TRAIN, self.setting.batch_size, p=self.probability_N)
        top, left = self.rng.integers(0, SIDE - CROP + 1, 2)
        name_B, template_B = (self.rng.integers(0, 1 << 20, len(index_B)) for _ in range(2))
        label_B = [self.class_of_kind[index % len(ALL_KINDS)] for index in index_B.tolist()]
        captions = [
            fill_template(
                self.templates[template % len(self.templates)], self.names[label][name % len(self.names[label])]
            )
            for label, name, template in zip(label_B, name_B.tolist(), template_B.tolist(), strict=True)
        ]
        pixels = to_pixels(self.images["train"][index_B, top : top + CROP, left : left + CROP])
        image_BE, text_BE, scale = self.model.train()(pixels, self.tokens(captions))
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_fn(self.model, image_BE, text_BE, scale, torch.tensor(label_B)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), OPTIMIZER.grad_clip_norm)
        lr = learning_rate(
            step, peak_lr=PEAK_LR, warmup_steps=OPTIMIZER.warmup_steps, total_steps=self.setting.num_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.model.clamp_logit_scale()

    def tokens(self, texts: list[str]) -> Tensor:
        """Return token ids, int64 [B, L]."""
        return torch.from_numpy(self.tokenizer.encode(texts, truncate=True).ids)

    @torch.inference_mode()
    def top1(self) -> dict[str, float]:
        """Return the accuracy over the kinds in percent, that of the last third of them, and that of each name."""
        self.model.eval()
        kind_N = np.arange(NUM_TEST) % len(ALL_KINDS)
        index_N = np.flatnonzero(np.isin(kind_N, self.setting.kinds))
        label_N = np.array([self.class_of_kind[kind] for kind in kind_N[index_N].tolist()])
        edge = (SIDE - CROP) // 2
        crops = self.images["test"][index_N, edge : edge + CROP, edge : edge + CROP]
        image_NE = torch.cat([self.model.encode_images(to_pixels(part)) for part in np.array_split(crops, 6)])
        correct = []
        for position in range(self.setting.names_per_kind):
            prompt_TCE = [
                self.model.encode_texts(self.tokens([fill_template(template, names[position]) for names in self.names]))
                for template in self.templates
            ]
            class_CE = F.normalize(torch.stack(prompt_TCE).mean(dim=0), dim=-1)
            correct.append((image_NE @ class_CE.T).argmax(dim=1).numpy() == label_N)
        is_rare_N = label_N >= 2 * len(self.names) // 3
        scores = {"top1": np.mean(correct), "top1 of the last third": np.mean(correct, axis=0)[is_rare_N].mean()}
        scores |= {f"top1 of name {position}": np.mean(each) for position, each in enumerate(correct)}
        return {name: round(float(100 * score), 2) for name, score in scores.items()}


def to_pixels(image_BHW3: NDArray[np.uint8]) -> Tensor:
    """Return pixels from -1 to 1, float32 [B, 3, H, W]."""
    return torch.from_numpy(image_BHW3).permute(0, 3, 1, 2).float() / 127.5 - 1


def measure(images: dict[str, NDArray[np.uint8]], setting_name: str, loss_name: str, seed: int) -> dict[str, Any]:
    """Train one run; return its row."""
    setting = SETTINGS[setting_name]
    run = Run(images, setting, loss_name, seed)
    start, top1 = time.process_time(), {}
    for step in range(setting.num_steps):
        run.take_step(step)
        if (step + 1) % (setting.num_steps // NUM_THIRDS) == 0:
            top1[step + 1] = scores = run.top1()
    row = {"setting": setting_name, "loss": loss_name, "seed": seed, "batch_size": setting.batch_size}
    row |= {"steps": setting.num_steps, "top1 by step": {step: scores["top1"] for step, scores in top1.items()}}
    scale = run.model.logit_scale.exp().item()
    return row | scores | {"logit_scale": round(scale, 1), "cpu_seconds": round(time.process_time() - start)}


def main() -> None:
    """Measure the runs that have no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    images, path = read_images(args.images), RESULTS / f"{NAME}.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    done = {(row["setting"], row["loss"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for setting in args.settings:
            for loss in args.losses:
                if (setting, loss, seed) not in done:
                    save_row(NAME, measure(images, setting, loss, seed))


if __name__ == "__main__":
    main()
