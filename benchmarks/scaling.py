"""What does a run of CLIP's size need: GPUs, hours, network, data, memory, checkpoints? On paper, for any cluster.

    python benchmarks/scaling.py [--gpus 64] [--gpu-tflops 989] [--utilisation 0.4] [--network-gbps 400] …

Prints Markdown: what is assumed, what was measured here (the last rows of results/loader.jsonl and
results/checkpoints.jsonl), and what follows for RN50, ViT-B/32 and ViT-L/14. docs/scaling.md holds the output without
a flag, and says how every line is computed. No figure of a GPU is measured here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import tyro

from flops import Layout, convolutions, image_flops, loss_flops, text_flops
from receipt import RESULTS
from step import captions
from zebra.config.model import (
    ModelConfig,
    ResNetConfig,
    TextConfig,
    TransformerConfig,
    VisionTransformerConfig,
)
from zebra.config.presets import get_preset
from zebra.losses.tiles import MAX_TILE_ELEMENTS_ACCELERATOR
from zebra.models import CLIP
from zebra.models.packing import pack_texts

MODELS = ("RN50", "ViT-B/32", "ViT-L/14")
PUBLISHED_GPU_HOURS = {"ViT-B/32": "4,600 (A100)", "ViT-L/14": "50,800 (A100)"}
"""open_clip on LAION-400M (its docs/PRETRAINED.md): the same number of pairs seen, within 2 %."""
FP32, BF16 = 4, 2


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, a data set and a schedule."""

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
    utilisation: float = 0.4
    """share of the peak that useful operations take"""
    network_gbps: float = 400
    """network of a GPU, Gbit/s each way"""
    pairs: int = 400_000_000
    """pairs in the data set"""
    epochs: int = 32
    """passes over them"""
    batch: int = 32_768
    """pairs in a step"""
    picture_kb: float = 25
    """mean size of a stored picture, kB"""
    pairs_per_shard: int = 10_000
    """pairs in a shard"""

    @property
    def nodes(self) -> int:
        """Nodes, the last of them perhaps in part."""
        return -(-self.gpus // self.gpus_per_node)

    @property
    def rows(self) -> int:
        """Pairs of a GPU in a step."""
        return self.batch // self.gpus

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.pairs * self.epochs // self.batch


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of this machine's processors and disk."""

    pictures_per_core: float
    picture_kb: float
    checkpoint_bytes_per_weight: float
    checkpoint_mb_per_second: float


def measured() -> Measured:
    """Read the last rows."""
    loader = _rows("loader")[-1]
    checkpoint = [row for row in _rows("checkpoints") if row["model"] == "ViT-B/32"][-1]
    megabytes = checkpoint["checkpoint_megabytes"]
    return Measured(
        pictures_per_core=loader["pictures_per_second"]["zebra bytes"] / loader["workers"],
        picture_kb=loader["mean_file_bytes"] / 1e3,
        checkpoint_bytes_per_weight=megabytes * 1e6 / weights(get_preset("ViT-B/32")),
        checkpoint_mb_per_second=megabytes / checkpoint["background_seconds"],
    )


def _rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (RESULTS / f"{name}.jsonl").read_text().splitlines()]


def weights(model: ModelConfig) -> int:
    """Count the parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in CLIP(model).parameters())


def texts_of(model: ModelConfig, rows: int) -> Layout:
    """Lay out a GPU's share of texts as the text tower does."""
    assert isinstance(model.text, TextConfig)
    tokens = captions(rows, model.text, torch.Generator().manual_seed(0))
    S, Q, K = pack_texts(tokens.numpy(), (tokens.argmax(dim=1) + 1).numpy()).mask_SQK.shape
    return Layout(S * Q, S * Q * K, rows)


def block_bytes(tower: TransformerConfig, *, number: int = BF16, stream: int = FP32) -> int:
    """Return what a block keeps of a token for its gradients, written operator by operator.

    Args:
        number: Bytes of what products take and give: under bf16 autocast 2.
        stream: Bytes of the residual stream, which both norms keep: under bf16 autocast 4.
    """
    attention = 5 * tower.width  # the projection's input; query, key and value; what attention mixed
    mlp = tower.width + 2 * tower.hidden  # the first product's input and output, the second's input
    return 2 * stream * tower.width + number * (attention + mlp)


def activation_bytes(model: ModelConfig, texts: Layout, rows: int, *, recomputed: bool) -> int:
    """Return what `rows` pairs keep for their gradients.

    Args:
        recomputed: A block keeps its input alone, and all it computes only while its own gradients are.
    """
    vision = model.vision
    if isinstance(vision, ResNetConfig):  # what batch norm takes, and what the next convolution takes
        numbers = sum(
            2 * side**2 * channels for side, _, channels, _ in convolutions(vision, model.image_size)
        )
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


