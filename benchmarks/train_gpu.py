"""Training speed of ViT-B/32 and ViT-B/16 on one GPU in zebra and in open_clip, with a profile.

    python benchmarks/train_gpu.py [--models ViT-B/32 ViT-B/16] [--pairs 4096] [--steps 5] [--rounds 3] [--eager]
                                   [--peak-tflops T]
    python benchmarks/train_gpu.py --toy

Both start from the same random weights and get the same pixels, generated on the device, and the same texts, with the
lengths described in step.py and another batch in every step. Both compute in bf16 with torch.compile:

- zebra runs `zebra.train.step.train_step`, as in a run: bf16 autocast, the loss in fp32, fused AdamW. Every block of
  the towers is compiled separately; the text tower packs its texts on the host, and its blocks are compiled for any
  length.
- open_clip 3.3.0 runs as its `open_clip_train` with `--precision amp_bf16 --torchcompile`: the complete model is
  compiled, TF32 and cuDNN's benchmark are on as in its main.py, `ClipLoss` runs under autocast, with
  `torch.optim.AdamW` as in its main.py. `--local-loss --gather-with-grad` change nothing on one GPU.

Gradient clipping is off. If a batch does not fit into memory, the run is repeated with activation checkpointing
(open_clip: `--grad-checkpointing`), and the row says so. A round is a number of steps with one synchronization at its
end; the result is the median of the rounds. Utilization is the number of operations that the towers and the loss need
(`flops.py`: three forward passes, without recomputation) per second, relative to the peak of dense bf16. Each library
is charged with what it computes: open_clip with all 77 positions of every text.

A profile of two steps follows: time by kind of kernel, the share of time that the device is idle, and how often the
host waits for the device. The time of packing a batch of texts on the host and of the loss alone is measured
separately. open_clip is measured if it is installed.

`--toy` runs a small model with a batch size of 32 on any device, as a test of the script. Without a GPU it is
required, and the row says that nothing was measured. Rows go to results/train_gpu.jsonl.
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
from receipt import save_row
from step import captions, peer, their_optimizer
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
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
    "open_clip is not installed, so only zebra is measured. For the comparison:\n"
    "    pip install open_clip_torch==3.3.0\n"
    "with a CPU build of torch:\n"
    "    pip install --no-deps open_clip_torch==3.3.0 timm torchvision && pip install ftfy regex"
)
OPTIMIZER = OptimizerConfig(grad_clip_norm=0.0)
LR = 1e-5
TOLERANCE = 2e-2
"""Largest accepted difference of the first two losses: open_clip rounds its similarities to bf16."""
NUM_TEXT_BATCHES = 8
PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations per second by part of the device name, the first match counts; from NVIDIA's data sheets."""
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
"""Parts of kernel names by kind; the first match counts."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


@dataclass(frozen=True, slots=True)
class Contender:
    """One library, ready to train."""

    step: Callable[[Tensor, Tensor], Tensor]
    """Takes a step on pixels and token ids and returns the loss."""
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Loss of image vectors, text vectors and logit scale."""
    step_flops: Callable[[Tensor], int]
    """Operations of a step on these token ids."""
    options: str


def zebra_contender(model: CLIP, device: torch.device, *, compiled: bool, is_checkpointed: bool) -> Contender:
    """Return the training of `model` in zebra."""
    model.to(device)
    if compiled:
        compile_blocks(model)
    if is_checkpointed:
        apply_activation_checkpointing(model)
    optimizer = build_optimizer(model, OPTIMIZER)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = False

    def step(images: Tensor, tokens: Tensor) -> Tensor:
        return torch.tensor(
            train_step(
                model, optimizer, images, tokens, lr=LR, grad_clip_norm=OPTIMIZER.grad_clip_norm, precision="bf16"
            ).loss
        )

    def step_flops(tokens: Tensor) -> int:
        S, Q, K = packed_shape(tokens)
        forward = image_flops(model.config, len(tokens))
        forward += text_flops(model.config, Layout(S * Q, S * Q * K, len(tokens)), len(tokens))
        return 3 * (forward + loss_flops(len(tokens), model.config.embed_dim))

    options = "blocks compiled" if compiled else "eager"
    return Contender(step, info_nce, step_flops, options + ", blocks recomputed" * is_checkpointed)


