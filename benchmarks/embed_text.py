"""Texts per second of the text tower of ViT-B/32, compared with open_clip.

    python benchmarks/embed_text.py [--texts 2000] [--rounds 3] [--threads T]

Three benchmarks, with one row each in results/embed_text.jsonl:

    prompts      80 templates × 25 classes in the style of ImageNet's: fp32, and int8 against open_clip's fp32; bf16 as
                 well if the processor multiplies it
    captions     distinct sentences of 8 to 20 words, likewise
    tokenising   both datasets on one thread, without the tower

The peer is open_clip 3.3.0 as in its README: its tokenizer, `encode_text` on rows of 77 positions, in fp32, with the
fastest batch size of 64, 128 and 256. Both sides have the same random weights and the BPE merges of open_clip. They
take turns in one process, the first round is a warm-up, and the result is the median of the ratios within a round. The
time of the tokenizer is included on both sides. transformers' `get_text_features` is measured as well, on 256 of the
texts, tokenized beforehand and padded to 77 as in its documentation.

`ideal` is the ratio at equal speed per position: the peer's positions (77 per text) over the distinct prefixes of the
texts, which are all that a causal tower must compute. The vectors must agree to 1e-5 in every component, in int8 and
bf16 to a cosine of 0.999. The row has the time per text for 250, 500, … texts; results/embed_text.svg shows it.
"""

import argparse
import functools
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

import zebra
from embed_images import describe_instructions, import_open_clip, write_models
from receipt import RESULTS, save_row
from zebra.bench.inputs import make_captions, make_prompts
from zebra.models.packing import sort_prefixes
from zebra.pretrained.device import has_native_bf16
from zebra.text.bpe import BPETokenizer

Encode = Callable[[Sequence[str]], Tensor]
T = TypeVar("T")


def merges() -> Path:
    """Return the BPE merges of open_clip."""
    from open_clip.tokenizer import default_bpe  # after `import_open_clip`

    return Path(default_bpe())


class Peer:
    """open_clip with its fastest batch size."""

    def __init__(self, folder: Path) -> None:
        self.model, _, _ = import_open_clip().create_model_and_transforms(f"local-dir:{folder}")
        self.model.eval()
        self.tokenizer = import_open_clip().get_tokenizer("ViT-B-32")
        probe = make_captions(256)
        self.batch_size = min((64, 128, 256), key=lambda size: timed(lambda: self.encode(probe, size))[0])

    def encode(self, texts: Sequence[str], size: int | None = None) -> Tensor:
        """Return unit vectors."""
        step = size or self.batch_size
        with torch.no_grad():
            tokens = self.tokenizer(list(texts))
            parts = [self.model.encode_text(part) for part in tokens.split(step)]
        return F.normalize(torch.cat(parts), dim=-1)


def load_transformers(folder: Path, texts: Sequence[str]) -> Callable[[], None]:
    """Return a function that embeds tokenized texts with transformers, in batches of 64."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder).eval()
    rows = torch.from_numpy(BPETokenizer.from_merges(merges()).encode(texts, truncate=True).ids)
    ids = F.pad(rows, (0, 77 - rows.shape[1]))

    def encode() -> None:
        with torch.no_grad():
            for part in ids.split(64):
                model.get_text_features(input_ids=part)

    return encode


def timed(run: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds and the result of a call."""
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result


