"""How fast does one GPU train ViT-B/32 and ViT-B/16 here and in open_clip, and where does its time go?

    python benchmarks/train_gpu.py [--models ViT-B/32 ViT-B/16] [--pairs 4096] [--steps 5] [--rounds 3] [--eager]
                                   [--peak-tflops T]
    python benchmarks/train_gpu.py --toy

Both sides start from the same random weights and see the same pixels, made on the device, and the same texts, of the
lengths described in step.py, another batch of them in every step. Both compute in bf16 with torch.compile:

- zebra takes `zebra.train.step.train_step`, as a run does: bf16 autocast, the loss in fp32, AdamW fused. Every block of
  the towers is compiled by itself; the text tower packs its texts on the host, between blocks that are compiled for
  any length.
- open_clip 3.3.0 does what its `open_clip_train` does with `--precision amp_bf16 --torchcompile`: the whole model
  compiled, TF32 allowed and cuDNN's benchmark on as its main.py has them, `ClipLoss` under autocast, and
  `torch.optim.AdamW` as its main.py makes it. `--local-loss --gather-with-grad` change nothing on one GPU.

Gradient clipping is off. A side whose batch does not fit is run again with its blocks recomputed in the backward pass
(open_clip: `--grad-checkpointing`), and the row says so. A round is a number of steps with one wait for the device at
its end; the median of the rounds counts. Utilisation is what the towers and the loss need (`flops.py`: three times
the forward pass, whatever is computed again not counted) per second, against the peak of dense bf16. Each side is
charged with what it computes: open_clip with all 77 positions of every text.

Then a profile of two steps: kernels by what they do, the share of time the device waits for the host, how often the
host waits for the device; and apart from it the seconds of packing a batch of texts on the host, and of the loss
alone. open_clip takes part where it is installed.

`--toy` runs a small model in batches of 32 on whatever there is, so that the script is known to work; where there is no
GPU that is all it does, and the row says that nothing was measured. Rows go to results/train_gpu.jsonl.
"""

import argparse
import gc
import importlib.util
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.autograd import DeviceType
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from flops import Layout, image_flops, loss_flops, padded, text_flops
from receipt import keep
from step import captions, peer, their_optimizer
from zebra.config.model import ModelConfig, TextConfig, VisionTransformerConfig
from zebra.config.presets import get_preset
from zebra.config.train import OptimizerConfig
from zebra.images.preprocess import Preprocess
from zebra.losses import info_nce
from zebra.models import CLIP
from zebra.models.packing import pack_texts
from zebra.pretrained.open_clip.config import to_open_clip_config
from zebra.pretrained.weights import published_state_dict
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.compilation import compile_blocks
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step

