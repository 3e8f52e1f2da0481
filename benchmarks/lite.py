"""Start, memory and speed of ViT-B/32 without torch, beside faster-clip and modern-onnx-clip.

    pip install --no-deps --target PEERS faster-clip==0.4.0 modern-onnx-clip==0.2.0
    python benchmarks/lite.py prepare FOLDER
    python benchmarks/lite.py measure FOLDER --peers PEERS [--rounds 5]

Every variant runs in fresh processes of one thread, which take turns; files are in the page cache and the first round,
in which zebra hashes files and compares golden vectors, is a warm-up. A process encodes one JPEG of 640 × 480, then
12 of them, then 64 captions of 8 to 20 words, decoding, preprocessing and tokenizing included. Rates are per
CPU-second. All variants have the same random weights (quick GELU, as in OpenAI's models), each in the layout of its
library:

- zebra.lite: the folder of `zebra export --format onnx`, in int8 and fp32;
- zebra with torch: `zebra.load(precision="int8")`;
- faster-clip: `ClipModel` on a safetensors file in its cache; its text tower is another, multilingual model;
- modern-onnx-clip: `OnnxClip` on zebra's fp32 graphs under its names, since its exporter loads models by name only.

"cosine" is the smallest one to zebra's vectors with torch in fp32 of the same JPEGs and captions; "to alone" compares
captions in batches with the same ones encoded one by one. The row goes to results/lite.jsonl.
"""

import argparse
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

VARIANTS = ("zebra.lite int8", "zebra.lite fp32", "zebra torch int8", "faster-clip", "modern-onnx-clip")
NUM_IMAGES, NUM_TEXTS = 12, 64
WORDS = ["a", "photo", "of", "the", "small", "red", "boat", "on", "lake", "with", "two", "people", "and", "dogs"]
Encode = Callable[[list[bytes]], Any]
EncodeTexts = Callable[[list[str]], Any]


def prepare(folder: Path) -> None:
    """Write the model in every layout, and the reference vectors."""
    import torch

    import zebra
    from embed_images import import_open_clip
    from zebra.config.presets import get_preset
    from zebra.images.preprocess import Preprocess
    from zebra.models import CLIP
    from zebra.pretrained.bundle import Bundle
    from zebra.pretrained.onnx.export import export_onnx
    from zebra.pretrained.transformers.layout import write_transformers
    from zebra.pretrained.weights import published_state_dict
    from zebra.text.bpe import BPETokenizer

    torch.manual_seed(0)
    import_open_clip()
    from open_clip.tokenizer import default_bpe

    config, preprocess = get_preset("ViT-B/32"), Preprocess(image_size=224)
    tokenizer = BPETokenizer.from_merges(default_bpe())
    model = CLIP(config).eval()
    folder.mkdir()
    Bundle(model, tokenizer, preprocess).save(folder / "zebra")
    export_onnx(zebra.load(folder / "zebra", device="cpu"), folder / "lite")
    faster = folder / "faster-clip/sentence-transformers__clip-ViT-B-32/0_CLIPModel"
    faster.mkdir(parents=True)
    tensors = published_state_dict(model)
    write_transformers(faster, config=config, tensors=tensors, preprocess=preprocess, tokenizer=tokenizer)
    modern = folder / "modern-onnx-clip"
    modern.mkdir()
    (modern / "config.json").write_text(json.dumps({"image_size": 224, "context_length": 77}))
    shutil.copy(faster / "tokenizer.json", modern)
    for name, tower in (("visual", "vision"), ("textual", "text")):
        (modern / f"{name}.onnx").hardlink_to(folder / f"lite/onnx/{tower}_model.onnx")
    clip = zebra.load(folder / "zebra", device="cpu")
    np.save(folder / "images.npy", clip.encode_images(draw_jpegs()).numpy())
    np.save(folder / "texts.npy", clip.encode_texts(draw_texts()).numpy())


