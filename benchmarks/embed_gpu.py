"""Images and texts per second, and peak memory, of four libraries with one model on one GPU.

    python benchmarks/embed_gpu.py [--device cuda] [--batch-size 256] [--rounds 5] [--libraries zebra open_clip …]
    python benchmarks/embed_gpu.py --device cpu --quick     a tiny model, as a test of the script

The model is ViT-B/32 with the same random weights, which zebra writes in the layout of each library. Every library runs
in the best setting that its documentation names, in bf16, or in fp16 on GPUs before compute capability 8.0:

- zebra: `zebra.load(precision=…)`; texts with shared prefixes are packed.
- open_clip: `create_model_and_transforms(precision=…)`, eager and with `torch.compile`; the faster
  one counts in each kind of work.
- transformers: `from_pretrained(dtype=…, attn_implementation="sdpa")`, eager and with `torch.compile`, likewise.
- sentence-transformers: `SentenceTransformer(model_kwargs={"dtype": …})` and `encode`.

Three kinds of work: images that are preprocessed already, on the host (the tower and the copy to the device;
sentence-transformers has no such function), PIL images at the size of the model with the library's preprocessing in one
thread, and prompts as text. open_clip and transformers get texts tokenized by zebra, padded to the context length as by
their own tokenizers. All results return to the host as unit vectors. Libraries take turns in every round, in
alternating order, after a warm-up; the result is the median. Peak memory is that of the weights and of the work. The
cosine is the smallest to zebra's vectors in fp32. Rows go to results/embed_gpu.jsonl with --keep.
"""

import argparse
import contextlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import zebra
from receipt import save_row
from step import peer
from zebra.bench.inputs import make_prompts
from zebra.bench.random_model import build_random_model
from zebra.config.export import ExportConfig, ModelFormat
from zebra.config.image_towers import VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer
from zebra.workflows import export

LIBRARIES = ("zebra", "open_clip", "transformers", "sentence_transformers")
FOLDERS: dict[str, ModelFormat] = {
    "zebra": "zebra",
    "open_clip": "open_clip",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
}
Encode = Callable[[Any], Tensor]


@dataclass(frozen=True, slots=True)
class Variant:
    """A library in one setting: functions to unit vectors on the host."""

    library: str
    setting: str
    encode_pixels: Encode | None
    """The result of `preprocess` for a batch → [B, E]."""
    preprocess: Callable[[Sequence[Image.Image]], Any]
    encode_images: Encode
    encode_texts: Encode
    weight_bytes: int


def main() -> None:
    """Measure the libraries that are installed, and print or store a row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libraries", nargs="*", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--quick", action="store_true", help="a tiny model and few inputs; the numbers mean nothing")
    parser.add_argument("--keep", action="store_true", help="write the row to results/embed_gpu.jsonl")
    args = parser.parse_args()
    if args.quick:
        args.images, args.batch_size, args.rounds = 4, 2, 1
    row = measure(args)
    if args.keep:
        save_row("embed_gpu", row)
    else:
        print(json.dumps(row, indent=1))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the row of all libraries on a device."""
    device = torch.device(args.device)
    bundle = build_tiny_model() if args.quick else build_random_model(torch.device("cpu"))
    dtype = best_dtype(device)
    images = make_images(args.images, bundle.image_size)
    texts = make_prompts()[: 8 if args.quick else None]
    row: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU: not measured on a GPU",
        "model": "tiny, not measured" if args.quick else "ViT-B/32",
        "dtype": str(dtype).removeprefix("torch."),
        "batch_size": args.batch_size,
        "images": len(images),
        "texts": len(texts),
    }
    with tempfile.TemporaryDirectory() as folder:
        write_folders(bundle, Path(folder), args.libraries)
        variants: list[Variant] = []
        for library in args.libraries:
            if importlib.util.find_spec(library) is None:
                row[library] = "not installed"
            else:
                variants += OPENERS[library](Path(folder) / library, bundle, device, dtype, args.batch_size)
        reference = (bundle.encode_images(images[:8]), bundle.encode_texts(texts[:8]))
        for variant, result in run_variants(variants, args, images, texts, device, reference):
            row[variant.library] = combine(row.get(variant.library), {"settings": [variant.setting]} | result)
    return row


