"""What learns the menagerie best in the same time?

    python benchmarks/learning.py WORLD [--seconds 170] [--only NAME ...] [--seeds 0 1]

WORLD is a folder that `zebra menagerie` wrote. Every variant is the recipe that the demo had before (batch 64; the
first rows call it "the demo's recipe") with one thing changed, trained for the given seconds. The rate follows the
clock instead of the step, so that all have the same time to the second. Scores on all of seen-kinds, unseen-kinds and
zebra go to results/learning.jsonl.

Three of the things are not in `zebra train`, since they did not win (LOG.md): a rate along a line; FastCLIP's global
contrastive loss (Wei et al. 2024, arXiv 2407.01445), which remembers every pair's denominator; and a start at low
resolution (CLIPA, Li et al. 2023, arXiv 2305.07017).
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from receipt import keep
from zebra.config.files import read_recipe
from zebra.config.structure import structure
from zebra.config.train import TrainConfig
from zebra.data.batches import iter_batches
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.data.sources import Source, open_source
from zebra.evaluators.zero_shot import evaluate_zero_shot
from zebra.images.preprocess import Preprocess
from zebra.losses import info_nce, sigmoid_loss
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.pos_embed import resize_pos_embed
from zebra.train.optimizer import build_optimizer
from zebra.train.precision import autocast, resolve_precision
from zebra.train.setup import load_or_train_tokenizer
from zebra.values import Batch

SETS = ("seen-kinds", "unseen-kinds", "zebra")


@dataclass(frozen=True)
class Variant:
    """What differs from batch 64 with a rate of 1e-3."""

    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 8.0
    warmup: int = 100
    line: bool = False
    """The rate falls along a line instead of a cosine."""
    sigmoid: bool = False
    remember: float | None = None
    """Share of the new in the remembered denominators of the global contrastive loss."""
    small_share: float = 0.0
    """Of the time, at 64 pixels."""


VARIANTS = {
    "batch 64, lr 1e-3": Variant(),
    "batch 48, lr 8.7e-4": Variant(batch_size=48, lr=8.7e-4, weight_decay=9.2),
    "batch 32, lr 7e-4": Variant(batch_size=32, lr=7e-4, weight_decay=11.0),
    "batch 128, lr 1.4e-3": Variant(batch_size=128, lr=1.4e-3, weight_decay=5.7),
    "sigmoid loss": Variant(sigmoid=True),
    "global contrastive loss": Variant(remember=0.6),
    "half of the time at 64 px": Variant(small_share=0.5),
    "rate along a line": Variant(line=True),
}


class Remembered:
    """FastCLIP's loss: each pair's denominator is an average over the times it was met, instead of one batch's."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.known: dict[str, Tensor] = {}

    def __call__(self, image_NE: Tensor, text_NE: Tensor, scale: Tensor, ids: tuple[str, ...]) -> Tensor:
        """Return a scalar with the gradient of Σ log u, u being the remembered means of exp(z_ij - z_ii)."""
        logits_NN = scale * image_NE.float() @ text_NE.float().T
        own_N = logits_NN.diagonal()
        off_NN = 1 - torch.eye(len(ids))
        both_2N = torch.stack(
            [
                ((logits_NN - own_N[:, None]).clamp(max=50).exp() * off_NN).sum(1),
                ((logits_NN - own_N[None, :]).clamp(max=50).exp() * off_NN).sum(0),
            ]
        ) / (len(ids) - 1)
        now_N2 = both_2N.detach().T
        u_N2 = torch.stack(
            [
                now if (old := self.known.get(id)) is None else old.lerp(now, self.share)
                for id, now in zip(ids, now_N2, strict=True)
            ]
        )
        self.known.update(zip(ids, u_N2, strict=True))
        return (both_2N.T / (u_N2 + 1e-6)).mean()