def draw_jpegs() -> list[bytes]:
    """Return JPEGs of 640 × 480 of smooth colors with fine grain."""
    rng, files = np.random.default_rng(0), []
    for _ in range(NUM_IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = rng.integers(-20, 21, smooth.shape, dtype=np.int16)
        buffer = io.BytesIO()
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def draw_texts() -> list[str]:
    """Return captions of 8 to 20 words."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(8, 21))) for _ in range(NUM_TEXTS)]


def open_variant(name: str, folder: Path) -> tuple[Encode, EncodeTexts | None]:
    """Return the functions that encode images and texts; None for texts of another model."""
    if name.startswith("zebra.lite"):
        import zebra.lite

        lite = zebra.lite.load(folder / "lite", name.split()[1], num_threads=1)
        return lite.encode_images, lite.encode_texts
    if name.startswith("zebra torch"):
        import zebra

        clip = zebra.load(folder / "zebra", precision="int8", device="cpu")
        return clip.encode_images, clip.encode_texts
    if name == "faster-clip":
        import faster_clip

        faster = faster_clip.ClipModel()
        return faster.encode_image, None
    from onnx_clip import OnnxClip

    modern = OnnxClip(str(folder / name), silent=True)
    return lambda files: modern.get_image_embedding([Image.open(io.BytesIO(data)) for data in files]), (
        modern.get_text_embedding
    )


def read_memory() -> dict[str, int]:
    """Return resident memory and its peak in MiB."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    values = {line[0]: int(line[1]) // 1024 for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
    return {"rss": values["VmRSS:"], "peak": values["VmHWM:"]}


def run_variant(name: str, folder: Path, started: float) -> None:
    """Measure in this process and print a JSON object."""
    jpegs = [(folder / f"{index}.jpg").read_bytes() for index in range(NUM_IMAGES)]
    encode, encode_texts = open_variant(name, folder)
    encode(jpegs[:1])
    row: dict[str, Any] = {"first_vector_seconds": time.time() - started, **read_memory()}
    start = time.process_time()
    vectors = {"images": np.asarray(encode(jpegs), np.float32)}
    row["images_per_second"] = NUM_IMAGES / (time.process_time() - start)
    if encode_texts is not None:
        encode_texts(["a photo"])
        start = time.process_time()
        vectors["texts"] = np.asarray(encode_texts(draw_texts()), np.float32)
        row["texts_per_second"] = NUM_TEXTS / (time.process_time() - start)
        alone_NE = np.concatenate([encode_texts([text]) for text in draw_texts()[:16]])
        row["texts_cosine_to_alone"] = float((vectors["texts"][:16] * alone_NE).sum(axis=1).min())
    row["rss_both"] = read_memory()["rss"]
    for kind, raw_NE in vectors.items():
        vectors_NE = raw_NE / np.linalg.norm(raw_NE, axis=1, keepdims=True)
        row[f"{kind}_cosine"] = float((vectors_NE * np.load(folder / f"{kind}.npy")).sum(axis=1).min())
    print(json.dumps(row))


def measure(folder: Path, peers: Path, rounds: int) -> None:
    """Run all variants in turn; save the row."""
    from receipt import save_row

    for index, data in enumerate(draw_jpegs()):
        (folder / f"{index}.jpg").write_bytes(data)
    paths = [str(peers), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "FASTER_CLIP_CACHE": str(folder / "faster-clip"),
        "ZEBRA_CACHE": str(folder / "cache"),
        **dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS"), "1"),
    }
    results: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(rounds + 1):
        for name in VARIANTS:
            command = [sys.executable, __file__, "run", str(folder), "--variant", name, "--started", str(time.time())]
            process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            results[name].append(json.loads(process.stdout.splitlines()[-1]))
    rows = {
        name: {key: round(median(row[key] for row in runs[1:]), 5) for key in runs[0]} for name, runs in results.items()
    }
    pairs = zip(results["zebra.lite int8"][1:], results["faster-clip"][1:], strict=True)
    ratio = median(own["images_per_second"] / peer["images_per_second"] for own, peer in pairs)
    sys.path.append(str(peers))
    versions = {name: importlib.metadata.version(name) for name in ("onnxruntime", "faster-clip", "modern-onnx-clip")}
    save_row("lite", {**rows, "int8 over faster-clip, images": round(ratio, 2), "packages": versions})


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("prepare", "measure", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, help="folder with the peers' packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variant", choices=VARIANTS)
    parser.add_argument("--started", type=float)
    args = parser.parse_args()
    if args.command == "prepare":
        prepare(args.folder)
    elif args.command == "measure":
        measure(args.folder, args.peers, args.rounds)
    else:
        run_variant(args.variant, args.folder, args.started)


if __name__ == "__main__":
    main()