def open_clip_contender(model: CLIP, device: torch.device, *, compiled: bool, is_checkpointed: bool) -> Contender:
    """Return the training of the same weights in open_clip."""
    open_clip = peer()
    config = model.config
    model_cfg = to_open_clip_config(config, Preprocess(image_size=config.image_size))["model_cfg"]
    theirs = open_clip.model.CLIP(**model_cfg, output_dict=True).to(device).train()
    theirs.load_state_dict(published_state_dict(model))
    if is_checkpointed:
        theirs.set_grad_checkpointing()
    optimizer = their_optimizer(theirs, OPTIMIZER)
    forward_model = torch.compile(theirs) if compiled else theirs
    clip_loss = open_clip.ClipLoss()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.benchmark = True

    def step(images: Tensor, tokens: Tensor) -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = clip_loss(**forward_model(images, tokens.to(device, non_blocking=True)), output_dict=True)[
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
        forward = image_flops(config, B, all_outputs=True) + text_flops(config, padded(B, L), B)
        return 3 * (forward + loss_flops(B, config.embed_dim))

    options = "--precision amp_bf16" + " --torchcompile" * compiled + " --grad-checkpointing" * is_checkpointed
    return Contender(step, loss, step_flops, options)


def packed_shape(tokens: Tensor) -> tuple[int, int, int]:
    """Return blocks, queries and keys per block of the texts as packed by zebra's text tower."""
    host = tokens.cpu()
    mask_shape = pack_texts(host.numpy(), (host.argmax(dim=1) + 1).numpy()).mask_SQK.shape
    return mask_shape[0], mask_shape[1], mask_shape[2]


def measure(
    name: str, config: ModelConfig, batch: tuple[Tensor, list[Tensor]], args: argparse.Namespace
) -> dict[str, Any]:
    """Measure one library; if its batch does not fit, again with activation checkpointing."""
    for is_checkpointed in (False, True):
        try:
            return run(name, config, batch, args, is_checkpointed=is_checkpointed)
        except torch.OutOfMemoryError as error:
            if is_checkpointed:
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
    args: argparse.Namespace,
    *,
    is_checkpointed: bool,
) -> dict[str, Any]:
    """Warm up, time rounds of steps, and profile."""
    images, texts = batch
    torch.manual_seed(0)
    counters.clear()
    build = zebra_contender if name == "zebra" else open_clip_contender
    contender = build(CLIP(config).train(), images.device, compiled=not args.eager, is_checkpointed=is_checkpointed)
    batches = itertools.cycle(texts)
    seconds, first_loss = timed(contender, images, [next(batches)])
    warm_up, _ = timed(contender, images, [next(batches) for _ in range(args.warm_up)])
    graphs = compiled_graphs()
    if images.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    rounds, flops = [], []
    for _ in range(args.rounds):
        round_texts = [next(batches) for _ in range(args.steps)]
        rounds.append(timed(contender, images, round_texts)[0] / args.steps)
        flops += [contender.step_flops(tokens) for tokens in round_texts]
    seconds_per_step = median(rounds)
    peak = peak_flops(args.peak_tflops)
    return {
        "options": contender.options,
        "first_loss": round(first_loss, 5),
        "first_step_seconds": round(seconds, 1),
        "warm_up_seconds": round(warm_up, 1),
        "seconds": round(seconds_per_step, 4),
        "in single rounds": [round(min(rounds), 4), round(max(rounds), 4)],
        "pairs_per_second": round(len(images) / seconds_per_step, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if images.is_cuda else None,
        "tflop_per_step": round(sum(flops) / len(flops) / 1e12, 3),
        "utilization": round(sum(flops) / len(flops) / seconds_per_step / peak, 3) if peak else None,
        "graphs": graphs,
        "graphs compiled while timed": compiled_graphs() - graphs,
        "loss_seconds": round(loss_seconds(contender, len(images), config.embed_dim, images.device), 5),
        "profile": shares(contender, images, [next(batches), next(batches)], seconds_per_step),
    }


def timed(contender: Contender, images: Tensor, texts: list[Tensor]) -> tuple[float, float]:
    """Return the seconds of a step on each batch of texts, with one synchronization, and the last loss."""
    synchronize(images.device)
    start = time.perf_counter()
    for tokens in texts:
        loss = contender.step(images, tokens)
    synchronize(images.device)
    return time.perf_counter() - start, loss.item()


def loss_seconds(contender: Contender, pairs: int, embed_dim: int, device: torch.device, repeats: int = 5) -> float:
    """Return the seconds of the loss alone, forward and backward."""
    image, text = (F.normalize(torch.randn(pairs, embed_dim, device=device), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor(100.0, device=device, requires_grad=True)
    best = math.inf
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        contender.loss(image, text, scale).backward()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def shares(contender: Contender, images: Tensor, texts: list[Tensor], step_seconds: float) -> dict[str, Any]:
    """Profile a step on each batch of texts: time by kind of kernel, the largest kernels, synchronizations."""
    on_gpu = images.is_cuda
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        timed(contender, images, texts)
    device_type = DeviceType.CUDA if on_gpu else DeviceType.CPU
    microseconds_by_kernel: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in recorded.key_averages():
        calls[event.key] += event.count
        if event.device_type == device_type and not event.is_user_annotation:
            microseconds_by_kernel[event.key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(microseconds_by_kernel.values())
    kinds: Counter[str] = Counter()
    for kernel, microseconds in microseconds_by_kernel.items():
        kinds[kind(kernel)] += microseconds
    return {
        "share": {name: round(microseconds / total, 3) for name, microseconds in kinds.most_common()},
        "device_idle": round(max(0.0, 1 - total / len(texts) / 1e6 / step_seconds), 3) if on_gpu else None,
        "waits_per_step": sum(calls[wait] for wait in WAITS) / len(texts),
        "kernels": [
            {"name": kernel[:90], "share": round(microseconds / total, 3)}
            for kernel, microseconds in microseconds_by_kernel.most_common(12)
        ],
    }


def kind(kernel: str) -> str:
    """Return the kind of a kernel."""
    name = kernel.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other")


def packing_seconds(tokens: Tensor, repeats: int = 5) -> float:
    """Return the seconds of packing a batch of texts on the host, before zebra's text tower can start."""
    lengths = (tokens.argmax(dim=1) + 1).numpy()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        pack_texts(tokens.numpy(), lengths)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def peak_flops(tflops: float | None) -> float | None:
    """Return the peak of dense bf16 operations per second of this device, if it is known."""
    if tflops:
        return tflops * 1e12
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def compiled_graphs() -> int:
    """Return the number of graphs compiled so far."""
    return counters["stats"]["unique_graphs"]


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def compare(name: str, config: ModelConfig, names: list[str], args: argparse.Namespace) -> dict[str, Any]:
    """Measure both libraries on one model; return the row."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator().manual_seed(0)
    assert isinstance(config.text, TextConfig)
    texts = [captions(args.pairs, config.text, generator) for _ in range(NUM_TEXT_BATCHES)]
    torch.manual_seed(0)
    images = torch.randn(args.pairs, 3, config.image_size, config.image_size, device=device)
    lengths = torch.cat(texts).argmax(dim=1) + 1
    results = {library: measure(library, config, (images, texts), args) for library in names}
    row: dict[str, Any] = {
        "model": name,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "measured": "on a GPU" if device.type == "cuda" and not args.toy else "not measured on a GPU",
        "pairs": args.pairs,
        "steps": args.steps,
        "rounds": args.rounds,
        "tokens": {"mean": round(lengths.float().mean().item(), 1), "max": int(lengths.max())},
        "packing_seconds": {
            number: round(packing_seconds(captions(number, config.text, generator)), 4) for number in (512, 4096)
        },
        **results,
    }
    if "open_clip" in results and all("seconds" in result for result in results.values()):
        ours, theirs = results["zebra"], results["open_clip"]
        difference = abs(ours["first_loss"] - theirs["first_loss"])
        assert difference < TOLERANCE, f"the losses of the same weights and batch differ by {difference}"
        if row["measured"] == "on a GPU":
            row["zebra / open_clip"] = {
                "pairs_per_second": round(theirs["seconds"] / ours["seconds"], 3),
                "peak_gib": round(ours["peak_gib"] / theirs["peak_gib"], 3),
            }
    return row


def select_models(args: argparse.Namespace) -> Iterator[tuple[str, ModelConfig]]:
    """Yield the models to measure."""
    if args.toy:
        yield "toy", TOY
        return
    for name in args.models:
        yield name, get_preset(name)


def main() -> None:
    """Measure every model and save the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["ViT-B/32", "ViT-B/16"])
    parser.add_argument("--pairs", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--warm-up", type=int, default=4, help="steps before the first round, in addition to the first step"
    )
    parser.add_argument("--eager", action="store_true", help="without torch.compile, in both libraries")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 of a device that the script does not know")
    parser.add_argument("--toy", action="store_true", help="a small model, 32 pairs, 3 steps")
    args = parser.parse_args()
    if args.toy:
        args.pairs, args.steps, args.rounds, args.warm_up = 32, 3, 1, 2
    elif not torch.cuda.is_available():
        raise SystemExit("no CUDA device is available. Use --toy to test the script without one.")
    names = ["zebra"]
    if importlib.util.find_spec("open_clip"):
        names.append("open_clip")
    else:
        print(INSTALL)
    for name, config in select_models(args):
        save_row("train_gpu", compare(name, config, names, args))


if __name__ == "__main__":
    main()
