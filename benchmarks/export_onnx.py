"""Speed, size and cosine of exported ONNX graphs of ViT-B/32, beside torch and open_clip.

    python benchmarks/export_onnx.py [--rounds 5]

Input are preprocessed images, in batches of 16, and captions of 8 to 20 words, in batches of 32; output unit vectors.
onnxruntime runs the exported graphs with the threads of torch. zebra's own rows are `precision="int8"` for images and
fp32 for texts, which share prefixes; the peer is open_clip 3.3.0 in fp32, its default. All models have the same random
weights, take turns in one process, and the first round is a warm-up. Rates are per CPU-second, a ratio is the median of
the ratios to open_clip within a round. The smallest cosine is that of the export, over eleven inputs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zebra
from embed_images import import_open_clip, write_models
from receipt import save_row
from zebra.pretrained.onnx.export import export_onnx
from zebra.pretrained.onnx.model_folder import PIXELS, TOKENS, read_onnx_model
from zebra.pretrained.onnx.session import build_session

WORDS = ["a", "photo", "of", "the", "small", "red", "boat", "on", "a", "lake", "with", "two", "people", "and", "dogs"]


def main() -> None:
    """Export a model, measure all variants and save the row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_models(folder)
        bundle = zebra.load(folder / "zebra", verify=False)
        start = time.process_time()
        export_onnx(bundle, folder / "onnx")
        export_seconds = time.process_time() - start
        model = read_onnx_model(folder / "onnx")
        peer, _, _ = import_open_clip().create_model_and_transforms(f"local-dir:{folder / 'open_clip'}")
        peer.eval()
        tokenize = import_open_clip().get_tokenizer("ViT-B-32")
        quantized = bundle.to_precision("int8")

        rng = np.random.default_rng(0)
        pixels = torch.from_numpy(rng.integers(0, 256, (16, 3, 224, 224), dtype=np.uint8))
        normalized = bundle.preprocess.normalize(pixels)
        captions = [" ".join(rng.choice(WORDS, rng.integers(8, 21))) for _ in range(32)]
        tokens, ids = tokenize(captions), bundle.require_tokenizer().encode(captions, truncate=True).ids
        inputs: dict[str, dict[str, Any]] = {
            "image": {PIXELS: normalized.numpy()},
            "text": {TOKENS: ids.astype(np.int64)},
        }
        variants: dict[str, dict[str, Callable[[], object]]] = {
            "image": {
                "open_clip": lambda: peer.encode_image(normalized, normalize=True),
                "zebra int8": lambda: quantized.encode_pixels(pixels),
            },
            "text": {
                "open_clip": lambda: peer.encode_text(tokens, normalize=True),
                "zebra fp32": lambda: bundle.encode_texts(captions),
            },
        }
        for graph in model.graphs:
            if graph.precision == "fp16":
                continue  # which CPUs without fp16 compute in fp32
            path = folder / "onnx" / graph.file
            session = build_session(path, num_threads=torch.get_num_threads(), purpose="measuring")
            arrays = inputs[graph.tower]
            variants[graph.tower][f"onnxruntime {graph.precision}"] = lambda s=session, a=arrays: s.run(None, a)
        row: dict[str, Any] = {
            "model": "ViT-B/32, random weights",
            "threads": torch.get_num_threads(),
            "export_cpu_seconds": round(export_seconds, 1),
            "megabytes": {g.file: round((folder / "onnx" / g.file).stat().st_size / 1e6, 1) for g in model.graphs},
            "min_cosine": {g.file: g.min_cosine for g in model.graphs},
            "omitted": list(model.omitted),
        }
        with torch.inference_mode():
            for tower, num_inputs in (("image", len(pixels)), ("text", len(captions))):
                rates = measure(variants[tower], num_inputs, rounds)
                row[f"{tower}s_per_cpu_second"] = {name: round(statistics.median(r), 1) for name, r in rates.items()}
                row[f"{tower}s_times_open_clip"] = {
                    name: round(statistics.median(a / b for a, b in zip(r, rates["open_clip"], strict=True)), 2)
                    for name, r in rates.items()
                }
    save_row("export_onnx", row)


def measure(variants: dict[str, Callable[[], object]], num_inputs: int, rounds: int) -> dict[str, list[float]]:
    """Return inputs per CPU-second of each variant in each round after the warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, encode in variants.items():
            start = time.process_time()
            encode()
            if number:
                rates[name].append(num_inputs / (time.process_time() - start))
    return rates


if __name__ == "__main__":
    main()
