"""Time of a training step of ViT-B/32 in zebra and in open_clip.

    python benchmarks/step.py [--pairs 16 32 64] [--precision fp32 bf16] [--rounds 5]

A step is forward, loss, backward and AdamW without clipping. zebra runs `zebra.train.step.train_step` as in a run,
which also computes the norm of the gradient and the accuracy of the batch. open_clip 3.3.0 runs as in its
`open_clip_train`: `ClipLoss`, for bf16 its `amp_bf16` (autocast for forward and loss), and `torch.optim.AdamW` as in
its `main.py`. Both start from the same random weights and get the same random images and texts, in one process, in
alternating order. The first round is a warm-up; the result is the median of the others. In fp32 the two losses of
every step must agree to 1e-4. In bf16 they differ more, since open_clip also rounds the similarities in its loss to
bf16; the row has the difference.

Texts have a start and an end token and a log-normal number of others, with mean 12.4 and standard deviation 5.2. The
mean of all tokens is 14.4, the 95th percentile 24 and the 99.9th 42. This resembles the captions of COCO and
Conceptual Captions (about ten words of 1.1 to 1.2 tokens), but is not fitted to them.

Rows go to results/step.jsonl, one for each precision and number of pairs.
"""

import argparse
import contextlib
import functools
import importlib.metadata
import math
import time
from collections.abc import Callable
from statistics import median
from types import ModuleType

import torch
from torch import Tensor, nn

from receipt import save_row
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.config.train import OptimizerConfig, TrainPrecision
from zebra.models import CLIP
from zebra.pretrained.weights import published_state_dict
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

MODEL, PEER_MODEL = "ViT-B/32", "ViT-B-32-quickgelu"
LR = 1e-5
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Largest accepted difference of two losses."""

Step = Callable[[Tensor, Tensor], float]
"""Takes a step on images and texts and returns the loss."""


@functools.cache
def peer() -> ModuleType:
    """Import open_clip; torchvision expects two operators that a CPU build of torch does not have."""
    if torch.version.cuda is None:
        with contextlib.suppress(RuntimeError):  # already declared in this process
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    return open_clip


def our_step(model: CLIP, config: OptimizerConfig, precision: TrainPrecision) -> Step:
    """Return the training step of zebra for `model`."""
    optimizer = build_optimizer(model, config)

    def step(images: Tensor, tokens: Tensor) -> float:
        return train_step(
            model, optimizer, images, tokens, lr=LR, grad_clip_norm=config.grad_clip_norm, precision=precision
        ).loss

    return step


def their_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW with the parameter groups of open_clip."""
    not_decayed, decayed = [], []
    for name, parameter in model.named_parameters():
        is_decayed = not (parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale")))
        (decayed if is_decayed else not_decayed).append(parameter)
    groups = [{"params": not_decayed, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    return torch.optim.AdamW(groups, lr=LR, betas=(config.beta1, config.beta2), eps=config.eps)


def their_step(weights: dict[str, Tensor], config: OptimizerConfig, precision: TrainPrecision) -> Step:
    """Return the training step of open_clip for the same weights."""
    open_clip = peer()
    model = open_clip.create_model(PEER_MODEL, output_dict=True).train()
    model.load_state_dict(weights)
    clip_loss = open_clip.ClipLoss()
    optimizer = their_optimizer(model, config)

    def step(images: Tensor, tokens: Tensor) -> float:
        optimizer.zero_grad()
        with torch.amp.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = clip_loss(**model(images, tokens), output_dict=True)["contrastive_loss"]
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return loss.item()

    return step


def captions(num_pairs: int, text: TextConfig, generator: torch.Generator) -> Tensor:
    """Return random texts with the lengths described above, int64 [B, L]; they have no common prefixes."""
    context, end = text.context_length, text.vocab_size - 1
    variance = math.log(1 + (5.2 / 12.4) ** 2)
    num_words = torch.empty(num_pairs).log_normal_(math.log(12.4) - variance / 2, variance**0.5, generator=generator)
    lengths = (num_words.round().long() + 2).clamp(3, context)
    tokens = torch.randint(1, end - 1, (num_pairs, context), generator=generator)
    tokens[:, 0] = end - 1
    tokens[torch.arange(num_pairs), lengths - 1] = end
    tokens[torch.arange(context) >= lengths[:, None]] = 0
    return tokens


def batch(num_pairs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random pixels and texts."""
    config = get_preset(MODEL)
    assert isinstance(config.text, TextConfig)
    tokens = captions(num_pairs, config.text, generator)
    return torch.randn(num_pairs, 3, config.image_size, config.image_size, generator=generator), tokens


def measure(num_pairs: int, precision: TrainPrecision, rounds: int) -> dict[str, object]:
    """Time steps of both libraries in turn; return the row."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    config = OptimizerConfig(grad_clip_norm=0.0)
    model = CLIP(get_preset(MODEL)).train()
    steps = {
        "open_clip": their_step(published_state_dict(model), config, precision),
        "zebra": our_step(model, config, precision),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    lengths: list[Tensor] = []
    largest_difference = 0.0
    for number in range(1 + rounds):
        images, tokens = batch(num_pairs, generator)
        losses = {}
        for name in sorted(steps, reverse=number % 2 == 1):
            start = time.perf_counter()
            losses[name] = steps[name](images, tokens)
            seconds[name].append(time.perf_counter() - start)
        difference = abs(losses["zebra"] - losses["open_clip"])
        assert difference < TOLERANCE[precision], f"step {number}: {losses}"
        largest_difference = max(largest_difference, difference)
        lengths.append(tokens.argmax(dim=1) + 1)
    timed = {name: values[1:] for name, values in seconds.items()}
    medians = {name: median(values) for name, values in timed.items()}
    ratios = [theirs / ours for theirs, ours in zip(timed["open_clip"], timed["zebra"], strict=True)]
    all_lengths = torch.cat(lengths[1:])
    return {
        "model": MODEL,
        "precision": precision,
        "pairs": num_pairs,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "tokens": {"mean": round(all_lengths.float().mean().item(), 1), "max": int(all_lengths.max())},
        **{
            name: {"seconds": round(value, 3), "pairs_per_second": round(num_pairs / value, 2)}
            for name, value in medians.items()
        },
        "zebra / open_clip": {
            "pairs_per_second": round(medians["open_clip"] / medians["zebra"], 3),
            "in single rounds": [round(min(ratios), 3), round(max(ratios), 3)],
        },
        "largest difference of the losses": round(largest_difference, 7),
        "open_clip version": importlib.metadata.version("open_clip_torch"),
    }


def main() -> None:
    """Measure every size in every precision and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    for precision in args.precision:
        for num_pairs in args.pairs:
            save_row("step", measure(num_pairs, precision, args.rounds))


if __name__ == "__main__":
    main()
