"""Training variants on the menagerie, compared at equal time.

    python benchmarks/learning.py WORLD [--seconds 170] [--only NAME ...] [--seeds 0 1]

WORLD is a folder that `zebra menagerie` wrote. Every variant changes one setting of the former recipe of the demo
(batch 64; the first rows call it "the demo's recipe") and trains for the given seconds. The learning rate depends on
time instead of steps, so that all variants train for exactly the same time. Scores on seen-kinds, unseen-kinds and
zebra go to results/learning.jsonl.

Three variants are not in `zebra train`, since they were not better (LOG.md): a linear learning rate schedule;
FastCLIP's global contrastive loss (Wei et al. 2024, arXiv 2407.01445), which stores the denominator of every pair; and
training at low resolution first (CLIPA, Li et al. 2023, arXiv 2305.07017).
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

from receipt import save_row
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

DATASETS = ("seen-kinds", "unseen-kinds", "zebra")


@dataclass(frozen=True)
class Variant:
    """Settings that differ from batch 64 and a learning rate of 1e-3."""

    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 8.0
    warmup: int = 100
    linear_decay: bool = False
    """Decay the learning rate linearly instead of by a cosine."""
    sigmoid: bool = False
    denominator_update: float | None = None
    """Weight of new denominators in the stored ones of the global contrastive loss; None uses info_nce."""
    low_resolution_share: float = 0.0
    """Share of the time that trains at 64 pixels."""


VARIANTS = {
    "batch 64, lr 1e-3": Variant(),
    "batch 48, lr 8.7e-4": Variant(batch_size=48, lr=8.7e-4, weight_decay=9.2),
    "batch 32, lr 7e-4": Variant(batch_size=32, lr=7e-4, weight_decay=11.0),
    "batch 128, lr 1.4e-3": Variant(batch_size=128, lr=1.4e-3, weight_decay=5.7),
    "sigmoid loss": Variant(sigmoid=True),
    "global contrastive loss": Variant(denominator_update=0.6),
    "half of the time at 64 px": Variant(low_resolution_share=0.5),
    "rate along a line": Variant(linear_decay=True),
}


class GlobalContrastiveLoss:
    """FastCLIP's loss: the denominator of a pair is a moving average over its occurrences, not that of one batch."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.denominators: dict[str, Tensor] = {}

    def __call__(self, image_NE: Tensor, text_NE: Tensor, scale: Tensor, ids: tuple[str, ...]) -> Tensor:
        """Return a scalar with the gradient of Σ log u, where u are the stored means of exp(z_ij - z_ii)."""
        logits_NN = scale * image_NE.float() @ text_NE.float().T
        positive_N = logits_NN.diagonal()
        mask_NN = 1 - torch.eye(len(ids))
        mean_2N = torch.stack(
            [
                ((logits_NN - positive_N[:, None]).clamp(max=50).exp() * mask_NN).sum(1),
                ((logits_NN - positive_N[None, :]).clamp(max=50).exp() * mask_NN).sum(0),
            ]
        ) / (len(ids) - 1)
        new_N2 = mean_2N.detach().T
        u_N2 = torch.stack(
            [
                new if (old := self.denominators.get(id)) is None else old.lerp(new, self.share)
                for id, new in zip(ids, new_N2, strict=True)
            ]
        )
        self.denominators.update(zip(ids, u_N2, strict=True))
        return (mean_2N.T / (u_N2 + 1e-6)).mean()


