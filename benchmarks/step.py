"""What does a training step of ViT-B/32 cost here, and what in open_clip?

    python benchmarks/step.py [--pairs 16 32 64] [--precision fp32 bf16] [--rounds 5]

A step is forward, loss, backward and AdamW, clipping off: `zebra.train.step.train_step` as a run calls it (it also
takes the gradient's norm and the batch's accuracy), and open_clip 3.3.0 as its `open_clip_train` does it: `ClipLoss`,
for bf16 its `amp_bf16` (autocast around forward and loss), `torch.optim.AdamW` made as its `main.py` makes it. Both
start from the same random weights and see the same random pictures and texts, in one process, taking turns in
alternating order; the first round warms up, and the median of the others counts. In fp32 the two losses of every step
must agree to 1e-4. In bf16 they differ by more, since open_clip also rounds the similarities in its loss to bf16; the
row says by how much.

Texts have 2 tokens and a log-normal number of others, mean 12.4, standard deviation 5.2: with start and end 14.4 in
the mean, 24 at the 95th percentile, 42 at the 99.9th. That resembles the captions of COCO and Conceptual Captions
(about ten words each, of 1.1 to 1.2 tokens); it was not fitted to either.

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

from receipt import keep
from zebra.config.model import TextConfig
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig, TrainPrecision
from zebra.models import CLIP
from zebra.pretrained.weights import published_state_dict
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

MODEL, PEER_MODEL = "ViT-B/32", "ViT-B-32-quickgelu"
LR = 1e-5
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""Most that two losses may differ."""

Step = Callable[[Tensor, Tensor], float]
"""Takes a step on images and texts, returns its loss."""


@functools.cache
def peer() -> ModuleType:
    """Import open_clip; its torchvision expects two operators that a CPU build of torch does not bring."""
    if torch.version.cuda is None:
        with contextlib.suppress(RuntimeError):  # another script of this process has declared them
            library = torch.library.Library("torchvision", "DEF")
            library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import open_clip

    return open_clip


def our_step(model: CLIP, config: OptimizerConfig, precision: TrainPrecision) -> Step:
    """Train `model` as zebra does."""
    optimizer = build_optimizer(model, config)

    def step(images: Tensor, tokens: Tensor) -> float:
        return train_step(
            model, optimizer, images, tokens, lr=LR, grad_clip_norm=config.grad_clip_norm, precision=precision
        ).loss

    return step


def their_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW with open_clip's groups."""
    free, decayed = [], []
    for name, parameter in model.named_parameters():
        is_free = parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias", "logit_scale"))
        (free if is_free else decayed).append(parameter)
    groups = [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]
    return torch.optim.AdamW(groups, lr=LR, betas=(config.beta1, config.beta2), eps=config.eps)


def their_step(weights: dict[str, Tensor], config: OptimizerConfig, precision: TrainPrecision) -> Step:
    """Train the same weights as open_clip does."""
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


def captions(num_pairs: int, text: TextConfig, draw: torch.Generator) -> Tensor:
    """Draw texts of the lengths described above, int64 [B, L]: words at random, so that they share no beginnings."""
    context, end = text.context_length, text.vocab_size - 1
    spread = math.log(1 + (5.2 / 12.4) ** 2)
    words = torch.empty(num_pairs).log_normal_(math.log(12.4) - spread / 2, spread**0.5, generator=draw)
    lengths = (words.round().long() + 2).clamp(3, context)
    tokens = torch.randint(1, end - 1, (num_pairs, context), generator=draw)
    tokens[:, 0] = end - 1
    tokens[torch.arange(num_pairs), lengths - 1] = end
    tokens[torch.arange(context) >= lengths[:, None]] = 0
    return tokens


def batch(num_pairs: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw pixels and texts."""
    config = get_preset(MODEL)
    assert isinstance(config.text, TextConfig)
    tokens = captions(num_pairs, config.text, draw)
    return torch.randn(num_pairs, 3, config.image_size, config.image_size, generator=draw), tokens


def measure(num_pairs: int, precision: TrainPrecision, rounds: int) -> dict[str, object]:
    """Let both take turns; return the row."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    config = OptimizerConfig(grad_clip_norm=0.0)
    model = CLIP(get_preset(MODEL)).train()
    steps = {
        "open_clip": their_step(published_state_dict(model), config, precision),
        "zebra": our_step(model, config, precision),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    lengths: list[Tensor] = []
    apart = 0.0
    for number in range(1 + rounds):
        images, tokens = batch(num_pairs, draw)
        losses = {}
        for name in sorted(steps, reverse=number % 2 == 1):
            began = time.perf_counter()
            losses[name] = steps[name](images, tokens)
            seconds[name].append(time.perf_counter() - began)
        difference = abs(losses["zebra"] - losses["open_clip"])
        assert difference < TOLERANCE[precision], f"step {number}: {losses}"
        apart = max(apart, difference)
        lengths.append(tokens.argmax(dim=1) + 1)
    timed = {name: taken[1:] for name, taken in seconds.items()}
    middle = {name: median(taken) for name, taken in timed.items()}
    ratios = [theirs / ours for theirs, ours in zip(timed["open_clip"], timed["zebra"], strict=True)]
    tokens_of = torch.cat(lengths[1:])
    return {
        "model": MODEL,
        "precision": precision,
        "pairs": num_pairs,
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "tokens": {"mean": round(tokens_of.float().mean().item(), 1), "max": int(tokens_of.max())},
        **{
            name: {"seconds": round(value, 3), "pairs_per_second": round(num_pairs / value, 2)}
            for name, value in middle.items()
        },
        "zebra / open_clip": {
            "pairs_per_second": round(middle["open_clip"] / middle["zebra"], 3),
            "in single rounds": [round(min(ratios), 3), round(max(ratios), 3)],
        },
        "largest difference of the losses": round(apart, 7),
        "open_clip version": importlib.metadata.version("open_clip_torch"),
    }


def main() -> None:
    """Measure every size in every precision and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    for precision in told.precision:
        for num_pairs in told.pairs:
            keep("step", measure(num_pairs, precision, told.rounds))


if __name__ == "__main__":
    main()