def combine(first: dict[str, Any] | None, second: dict[str, Any]) -> dict[str, Any]:
    """Return the best of two settings in each kind of work, and their least cosine."""
    if first is None:
        return second
    choose: dict[str, Callable[[Any, Any], Any]] = {"min_cosine": min, "peak_mb": min, "settings": lambda a, b: a + b}
    return {name: choose.get(name, max)(first[name], value) for name, value in second.items()}


def best_dtype(device: torch.device) -> torch.dtype:
    """Return the 16-bit type that the hardware multiplies; fp32 on a CPU, where this script only tests itself."""
    if device.type == "cpu":
        return torch.float32
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if has_bf16 else torch.float16


def run_variants(
    variants: Sequence[Variant],
    args: argparse.Namespace,
    images: list[Image.Image],
    texts: list[str],
    device: torch.device,
    reference: tuple[Tensor, Tensor],
) -> list[tuple[Variant, dict[str, Any]]]:
    """Time all variants in turn; return a result for each."""
    batches = [images[start : start + args.batch_size] for start in range(0, len(images), args.batch_size)]
    pixels = {id(variant): [variant.preprocess(batch) for batch in batches] for variant in variants}
    times: dict[tuple[int, str], list[float]] = {}
    peaks: dict[int, float] = {}
    for number in range(1 + args.rounds):
        for variant in reversed(variants) if number % 2 else variants:
            encode_pixels = variant.encode_pixels
            work: dict[str, Callable[[], object]] = {
                "images": lambda variant=variant: [variant.encode_images(batch) for batch in batches],
                "texts": lambda variant=variant: variant.encode_texts(texts),
            }
            if encode_pixels is not None:
                work["pixels"] = lambda variant=variant, run=encode_pixels: [run(p) for p in pixels[id(variant)]]
            for name, run in work.items():
                before = reset_peak(device)
                times.setdefault((id(variant), name), []).append(time_run(run, device))
                peaks[id(variant)] = max(peaks.get(id(variant), 0), peak_bytes(device) - before)
    results = []
    for variant in variants:
        per_second = {
            f"{'tower' if name == 'pixels' else name}_per_second": round(
                (len(texts) if name == "texts" else len(images)) / median(times[id(variant), name][1:]), 1
            )
            for name in ("pixels", "images", "texts")
            if (id(variant), name) in times
        }
        vectors = (variant.encode_images(images[: len(reference[0])]), variant.encode_texts(texts[: len(reference[1])]))
        cosine = min(float((a * b).sum(dim=-1).min()) for a, b in zip(vectors, reference, strict=True))
        memory = {} if device.type == "cpu" else {"peak_mb": round((variant.weight_bytes + peaks[id(variant)]) / 1e6)}
        results.append((variant, per_second | memory | {"min_cosine": round(cosine, 5)}))
    return results