def compare(variants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Time all variants in turn, in alternating order; the first round is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(1 + rounds):
        for name in sorted(variants, reverse=number % 2 == 1):
            seconds[name].append(timed(variants[name])[0])
    return {name: times[1:] for name, times in seconds.items()}


def ratio(peer: Sequence[float], own: Sequence[float]) -> float:
    """Return the median of the ratios within a round."""
    return round(median(a / b for a, b in zip(peer, own, strict=True)), 2)


def compare_towers(
    name: str, texts: list[str], peer: Peer, other: Path, ours: dict[str, Encode], rounds: int
) -> dict[str, Any]:
    """Time the peer and all variants of zebra on the same texts; return the row."""
    tokenizer = BPETokenizer.from_merges(merges())
    encoded = tokenizer.encode(texts, truncate=True)
    distinct = int(sort_prefixes(encoded.ids, encoded.lengths)[1].sum())
    ideal = len(texts) * tokenizer.context_length / distinct
    forms = {"open_clip": peer.encode, **ours}
    seconds = compare({form: functools.partial(run, texts) for form, run in forms.items()}, rounds)
    peer_vectors = peer.encode(texts)
    subset = texts[:: max(1, len(texts) // 256)][:256]
    transformers_times = compare({"transformers": load_transformers(other, subset)}, rounds)["transformers"]
    row: dict[str, Any] = {
        "question": name,
        "texts": len(texts),
        "tokens": int(encoded.lengths.sum()),
        "distinct prefixes": distinct,
        "ideal": round(ideal, 2),
        "threads": torch.get_num_threads(),
        "instructions": describe_instructions(),
        "open_clip": {"texts_per_second": round(len(texts) / median(seconds["open_clip"]), 1)},
        "open_clip's batch": peer.batch_size,
        "transformers": {"texts_per_second": round(len(subset) / median(transformers_times), 1)},
    }
    for form, encode in ours.items():
        vectors = encode(texts)
        difference, cosine = (
            float((vectors - peer_vectors).abs().max()),
            float((vectors * peer_vectors).sum(1).mean()),
        )
        assert difference < 1e-5 if form == "fp32" else cosine >= 0.999, (form, difference, cosine)
        times = ratio(seconds["open_clip"], seconds[form])
        row[form] = {
            "texts_per_second": round(len(texts) / median(seconds[form]), 1),
            "times as fast as open_clip": times,
            "share of the ideal": round(times / ideal, 3),
            "largest difference": float(f"{difference:.2g}"),
            "mean cosine": round(cosine, 6),
            "smallest cosine": round(float((vectors * peer_vectors).sum(1).min()), 6),
        }
    sizes = [size for size in (250, 500, 1000, 2000, 4000, 8000) if size <= len(texts)]
    row["milliseconds per text"] = {
        size: round(1e3 * timed(functools.partial(ours["fp32"], texts[:size]))[0] / size, 3) for size in sizes
    }
    return row


def compare_tokenizers(texts: list[str], rounds: int) -> dict[str, Any]:
    """Compare the tokenizers on one thread; return the row."""
    tokenizer, peer_tokenizer = (BPETokenizer.from_merges(merges()), import_open_clip().get_tokenizer("ViT-B-32"))
    peer_ids, own = peer_tokenizer(texts), tokenizer.encode(texts, truncate=True)
    assert torch.equal(peer_ids[:, : own.ids.shape[1]], torch.from_numpy(own.ids))
    variants = {"open_clip": lambda: peer_tokenizer(texts), "zebra": lambda: tokenizer.encode(texts, truncate=True)}
    seconds = compare(variants, rounds)
    return {
        "question": "tokenising",
        "texts": len(texts),
        **{name: {"texts_per_second": round(len(texts) / median(times))} for name, times in seconds.items()},
        "times as fast as open_clip": ratio(seconds["open_clip"], seconds["zebra"]),
    }


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Plot the time per text against the number of texts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="texts", ylabel="ms per text, fp32")
    for row in rows:
        costs = row["milliseconds per text"]
        axes.plot(list(costs), list(costs.values()), marker="o", label=row["question"])
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(RESULTS / "embed_text.svg")


def main() -> None:
    """Measure and store the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=2000, help="captions")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temp_dir:
        write_models(Path(temp_dir))
        peer, other = Peer(Path(temp_dir) / "open_clip"), Path(temp_dir) / "transformers"
        ours = {
            precision: zebra.load(
                Path(temp_dir) / "zebra", tokenizer=merges(), device="cpu", precision=precision
            ).encode_texts
            for precision in ("fp32", "int8", *(["bf16"] if has_native_bf16(torch.device("cpu")) else []))
        }
        rows = [
            compare_towers("prompts", make_prompts(), peer, other, ours, args.rounds),
            compare_towers("captions", make_captions(args.texts), peer, other, ours, args.rounds),
        ]
        draw(rows)
        rows.append(compare_tokenizers(make_prompts() + make_captions(args.texts), 5))
    for row in rows:
        save_row("embed_text", row | {"open_clip version": importlib.metadata.version("open_clip_torch")})


if __name__ == "__main__":
    main()
