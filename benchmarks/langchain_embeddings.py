"""Embeddings in LangChain: zebra's adapter and that of langchain-experimental, which runs open_clip.

    pip install langchain-core
    pip install --no-deps langchain-experimental
    python benchmarks/langchain_embeddings.py [--texts 200] [--images 32] [--rounds 3]

One row in results/langchain.jsonl: texts and images per second of `embed_documents` and `embed_image`, for ViT-B/32
with the same random weights in fp32, and for zebra's `precision="auto"`. Both sides get lists of texts and paths of PNG
files, and take turns in one process. The first round is a warm-up, and the result is the median of the ratios within a
round. The vectors must agree to 1e-4.
"""

import argparse
import importlib.metadata
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from embed_images import draw_images, import_open_clip, write_models
from embed_text import merges
from receipt import save_row
from zebra.bench.inputs import make_captions
from zebra.integrations.langchain import ZebraEmbeddings
from zebra.pretrained.load import load
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.weights import published_state_dict

Embed = Callable[[list[str]], list[list[float]]]


def load_adapters(folder: Path) -> dict[str, Any]:
    """Return the adapters of one model by name."""
    write_models(folder)
    clip = load(folder / "zebra", tokenizer=merges(), device="cpu")
    write_open_clip(
        folder / "peer",
        config=clip.model.config,
        tensors=published_state_dict(clip.model),
        preprocess=clip.preprocess,
        tokenizer=clip.require_tokenizer(),
    )
    import_open_clip()
    from langchain_experimental.open_clip.open_clip import OpenCLIPEmbeddings  # after `import_open_clip`

    fast = load(folder / "zebra", tokenizer=merges(), device="cpu", precision="auto")
    return {
        "langchain-experimental": OpenCLIPEmbeddings(model_name=f"local-dir:{folder / 'peer'}", checkpoint=""),
        "zebra fp32": ZebraEmbeddings(clip),
        f"zebra auto ({fast.precision})": ZebraEmbeddings(fast),
    }


def compare(embed_by_name: dict[str, Embed], items: list[str], rounds: int) -> dict[str, Any]:
    """Return items per second by name, and how many times as fast as the first each is."""
    seconds: dict[str, list[float]] = {name: [] for name in embed_by_name}
    vectors = {}
    for index in range(rounds + 1):
        for name, embed in embed_by_name.items():
            start = time.perf_counter()
            vectors[name] = np.float32(embed(items))
            if index > 0:
                seconds[name].append(time.perf_counter() - start)
    peer = next(iter(embed_by_name))
    np.testing.assert_allclose(vectors["zebra fp32"], vectors[peer], atol=1e-4)
    return {
        "items": len(items),
        "per second": {name: round(len(items) / median(times), 1) for name, times in seconds.items()},
        "ratio": {
            name: round(median(p / t for p, t in zip(seconds[peer], times, strict=True)), 2)
            for name, times in seconds.items()
        },
    }


def main() -> None:
    """Measure and store the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp_dir:
        folder = Path(temp_dir)
        adapters = load_adapters(folder)
        paths = []
        for index, image in enumerate(draw_images(args.images)):
            paths.append(str(folder / f"{index}.png"))
            image.save(paths[-1])
        row = {
            "texts": compare(
                {name: a.embed_documents for name, a in adapters.items()}, make_captions(args.texts), args.rounds
            ),
            "images": compare({name: a.embed_image for name, a in adapters.items()}, paths, args.rounds),
            "threads": torch.get_num_threads(),
            "peer versions": {
                name: importlib.metadata.version(name)
                for name in ("langchain-core", "langchain-experimental", "open_clip_torch")
            },
        }
    save_row("langchain", row)


if __name__ == "__main__":
    main()