INSTALL = (
    "open_clip is not installed, so only zebra is measured; for the comparison:\n"
    "    pip install open_clip_torch==3.3.0\n"
    "beside a CPU build of torch:\n"
    "    pip install --no-deps open_clip_torch==3.3.0 timm torchvision && pip install ftfy regex"
)
OPTIMIZER = OptimizerConfig(grad_clip_norm=0.0)
LR = 1e-5
TOLERANCE = 2e-2
"""Most that the first two losses may differ: open_clip rounds its similarities to bf16."""
TEXTS = 8
"""Batches of texts that take turns."""
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second by what the device's name holds, the first that fits; NVIDIA's data sheets."""
TOY = ModelConfig(
    embed_dim=64,
    image_size=64,
    vision=VisionTransformerConfig(width=128, layers=2, heads=2, patch_size=16),
    text=TextConfig(width=64, layers=2, heads=1, vocab_size=512, context_length=77),
)
KINDS = {
    "attention": ("flash", "fmha", "attention", "efficient", "cunn_softmax"),
    "optimizer": ("adam", "multi_tensor", "foreach"),
    "products in fp32": ("sgemm", "tf32", "f32f32", "simt"),
    "products": ("gemm", "nvjet", "cutlass", "xmma", "conv", "cublas", "addmm", "::mm", "bmm", "wgrad"),
    "compiled": ("triton", "cpp_fused", "graph_"),
    "copies": ("memcpy", "memset", "copy", "::cat"),
}
"""What a kernel does, by what its name holds; the first that fits."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True, slots=True)
class Side:
    """One library, ready to train."""

    step: Callable[[Tensor, Tensor], Tensor]
    """Takes a step on pixels and token ids, returns its loss."""
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Of image vectors, text vectors and the multiplier."""
    step_flops: Callable[[Tensor], int]
    """What a step on these token ids needs."""
    options: str


def our_side(model: CLIP, device: torch.device, *, compiled: bool, recomputed: bool) -> Side:
    """Train `model` as zebra does."""
    model.to(device)
    if compiled:
        compile_blocks(model)
    if recomputed:
        apply_activation_checkpointing(model)
    optimizer = build_optimizer(model, OPTIMIZER)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = False

    def step(images: Tensor, tokens: Tensor) -> Tensor:
        return torch.tensor(
            train_step(
                model,
                optimizer,
                images,
                tokens,
                lr=LR,
                grad_clip_norm=OPTIMIZER.grad_clip_norm,
                precision="bf16",
            ).loss
        )

    def step_flops(tokens: Tensor) -> int:
        S, Q, K = packed_shape(tokens)
        forward = image_flops(model.config, len(tokens))
        forward += text_flops(model.config, Layout(S * Q, S * Q * K, len(tokens)), len(tokens))
        return 3 * (forward + loss_flops(len(tokens), model.config.embed_dim))

    options = "blocks compiled" if compiled else "eager"
    return Side(step, info_nce, step_flops, options + ", blocks recomputed" * recomputed)


def their_side(model: CLIP, device: torch.device, *, compiled: bool, recomputed: bool) -> Side:
    """Train the same weights as open_clip does."""
    open_clip = peer()
    config = model.config
    model_cfg = to_open_clip_config(config, Preprocess(image_size=config.image_size))["model_cfg"]
    theirs = open_clip.model.CLIP(**model_cfg, output_dict=True).to(device).train()
    theirs.load_state_dict(published_state_dict(model))
    if recomputed:
        theirs.set_grad_checkpointing()
    optimizer = their_optimizer(theirs, OPTIMIZER)
    called = torch.compile(theirs) if compiled else theirs
    clip_loss = open_clip.ClipLoss()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True

    def step(images: Tensor, tokens: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = clip_loss(**called(images, tokens.to(device, non_blocking=True)), output_dict=True)[
                "contrastive_loss"
            ]
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            theirs.logit_scale.clamp_(0, math.log(100))
        return loss.detach()

    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            return clip_loss(image, text, scale)

    def step_flops(tokens: Tensor) -> int:
        B, L = tokens.shape
        forward = image_flops(config, B, whole=True) + text_flops(config, padded(B, L), B)
        return 3 * (forward + loss_flops(B, config.embed_dim))

    options = "--precision amp_bf16" + " --torchcompile" * compiled + " --grad-checkpointing" * recomputed
    return Side(step, loss, step_flops, options)


def packed_shape(tokens: Tensor) -> tuple[int, int, int]:
    """Return stretches, queries of each, keys of each, as zebra's text tower lays the texts out."""
    host = tokens.cpu()
    seen = pack_texts(host.numpy(), (host.argmax(dim=1) + 1).numpy()).mask_SQK.shape
    return seen[0], seen[1], seen[2]


def measure(
    name: str, config: ModelConfig, batch: tuple[Tensor, list[Tensor]], told: argparse.Namespace
) -> dict[str, Any]:
    """Build one side and time it; if its batch does not fit, again with its blocks recomputed."""
    for recomputed in (False, True):
        try:
            return run(name, config, batch, told, recomputed=recomputed)
        except torch.OutOfMemoryError as error:
            if recomputed:
                return {"out of memory": str(error).split(". ")[0]}
        finally:
            gc.collect()
            torch._dynamo.reset()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    raise AssertionError