def time_run(run: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until the device has finished."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def reset_peak(device: torch.device) -> int:
    """Start to measure the peak; return the bytes that are allocated now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def peak_bytes(device: torch.device) -> int:
    """Return the largest number of allocated bytes since `reset_peak`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def open_zebra(
    folder: Path, _bundle: Bundle, device: torch.device, dtype: torch.dtype, _batch_size: int
) -> Iterator[Variant]:
    """Yield zebra in a precision."""
    precision = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    clip = zebra.load(folder, device=str(device), precision=precision)  # type: ignore[arg-type]
    yield Variant(
        "zebra",
        precision,
        clip.encode_pixels,
        lambda images: next(clip.pixel_batches(images)),
        clip.encode_images,
        clip.encode_texts,
        count_bytes(clip.model),
    )


def open_open_clip(
    folder: Path, bundle: Bundle, device: torch.device, dtype: torch.dtype, batch_size: int
) -> Iterator[Variant]:
    """Yield open_clip, eager and compiled."""
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    model, _, transform = peer().create_model_and_transforms(f"local-dir:{folder}", precision=name, device=device)
    model.eval()
    yield from eager_and_compiled(
        "open_clip",
        name,
        model.encode_image,
        model.encode_text,
        lambda images: torch.stack([transform(image) for image in images]),
        bundle,
        device,
        dtype,
        batch_size,
        count_bytes(model),
    )


def open_transformers(
    folder: Path, bundle: Bundle, device: torch.device, dtype: torch.dtype, batch_size: int
) -> Iterator[Variant]:
    """Yield transformers, eager and compiled."""
    from transformers import AutoImageProcessor, AutoModel

    model = AutoModel.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval().to(device)
    processor = AutoImageProcessor.from_pretrained(folder)
    yield from eager_and_compiled(
        "transformers",
        f"{str(dtype).removeprefix('torch.')}, SDPA",
        lambda pixels: model.get_image_features(pixel_values=pixels),
        lambda ids: model.get_text_features(input_ids=ids),
        lambda images: processor(images=list(images), return_tensors="pt")["pixel_values"],
        bundle,
        device,
        dtype,
        batch_size,
        count_bytes(model),
    )


def open_sentence_transformers(
    folder: Path, _bundle: Bundle, device: torch.device, dtype: torch.dtype, batch_size: int
) -> Iterator[Variant]:
    """Yield sentence-transformers, which preprocesses in `encode`."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device=str(device), model_kwargs={"dtype": dtype})

    def encode(inputs: Sequence[Any]) -> Tensor:
        vectors = model.encode(list(inputs), batch_size=batch_size, convert_to_tensor=True, show_progress_bar=False)
        return F.normalize(vectors.float(), dim=-1).cpu()

    setting = str(dtype).removeprefix("torch.")
    yield Variant("sentence_transformers", setting, None, list, encode, encode, count_bytes(model))


OPENERS: dict[str, Callable[[Path, Bundle, torch.device, torch.dtype, int], Iterator[Variant]]] = {
    "zebra": open_zebra,
    "open_clip": open_open_clip,
    "transformers": open_transformers,
    "sentence_transformers": open_sentence_transformers,
}


def eager_and_compiled(
    library: str,
    setting: str,
    image_tower: Encode,
    text_tower: Encode,
    preprocess: Callable[[Sequence[Image.Image]], Tensor],
    bundle: Bundle,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int,
    weight_bytes: int,
) -> Iterator[Variant]:
    """Yield a library that takes tensors, eager and, on a GPU, with torch.compile."""
    tokenizer = bundle.require_tokenizer()

    def variant(setting: str, image_tower: Encode, text_tower: Encode) -> Variant:
        def encode_pixels(pixels: Tensor) -> Tensor:
            return to_unit(image_tower, pixels.to(device, dtype))

        def encode_texts(texts: Sequence[str]) -> Tensor:
            ids_NL = torch.from_numpy(tokenizer.encode(texts, truncate=True).ids)
            ids_NL = F.pad(ids_NL, (0, tokenizer.context_length - ids_NL.shape[1]), value=tokenizer.pad_token_id)
            return torch.cat([to_unit(text_tower, part.to(device)) for part in ids_NL.split(batch_size)])

        return Variant(
            library,
            setting,
            encode_pixels,
            preprocess,
            lambda images: encode_pixels(preprocess(images)),
            encode_texts,
            weight_bytes,
        )

    yield variant(setting, image_tower, text_tower)
    if device.type == "cuda":
        yield variant(f"{setting}, torch.compile", torch.compile(image_tower), torch.compile(text_tower))


def to_unit(tower: Encode, inputs: Tensor) -> Tensor:
    """Return unit vectors on the host."""
    with torch.inference_mode():
        output: Any = tower(inputs)
        vectors = output if isinstance(output, Tensor) else output.pooler_output
        return F.normalize(vectors.float(), dim=-1).cpu()


def count_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of all parameters."""
    return sum(parameter.nbytes for parameter in model.parameters())


def write_folders(bundle: Bundle, home: Path, libraries: Sequence[str]) -> None:
    """Write the model in the layout of each library."""
    original = home / "original"
    bundle.save(original)
    for library in libraries:
        with contextlib.redirect_stdout(None):
            export.run(ExportConfig(model=str(original), format=FOLDERS[library], out=str(home / library)))


def make_images(count: int, size: int) -> list[Image.Image]:
    """Return images of noise at the size of the model."""
    pixels = torch.randint(
        0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return [Image.fromarray(image.numpy()) for image in pixels]


def build_tiny_model() -> Bundle:
    """Return a tiny model."""
    text = TextConfig(width=64, layers=1, heads=1, vocab_size=600, activation="quick_gelu")
    vision = VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16, activation="quick_gelu")
    tokenizer = BPETokenizer.train(make_prompts()[:40], text.vocab_size, text.context_length)
    torch.manual_seed(0)
    model = CLIP(ModelConfig(embed_dim=32, image_size=32, vision=vision, text=text))
    return Bundle(model.eval(), tokenizer, Preprocess(image_size=32))


if __name__ == "__main__":
    main()