class Trainer:
    """Training state of one variant."""

    def __init__(self, variant: Variant, config: TrainConfig, source: Source, side: int) -> None:
        self.variant, self.config, self.source, self.side = variant, config, source, side
        self.tokenizer = load_or_train_tokenizer(config, source)
        text = replace(config.model.text, vocab_size=self.tokenizer.vocab_size)
        torch.manual_seed(config.seed)
        self.model = CLIP(replace(config.model, text=text, image_size=side, logit_bias=variant.sigmoid))
        self.global_loss = (
            None if variant.denominator_update is None else GlobalContrastiveLoss(variant.denominator_update)
        )
        self.position = self.num_steps = 0
        self.optimizer = build_optimizer(self.model, config.optimizer)

    def resize(self, side: int) -> None:
        """Change the resolution; keep the optimizer's moments of parameters whose shape does not change."""
        tensors, config = resize_pos_embed(dict(self.model.state_dict()), self.model.config, side)
        old_state = {name: self.optimizer.state[p] for name, p in self.model.named_parameters()}
        self.side, self.model = side, CLIP(config)
        self.model.load_state_dict(tensors)
        self.optimizer = build_optimizer(self.model, self.config.optimizer)
        for name, parameter in self.model.named_parameters():
            if old_state[name] and old_state[name]["exp_avg"].shape == parameter.shape:
                self.optimizer.state[parameter] = old_state[name]

    def train_until(self, end: float, rate: Callable[[float, int], float], spent: float) -> float:
        """Train until `end` seconds are spent in total, including `spent` seconds before; return the seconds spent."""
        preprocess = Preprocess(image_size=self.side)
        batches = iter_batches(
            self.source,
            image_size=self.side,
            batch_size=self.config.batch_size,
            seed=self.config.seed,
            start_sample=self.position,
            num_steps=10**6,
            num_workers=1,
            config=self.config.data_options,
        )
        start = None
        for batch in batches:
            start = start or time.perf_counter() - spent  # the start of the loader does not count
            spent = time.perf_counter() - start
            if spent >= end:
                break
            self._step(batch, preprocess, rate(spent, self.num_steps))
            self.num_steps += 1
            self.position += self.config.batch_size
        return spent

    def _step(self, batch: Batch, preprocess: Preprocess, lr: float) -> None:
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = torch.from_numpy(self.tokenizer.encode(batch.captions, truncate=True).ids)
        with autocast(self.config.precision, torch.device("cpu")):
            image, text, scale = self.model(preprocess.normalize(batch.images), tokens)
        if self.global_loss:
            loss = self.global_loss(image, text, scale, batch.ids)
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


def train_variant(variant: Variant, config: TrainConfig, world: Path, seconds: float) -> dict[str, Any]:
    """Train a variant for some seconds and evaluate it; return the row."""
    source = open_source(config.data, config.data_options)
    full_size = config.model.image_size

    def rate(spent: float, step: int) -> float:
        warmup_factor = min(1.0, (step + 1) / variant.warmup)
        remaining = 1 - spent / seconds
        return (
            variant.lr
            * warmup_factor
            * (remaining if variant.linear_decay else 0.5 * (1 - math.cos(math.pi * remaining)))
        )

    trainer = Trainer(variant, config, source, 64 if variant.low_resolution_share else full_size)
    spent = (
        trainer.train_until(variant.low_resolution_share * seconds, rate, 0.0) if variant.low_resolution_share else 0.0
    )
    if trainer.side != full_size:
        trainer.resize(full_size)
    trainer.train_until(seconds, rate, spent)
    clip = Bundle(trainer.model.eval(), trainer.tokenizer, Preprocess(image_size=full_size))
    scores = {
        name: evaluate_zero_shot(clip, read_classification(world / "evaluation" / name)).ensemble for name in DATASETS
    }
    return {
        "seconds": seconds,
        "steps": trainer.num_steps,
        "pairs_per_second": round(trainer.position / seconds),
        "top1": {name: round(ablation.scores()["top1"].value, 4) for name, ablation in scores.items()},
    }


def main() -> None:
    """Train the variants and save their rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    args = parser.parse_args()
    for seed in args.seeds:
        for name in args.only:
            variant = VARIANTS[name]
            with tempfile.TemporaryDirectory() as out:
                raw = read_recipe("demo") | {"data": str(args.world / "train"), "out": out, "seed": seed}
                config = structure(TrainConfig, raw)
                optimizer_config = replace(config.optimizer, weight_decay=variant.weight_decay)
                config = replace(
                    config,
                    batch_size=variant.batch_size,
                    precision=resolve_precision("auto", torch.device("cpu")),
                    optimizer=optimizer_config,
                )
                row = {"variant": name, "seed": seed, **train_variant(variant, config, args.world, args.seconds)}
            save_row("learning", row)


if __name__ == "__main__":
    main()