def run(
    name: str,
    config: ModelConfig,
    batch: tuple[Tensor, list[Tensor]],
    told: argparse.Namespace,
    *,
    recomputed: bool,
) -> dict[str, Any]:
    """Warm up, time rounds of steps, take a profile."""
    images, texts = batch
    torch.manual_seed(0)
    counters.clear()
    build = our_side if name == "zebra" else their_side
    side = build(CLIP(config).train(), images.device, compiled=not told.eager, recomputed=recomputed)
    turns = itertools.cycle(texts)
    seconds, first_loss = timed(side, images, [next(turns)])
    warm_up, _ = timed(side, images, [next(turns) for _ in range(told.warm_up)])
    graphs = compiled_graphs()
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    rounds, needed = [], []
    for _ in range(told.rounds):
        taken = [next(turns) for _ in range(told.steps)]
        rounds.append(timed(side, images, taken)[0] / told.steps)
        needed += [side.step_flops(tokens) for tokens in taken]
    middle = median(rounds)
    peak = peak_flops(told.peak_tflops)
    return {
        "options": side.options,
        "first_loss": round(first_loss, 5),
        "first_step_seconds": round(seconds, 1),
        "warm_up_seconds": round(warm_up, 1),
        "seconds": round(middle, 4),
        "in single rounds": [round(min(rounds), 4), round(max(rounds), 4)],
        "pairs_per_second": round(len(images) / middle, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if images.is_cuda else None,
        "tflop_per_step": round(sum(needed) / len(needed) / 1e12, 3),
        "utilisation": round(sum(needed) / len(needed) / middle / peak, 3) if peak else None,
        "graphs": graphs,
        "graphs compiled while timed": compiled_graphs() - graphs,
        "loss_seconds": round(loss_seconds(side, len(images), config.embed_dim, images.device), 5),
        "profile": shares(side, images, [next(turns), next(turns)], middle),
    }


def timed(side: Side, images: Tensor, texts: list[Tensor]) -> tuple[float, float]:
    """Return the seconds of a step on each batch of texts, waiting for the device once, and the last loss."""
    synchronize(images.device)
    began = time.perf_counter()
    for tokens in texts:
        loss = side.step(images, tokens)
    synchronize(images.device)
    return time.perf_counter() - began, loss.item()


def loss_seconds(side: Side, pairs: int, embed_dim: int, device: torch.device, repeats: int = 5) -> float:
    """Time the loss of a batch alone, forward and backward."""
    image, text = (
        F.normalize(torch.randn(pairs, embed_dim, device=device), dim=1).requires_grad_() for _ in range(2)
    )
    scale = torch.tensor(100.0, device=device, requires_grad=True)
    best = math.inf
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        side.loss(image, text, scale).backward()
        synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best


def shares(side: Side, images: Tensor, texts: list[Tensor], step_seconds: float) -> dict[str, Any]:
    """Profile a step on each batch of texts: the share of the device's time by kind, the largest kernels, the waits."""
    on_gpu = images.is_cuda
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        timed(side, images, texts)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in recorded.key_averages():
        calls[event.key] += event.count
        if event.device_type == wanted and not event.is_user_annotation:
            spent[event.key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(spent.values())
    kinds: Counter[str] = Counter()
    for kernel, microseconds in spent.items():
        kinds[kind(kernel)] += microseconds
    return {
        "share": {name: round(taken / total, 3) for name, taken in kinds.most_common()},
        "device_idle": round(max(0.0, 1 - total / len(texts) / 1e6 / step_seconds), 3) if on_gpu else None,
        "waits_per_step": sum(calls[wait] for wait in WAITS) / len(texts),
        "kernels": [
            {"name": kernel[:90], "share": round(taken / total, 3)} for kernel, taken in spent.most_common(12)
        ],
    }


def kind(kernel: str) -> str:
    """Say what a kernel does."""
    name = kernel.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


def packing_seconds(tokens: Tensor, repeats: int = 5) -> float:
    """Time what the host does for a batch of texts before zebra's text tower can start."""
    lengths = (tokens.argmax(dim=1) + 1).numpy()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        pack_texts(tokens.numpy(), lengths)
        taken.append(time.perf_counter() - began)
    return median(taken)


def peak_flops(told_tflops: float | None) -> float | None:
    """Return the dense bf16 operations per second that this device promises, if that is known."""
    if told_tflops:
        return told_tflops * 1e12
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def compiled_graphs() -> int:
    """Return how many graphs this run has compiled so far; one more means a compilation."""
    return counters["stats"]["unique_graphs"]


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(name: str, config: ModelConfig, names: list[str], told: argparse.Namespace) -> dict[str, Any]:
    """Measure every side on one model; return the row."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    draw = torch.Generator().manual_seed(0)
    assert isinstance(config.text, TextConfig)
    texts = [captions(told.pairs, config.text, draw) for _ in range(TEXTS)]
    torch.manual_seed(0)
    images = torch.randn(told.pairs, 3, config.image_size, config.image_size, device=device)
    lengths = torch.cat(texts).argmax(dim=1) + 1
    sides = {side: measure(side, config, (images, texts), told) for side in names}
    row: dict[str, Any] = {
        "model": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "measured": "on a GPU" if device.type == "cuda" and not told.toy else "not measured on a GPU",
        "pairs": told.pairs,
        "steps": told.steps,
        "rounds": told.rounds,
        "tokens": {"mean": round(lengths.float().mean().item(), 1), "max": int(lengths.max())},
        "packing_seconds": {
            number: round(packing_seconds(captions(number, config.text, draw)), 4) for number in (512, 4096)
        },
        **sides,
    }
    if "open_clip" in sides and all("seconds" in side for side in sides.values()):
        ours, theirs = sides["zebra"], sides["open_clip"]
        apart = abs(ours["first_loss"] - theirs["first_loss"])
        assert apart < TOLERANCE, f"the same weights and batch, but losses {apart} apart"
        if row["measured"] == "on a GPU":
            row["zebra / open_clip"] = {
                "pairs_per_second": round(theirs["seconds"] / ours["seconds"], 3),
                "peak_gib": round(ours["peak_gib"] / theirs["peak_gib"], 3),
            }
    return row


def chosen(told: argparse.Namespace) -> Iterator[tuple[str, ModelConfig]]:
    """Yield the models to measure."""
    if told.toy:
        yield "toy", TOY
        return
    for name in told.models:
        yield name, get_preset(name)


def main() -> None:
    """Measure every model and keep the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["ViT-B/32", "ViT-B/16"])
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--warm-up", type=int, default=4, help="steps before the first round, beside the first"
    )
    parser.add_argument("--eager", action="store_true", help="without torch.compile, on both sides")
    parser.add_argument(
        "--peak-tflops", type=float, help="dense bf16 of a device that the script does not know"
    )
    parser.add_argument("--toy", action="store_true", help="a small model, 32 pairs, 3 steps")
    told = parser.parse_args()
    if told.toy:
        told.pairs, told.steps, told.rounds, told.warm_up = 32, 3, 1, 2
    elif not torch.cuda.is_available():
        raise SystemExit("no CUDA device is here; --toy runs the script at toy size without one")
    names = ["zebra"]
    if importlib.util.find_spec("open_clip"):
        names.append("open_clip")
    else:
        print(INSTALL)
    for name, config in chosen(told):
        keep("train_gpu", compare(name, config, names, told))


if __name__ == "__main__":
    main()
