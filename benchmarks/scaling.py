"""Estimate of the GPUs, hours, network, data, memory and checkpoints of a run of CLIP's size.

    python benchmarks/scaling.py [--gpus 64] [--gpu-tflops 989] [--utilization 0.4] [--network-gbps 400] …

Prints Markdown: the assumptions, the measurements of this machine (the last rows of results/loader.jsonl and
results/checkpoints.jsonl), and the results for RN50, ViT-B/32 and ViT-L/14. docs/scaling.md contains the output
without flags, and describes how every line is computed. No number of a GPU is measured.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import tyro

from flops import Layout, convolutions, image_flops, loss_flops, text_flops
from receipt import RESULTS
from step import captions
from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.config.transformer import TransformerConfig
from zebra.losses.tiles import MAX_TILE_ELEMENTS_ACCELERATOR
from zebra.models import CLIP
from zebra.models.packing import pack_texts

MODELS = ("RN50", "ViT-B/32", "ViT-L/14")
PUBLISHED_GPU_HOURS = {"ViT-B/32": "4,600 (A100)", "ViT-L/14": "50,800 (A100)"}
"""open_clip on LAION-400M (its docs/PRETRAINED.md), with the same number of pairs within 2 %."""
FP32, BF16 = 4, 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, a dataset and a schedule."""

    gpus: int = 64
    """GPUs"""
    gpus_per_node: int = 8
    """GPUs in a node"""
    gpu_tflops: float = 989
    """dense bf16 of a GPU, TFLOP/s"""
    gpu_fp32_tflops: float = 67
    """fp32 of a GPU, TFLOP/s"""
    gpu_memory_gb: float = 80
    """memory of a GPU, GB"""
    utilization: float = 0.4
    """useful operations relative to the peak"""
    network_gbps: float = 400
    """network of a GPU, Gbit/s each way"""
    pairs: int = 400_000_000
    """pairs in the dataset"""
    epochs: int = 32
    """epochs"""
    batch: int = 32_768
    """pairs in a step"""
    image_kb: float = 25
    """mean size of a stored image, kB"""
    pairs_per_shard: int = 10_000
    """pairs in a shard"""

    @property
    def nodes(self) -> int:
        """Number of nodes; the last one may be partly used."""
        return -(-self.gpus // self.gpus_per_node)

    @property
    def rows(self) -> int:
        """Local batch size of a GPU."""
        return self.batch // self.gpus

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return self.pairs * self.epochs // self.batch


@dataclass(frozen=True, slots=True)
class Measurements:
    """Measurements of this machine's processor and disk."""

    images_per_core: float
    image_kb: float
    checkpoint_bytes_per_weight: float
    checkpoint_mb_per_second: float


def read_measurements() -> Measurements:
    """Return the last measurements of loader and checkpoints."""
    loader = _rows("loader")[-1]
    checkpoint = [row for row in _rows("checkpoints") if row["model"] == "ViT-B/32"][-1]
    megabytes = checkpoint["checkpoint_megabytes"]
    return Measurements(
        images_per_core=loader["pictures_per_second"]["zebra bytes"] / loader["workers"],
        image_kb=loader["mean_file_bytes"] / 1e3,
        checkpoint_bytes_per_weight=megabytes * 1e6 / count_parameters(get_preset("ViT-B/32")),
        checkpoint_mb_per_second=megabytes / checkpoint["background_seconds"],
    )


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def count_parameters(model: ModelConfig) -> int:
    """Return the number of parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in CLIP(model).parameters())


def text_layout(model: ModelConfig, rows: int) -> Layout:
    """Return the layout of a GPU's texts as packed by the text tower."""
    assert isinstance(model.text, TextConfig)
    tokens = captions(rows, model.text, torch.Generator().manual_seed(0))
    S, Q, K = pack_texts(tokens.numpy(), (tokens.argmax(dim=1) + 1).numpy()).mask_SQK.shape
    return Layout(S * Q, S * Q * K, rows)


def block_bytes(tower: TransformerConfig, *, number: int = BF16, stream: int = FP32) -> int:
    """Return the bytes of activations that a block saves per token for the backward pass.

    Args:
        number: Bytes of an element in matrix products; 2 under bf16 autocast.
        stream: Bytes of an element of the residual stream, which both norms save; 4 under bf16 autocast.
    """
    attention = 5 * tower.width  # input of the projection; query, key and value; output of attention
    mlp = tower.width + 2 * tower.hidden  # input and output of the first product, input of the second
    return 2 * stream * tower.width + number * (attention + mlp)


def activation_bytes(model: ModelConfig, texts: Layout, rows: int, *, recomputed: bool) -> int:
    """Return the bytes of activations that `rows` pairs save for the backward pass.

    Args:
        recomputed: Blocks save only their input, and recompute their activations in the backward pass.
    """
    vision = model.vision
    if isinstance(vision, ResNetConfig):  # input of batch norm, and of the next convolution
        numbers = sum(2 * side**2 * channels for side, _, channels, _ in convolutions(vision, model.image_size))
        image = rows * numbers * BF16
    else:
        assert isinstance(vision, VisionTransformerConfig)
        tokens = rows * ((model.image_size // vision.patch_size) ** 2 + 1)
        image = _tower_bytes(vision, tokens, recomputed=recomputed)
    return image + _tower_bytes(model.text, texts.tokens, recomputed=recomputed)


def _tower_bytes(tower: TransformerConfig, tokens: int, *, recomputed: bool) -> int:
    if recomputed:
        return tokens * (tower.layers * FP32 * tower.width + block_bytes(tower))
    return tokens * tower.layers * block_bytes(tower)


def estimate(name: str, cluster: Cluster, measurements: Measurements) -> Iterator[tuple[str, str]]:
    """Yield name and value of every line for one model."""
    model = get_preset(name)
    num_parameters, rows, N, W = count_parameters(model), cluster.rows, cluster.batch, cluster.gpus
    texts = text_layout(model, rows)
    image, text = image_flops(model, rows), text_flops(model, texts, rows)
    step = 3 * (image + text + loss_flops(N, model.embed_dim) // W)
    seconds = step / (cluster.gpu_tflops * 1e12 * cluster.utilization)
    # Loss and batch accuracy are in fp32: every tile is computed twice, plus two gradients and the accuracy.
    similarities = 5 * loss_flops(N, model.embed_dim) / W / (cluster.gpu_fp32_tflops * 1e12)
    hours = seconds * cluster.steps / 3600
    yield "weights, million", f"{num_parameters / 1e6:,.1f}"
    yield "forward pass of an image, GFLOP", f"{image / rows / 1e9:,.1f}"
    yield "forward pass of a text, GFLOP", f"{text / rows / 1e9:,.2f}"
    yield "complete run, EFLOP", f"{step * W * cluster.steps / 1e18:,.0f}"
    yield "pairs/s per GPU", f"{rows / seconds:,.0f}"
    yield "seconds per step", f"{seconds:.3f}"
    yield "milliseconds for similarities in fp32", f"{similarities * 1e3:.1f}"
    yield "**hours, matrix products only**", f"**{hours:,.1f}**"
    yield "**GPU-hours**", f"**{hours * W:,.0f}**"
    yield "published GPU-hours", PUBLISHED_GPU_HOURS.get(name, "unknown")

    images_per_second = N / seconds / cluster.nodes
    yield "images/s per node", f"{images_per_second:,.0f}"
    yield "MB/s per node", f"{images_per_second * cluster.image_kb / 1e3:,.0f}"
    yield "decoding cores per node", f"{images_per_second / measurements.images_per_core:,.0f}"

    gathered = (W - 1) / W * N * model.embed_dim * FP32
    columns = 2 * 2 * (W - 1) / W * N * FP32
    reduced = 2 * (W - 1) / W * num_parameters * FP32
    traffic = (2 * gathered + columns + reduced) / (cluster.network_gbps * 1e9 / 8)
    yield "texts gathered, MB", f"{gathered / 1e6:,.0f}"
    yield "gradients of texts scattered, MB", f"{gathered / 1e6:,.0f}"
    yield "column maxima and sums, MB", f"{columns / 1e6:,.1f}"
    yield "gradients of weights reduced, MB", f"{reduced / 1e6:,.0f}"
    yield "share of a step without overlap", f"{traffic / seconds:.0%}"

    states = 16 * num_parameters
    saved, recomputed = (activation_bytes(model, texts, rows, recomputed=flag) for flag in (False, True))
    loss = FP32 * (2 * N * model.embed_dim + 2 * MAX_TILE_ELEMENTS_ACCELERATOR)
    fits = states + saved + loss < 0.9 * cluster.gpu_memory_gb * 1e9
    yield "weights, gradients and moments, GB", f"{states / 1e9:.1f}"
    yield "weights, gradients and moments, sharded, GB", f"{states / W / 1e9:.2f}"
    yield "activations, GB", f"{saved / 1e9:,.0f}"
    yield "activations with recomputed blocks, GB", f"{recomputed / 1e9:,.1f}"
    yield "loss, GB", f"{loss / 1e9:.2f}"
    yield "recompute blocks?", "no" if fits else "yes"

    checkpoint = measurements.checkpoint_bytes_per_weight * num_parameters
    yield "checkpoint, GB", f"{checkpoint / 1e9:.1f}"
    yield "seconds to write a checkpoint", f"{checkpoint / 1e6 / measurements.checkpoint_mb_per_second:.0f}"


def report(cluster: Cluster) -> str:
    """Return all tables as Markdown."""
    measurements = read_measurements()
    shards = -(-cluster.pairs // cluster.pairs_per_shard)
    shard_mb = cluster.pairs_per_shard * cluster.image_kb / 1e3
    data_tb = cluster.pairs * cluster.image_kb / 1e9
    per_weight, speed = measurements.checkpoint_bytes_per_weight, measurements.checkpoint_mb_per_second
    inputs = {
        "GPUs": f"{cluster.gpus:,} in {cluster.nodes:,} nodes",
        "one GPU": (
            f"{cluster.gpu_tflops:g} TFLOP/s of dense bf16, {cluster.gpu_fp32_tflops:g} of fp32, "
            f"{cluster.gpu_memory_gb:g} GB"
        ),
        "utilization": f"{cluster.utilization:.0%} (assumed, not measured)",
        "network per GPU": f"{cluster.network_gbps:g} Gbit/s each way",
        "data": f"{cluster.pairs:,} pairs, {data_tb:,.1f} TB of images",
        "shards": f"{shards:,} of {shard_mb:,.0f} MB, {cluster.pairs_per_shard:,} pairs each",
        "schedule": f"{cluster.epochs} epochs with batch size {cluster.batch:,}: {cluster.steps:,} steps",
        "local batch size of a GPU": f"{cluster.rows:,} pairs",
        "order of an epoch": f"{cluster.pairs * 8 / 1e9:.1f} GB in every data-loading process",
        "measured here: loader": (
            f"{measurements.images_per_core:,.0f} images/s per core, of {measurements.image_kb:.0f} kB each"
        ),
        "measured here: checkpoint": f"{per_weight:.1f} bytes per weight, written at {speed:,.0f} MB/s",
    }
    lines = ["| assumptions | |", "|---|---|", *(f"| {name} | {value} |" for name, value in inputs.items()), ""]
    columns = [dict(estimate(name, cluster, measurements)) for name in MODELS]
    lines += ["| " + " | ".join(["", *MODELS]) + " |", "|---|" + "---:|" * len(MODELS)]
    lines += ["| " + " | ".join([line, *(column[line] for column in columns)]) + " |" for line in columns[0]]
    return "\n".join(lines)


def main() -> None:
    """Parse a cluster from the flags and print the estimate."""
    print(report(tyro.cli(Cluster, description=__doc__)))


if __name__ == "__main__":
    main()