class Learner:
    """One variant while it learns."""

    def __init__(self, variant: Variant, config: TrainConfig, source: Source, side: int) -> None:
        self.variant, self.config, self.source, self.side = variant, config, source, side
        self.words = load_or_train_tokenizer(config, source)
        text = replace(config.model.text, vocab_size=self.words.vocab_size)
        torch.manual_seed(config.seed)
        self.model = CLIP(replace(config.model, text=text, image_size=side, logit_bias=variant.sigmoid))
        self.remembered = None if variant.remember is None else Remembered(variant.remember)
        self.position = self.taken = 0
        self.optimizer = build_optimizer(self.model, config.optimizer)

    def grow(self, side: int) -> None:
        """Go on at another resolution, the moments of the optimizer included where they fit."""
        tensors, config = resize_pos_embed(dict(self.model.state_dict()), self.model.config, side)
        before = {name: self.optimizer.state[p] for name, p in self.model.named_parameters()}
        self.side, self.model = side, CLIP(config)
        self.model.load_state_dict(tensors)
        self.optimizer = build_optimizer(self.model, self.config.optimizer)
        for name, parameter in self.model.named_parameters():
            if before[name] and before[name]["exp_avg"].shape == parameter.shape:
                self.optimizer.state[parameter] = before[name]

    def until(self, end: float, rate: Callable[[float, int], float], spent: float) -> float:
        """Train until so many seconds are spent, of which some are already; return how many are."""
        prepare = Preprocess(image_size=self.side)
        feed = iter_batches(
            self.source,
            image_size=self.side,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_sample=self.position,
            num_steps=10**6,
            num_workers=1,
            config=self.config.data_options,
        )
        began = None
        for batch in feed:
            began = began or time.perf_counter() - spent  # when the loader has started
            spent = time.perf_counter() - began
            if spent >= end:
                break
            self._step(batch, prepare, rate(spent, self.taken))
            self.taken += 1
            self.position += self.config.batch_size
        return spent

    def _step(self, batch: Batch, prepare: Preprocess, lr: float) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = torch.from_numpy(self.words.encode(batch.captions, truncate=True).ids)
        with autocast(self.config.precision, torch.device("cpu")):
            image, text, scale = self.model(prepare.normalize(batch.images), tokens)
        if self.remembered:
            loss = self.remembered(image, text, scale, batch.ids)
        elif self.model.logit_bias is not None:
            loss = sigmoid_loss(image, text, scale, self.model.logit_bias)
        else:
            loss = info_nce(image, text, scale)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.optimizer.grad_clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.model.clamp_logit_scale()


def learn(variant: Variant, config: TrainConfig, world: Path, seconds: float) -> dict[str, Any]:
    """Train a variant for some seconds and score it."""
    source = open_source(config.data, config.data_options)
    full = config.model.image_size

    def rate(spent: float, step: int) -> float:
        warm = min(1.0, (step + 1) / variant.warmup)
        left = 1 - spent / seconds
        return variant.lr * warm * (left if variant.line else 0.5 * (1 - math.cos(math.pi * left)))

    learner = Learner(variant, config, source, 64 if variant.small_share else full)
    spent = learner.until(variant.small_share * seconds, rate, 0.0) if variant.small_share else 0.0
    if learner.side != full:
        learner.grow(full)
    learner.until(seconds, rate, spent)
    clip = Bundle(learner.model.eval(), learner.words, Preprocess(image_size=full))
    scores = {
        name: evaluate_zero_shot(clip, read_classification(world / "evaluation" / name)).ensemble
        for name in SETS
    }
    return {
        "seconds": seconds,
        "steps": learner.taken,
        "pairs_per_second": round(learner.position / seconds),
        "top1": {name: round(found.scores()["top1"].value, 4) for name, found in scores.items()},
    }


def main() -> None:
    """Train the variants and keep their rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    told = parser.parse_args()
    for seed in told.seeds:
        for name in told.only:
            variant = VARIANTS[name]
            with tempfile.TemporaryDirectory() as out:
                raw = read_recipe("demo") | {"data": str(told.world / "train"), "out": out, "seed": seed}
                config = structure(TrainConfig, raw)
                told_optimizer = replace(config.optimizer, weight_decay=variant.weight_decay)
                config = replace(
                    config,
                    batch_size=variant.batch_size,
                    precision=resolve_precision("auto", torch.device("cpu")),
                    optimizer=told_optimizer,
                )
                row = {"variant": name, "seed": seed, **learn(variant, config, told.world, told.seconds)}
            keep("learning", row)


if __name__ == "__main__":
    main()