def plan(name: str, cluster: Cluster, known: Measured) -> Iterator[tuple[str, str]]:
    """Yield the lines of one model: what, how much."""
    model = get_preset(name)
    count, rows, N, W = weights(model), cluster.rows, cluster.batch, cluster.gpus
    texts = texts_of(model, rows)
    image, text = image_flops(model, rows), text_flops(model, texts, rows)
    step = 3 * (image + text + loss_flops(N, model.embed_dim) // W)
    seconds = step / (cluster.gpu_tflops * 1e12 * cluster.utilisation)
    # The loss and the batch's accuracy are fp32: every tile twice, its two gradients, and the accuracy's own products.
    similarities = 5 * loss_flops(N, model.embed_dim) / W / (cluster.gpu_fp32_tflops * 1e12)
    hours = seconds * cluster.steps / 3600
    yield "weights, million", f"{count / 1e6:,.1f}"
    yield "forward pass of an image, GFLOP", f"{image / rows / 1e9:,.1f}"
    yield "forward pass of a text, GFLOP", f"{text / rows / 1e9:,.2f}"
    yield "the whole run, EFLOP", f"{step * W * cluster.steps / 1e18:,.0f}"
    yield "pairs/s of a GPU", f"{rows / seconds:,.0f}"
    yield "seconds of a step", f"{seconds:.3f}"
    yield "milliseconds of similarities in fp32", f"{similarities * 1e3:.1f}"
    yield "**hours, products alone**", f"**{hours:,.1f}**"
    yield "**GPU-hours**", f"**{hours * W:,.0f}**"
    yield "others' GPU-hours", PUBLISHED_GPU_HOURS.get(name, "unknown")

    pictures = N / seconds / cluster.nodes
    yield "pictures/s of a node", f"{pictures:,.0f}"
    yield "MB/s of a node", f"{pictures * cluster.picture_kb / 1e3:,.0f}"
    yield "cores of a node that decode", f"{pictures / known.pictures_per_core:,.0f}"

    gathered = (W - 1) / W * N * model.embed_dim * FP32
    columns = 2 * 2 * (W - 1) / W * N * FP32
    reduced = 2 * (W - 1) / W * count * FP32
    traffic = (2 * gathered + columns + reduced) / (cluster.network_gbps * 1e9 / 8)
    yield "texts gathered, MB", f"{gathered / 1e6:,.0f}"
    yield "their gradients scattered, MB", f"{gathered / 1e6:,.0f}"
    yield "columns' maxima and sums, MB", f"{columns / 1e6:,.1f}"
    yield "weights' gradients reduced, MB", f"{reduced / 1e6:,.0f}"
    yield "share of a step, if nothing overlaps", f"{traffic / seconds:.0%}"

    states = 16 * count
    kept, again = (activation_bytes(model, texts, rows, recomputed=flag) for flag in (False, True))
    loss = FP32 * (2 * N * model.embed_dim + 2 * MAX_TILE_ELEMENTS_ACCELERATOR)
    fits = states + kept + loss < 0.9 * cluster.gpu_memory_gb * 1e9
    yield "weights, gradients, moments, GB", f"{states / 1e9:.1f}"
    yield "the same, sharded, GB", f"{states / W / 1e9:.2f}"
    yield "activations, GB", f"{kept / 1e9:,.0f}"
    yield "activations, blocks recomputed, GB", f"{again / 1e9:,.1f}"
    yield "loss, GB", f"{loss / 1e9:.2f}"
    yield "must blocks be recomputed?", "no" if fits else "yes"

    checkpoint = known.checkpoint_bytes_per_weight * count
    yield "a checkpoint, GB", f"{checkpoint / 1e9:.1f}"
    yield "seconds to write it", f"{checkpoint / 1e6 / known.checkpoint_mb_per_second:.0f}"


def report(cluster: Cluster) -> str:
    """Return all tables as Markdown."""
    known = measured()
    shards = -(-cluster.pairs // cluster.pairs_per_shard)
    shard_mb = cluster.pairs_per_shard * cluster.picture_kb / 1e3
    data_tb = cluster.pairs * cluster.picture_kb / 1e9
    per_weight, speed = known.checkpoint_bytes_per_weight, known.checkpoint_mb_per_second
    given = {
        "GPUs": f"{cluster.gpus:,} in {cluster.nodes:,} nodes",
        "a GPU": (
            f"{cluster.gpu_tflops:g} TFLOP/s of dense bf16, {cluster.gpu_fp32_tflops:g} of fp32, "
            f"{cluster.gpu_memory_gb:g} GB"
        ),
        "utilisation": f"{cluster.utilisation:.0%} (assumed, not measured)",
        "network of a GPU": f"{cluster.network_gbps:g} Gbit/s each way",
        "data": f"{cluster.pairs:,} pairs, {data_tb:,.1f} TB of pictures",
        "shards": f"{shards:,} of {shard_mb:,.0f} MB, {cluster.pairs_per_shard:,} pairs each",
        "schedule": f"{cluster.epochs} epochs of batches of {cluster.batch:,}: {cluster.steps:,} steps",
        "a GPU's share of a batch": f"{cluster.rows:,} pairs",
        "the order of an epoch": f"{cluster.pairs * 8 / 1e9:.1f} GB in every process that reads",
        "measured here: a core reads": f"{known.pictures_per_core:,.0f} pictures/s of {known.picture_kb:.0f} kB",
        "measured here: a checkpoint": f"{per_weight:.1f} bytes a weight, written at {speed:,.0f} MB/s",
    }
    lines = ["| given | |", "|---|---|", *(f"| {name} | {value} |" for name, value in given.items()), ""]
    columns = [dict(plan(name, cluster, known)) for name in MODELS]
    lines += ["| " + " | ".join(["", *MODELS]) + " |", "|---|" + "---:|" * len(MODELS)]
    lines += ["| " + " | ".join([what, *(column[what] for column in columns)]) + " |" for what in columns[0]]
    return "\n".join(lines)


def main() -> None:
    """Read a cluster from the flags, print its plan."""
    print(report(tyro.cli(Cluster, description=__doc__)))


if __name__ == "__main__":
    main()
