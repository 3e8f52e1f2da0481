"""`zebra.load`: a folder of any layout, a hub name or an OpenAI file in; a verified bundle out."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import torch

from zebra.config.precision import InferencePrecision
from zebra.errors import ConfigError, WeightsError, suggest_name
from zebra.pretrained.autotune import pick_precision
from zebra.pretrained.backends import Backend
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import ModelLayout, PretrainedCheckpoint
from zebra.pretrained.device import resolve_device
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed
from zebra.pretrained.download import blob_sha256, download_model
from zebra.pretrained.folder import FORMAT_VERSION, compute_fingerprint, read_json_object, read_model_folder
from zebra.pretrained.golden import verify_golden
from zebra.pretrained.manifest import MANIFEST_FILE, read_manifest_digests, verify_manifest
from zebra.pretrained.open_clip import read_open_clip
from zebra.pretrained.openai import read_openai, verify_published_digest
from zebra.pretrained.pos_embed import resize_pos_embed
from zebra.pretrained.transformers import read_transformers
from zebra.pretrained.weights import build_model
from zebra.text.tokenizers import find_tokenizer

LAYOUT_READERS: dict[ModelLayout, Callable[[Path], PretrainedCheckpoint]] = {
    "zebra": read_model_folder,
    "transformers": read_transformers,
    "open_clip": read_open_clip,
    "openai": read_openai,
}
HUB_PREFIX = "hf:"


def load(
    path: str | Path,
    *,
    tokenizer: str | Path | None = None,
    verify: bool = True,
    device: str = "auto",
    image_size: int | None = None,
    precision: InferencePrecision | Literal["auto"] = "fp32",
    backend: Backend = "torch",
) -> Bundle:
    """Open a model.

    Args:
        path: A folder as zebra, transformers or open_clip write it, an OpenAI `.pt` file, or "hf:org/name", also
            with "@revision".
        tokenizer: A tokenizer file or folder to use instead of what lies with the model.
        verify: Check what can be checked: sha256 of every file that has one on record, and the golden vectors. What
            passed is remembered until a file changes. With another tokenizer or image size the golden vectors do not
            apply and are left alone.
        device: cpu, cuda, mps or auto.
        image_size: Another input size than the model's own; positional embeddings are interpolated.
        precision: fp32; bf16; int8, for the image tower of a transformer on the CPU; or auto: the one that embeds
            pictures fastest here with vectors at a cosine of 0.999 or more to those of fp32, measured once. What was
            taken is the bundle's `precision`.
        backend: onnxruntime runs the image tower in fp32 on the CPU; the first time this writes a graph to the cache.

    Raises:
        WeightsError: A file is missing, damaged, of an unsupported family, or does not compute what it recorded.
        DownloadError: A hub name that can be had neither from the network nor from the cache.
        ConfigError: The device is not there, or the image size or the precision does not suit the model.
        MissingExtra: onnxruntime is asked for and not installed.
    """
    validate_options(precision, backend, device)
    place = resolve_model_path(path)
    layout = detect_layout(place)
    if verify:
        verify_files(place, layout, cached_sha256)
    checkpoint = LAYOUT_READERS[layout](place)
    on = "cpu" if backend == "onnxruntime" else device
    exact = build_bundle(checkpoint, place, tokenizer=tokenizer, device=on, image_size=image_size)
    recorded = verify and layout == "zebra" and image_size is None and tokenizer is None
    if recorded:
        verify_golden_vectors(exact, place)
    if (precision, backend) == ("fp32", "torch"):
        return exact
    if backend == "onnxruntime":
        # Imported here because torch's exporter, which it imports, takes a while.
        from zebra.pretrained.onnx_backend import to_onnxruntime

        bundle = to_onnxruntime(exact)
    else:
        bundle = exact.to_precision(pick_precision(exact) if precision == "auto" else precision)
    if recorded:
        verify_golden_vectors(bundle, place)
    return bundle


def validate_options(precision: str, backend: str, device: str) -> None:
    """Refuse a precision or backend that does not exist, and what the backend cannot do."""
    for what, name, known in (
        ("precision", precision, (*get_args(InferencePrecision), "auto")),
        ("backend", backend, get_args(Backend)),
    ):
        if name not in known:
            raise ConfigError(f"there is no {what} {name!r}.{suggest_name(name, known)}")
    if backend == "onnxruntime" and (precision != "fp32" or device not in ("cpu", "auto")):
        raise ConfigError(
            f"onnxruntime computes in fp32 on the CPU here, not in {precision} on {device}; "
            "leave backend at 'torch' for smaller formats and other devices"
        )


def resolve_model_path(path: str | Path) -> Path:
    """Turn what a user names into a local folder or file, fetched from the hub if need be."""
    if isinstance(path, str) and path.startswith(HUB_PREFIX):
        return download_model(path)
    place = Path(path)
    if not place.exists():
        raise WeightsError(
            f"no model folder at {place.resolve()}; `zebra train` writes one as <out>/model, and models of the hub "
            f'are named "{HUB_PREFIX}org/name"'
        )
    return place


def detect_layout(path: Path) -> ModelLayout:
    """Say which layout a folder or file has.

    A folder with both `open_clip_config.json` and `config.json` is read as open_clip's: such repositories are
    published by open_clip's authors, and the other file is a conversion.
    """
    if path.is_file():
        if path.suffix not in (".pt", ".pth"):
            raise WeightsError(
                f"{path} is one file, and a model is a folder or an OpenAI .pt file; name the folder it lies in: "
                f"{path.parent}"
            )
        return "openai"
    config, open_clip = path / "config.json", path / "open_clip_config.json"
    if config.is_file() and read_json_object(config).get("format") == FORMAT_VERSION["format"]:
        return "zebra"
    if open_clip.is_file():
        if config.is_file():
            warnings.warn(
                f"{path} holds open_clip_config.json and config.json; the first is read", stacklevel=3
            )
        return "open_clip"
    if config.is_file():
        return "transformers"
    if (path / MANIFEST_FILE).is_file() or (path / "preprocess.json").is_file():
        raise WeightsError(f"{path} is not a whole zebra model: config.json missing; copy the folder again")
    raise WeightsError(
        f"{path} is no model folder: it holds neither config.json (zebra, transformers) nor open_clip_config.json"
    )


def verify_files(path: Path, layout: ModelLayout, digest: Callable[[Path], str]) -> None:
    """Compare sha256 digests with those on record: a manifest, OpenAI's published ones, names in a hub cache.

    Raises:
        WeightsError: A file differs.
    """
    if layout == "zebra":
        verify_manifest(path, digest)
    elif layout == "openai":
        verify_published_digest(path, digest)
    else:
        for file in sorted(path.iterdir()):
            expected = blob_sha256(file)
            if expected is not None and digest(file) != expected:
                raise WeightsError(
                    f"{file} differs from the sha256 it was downloaded under; delete {file.resolve()} and load the "
                    "model again"
                )


def build_bundle(
    checkpoint: PretrainedCheckpoint,
    path: Path,
    *,
    tokenizer: str | Path | None = None,
    device: str = "auto",
    image_size: int | None = None,
) -> Bundle:
    """Make a bundle of what a reader found; a model without a tokenizer can still see."""
    config, tensors, preprocess = checkpoint.config, checkpoint.tensors, checkpoint.preprocess
    if image_size is not None:
        tensors, config = resize_pos_embed(tensors, config, image_size)
        preprocess = replace(preprocess, image_size=image_size)
    words = find_tokenizer(Path(tokenizer or path), config.text.context_length)
    if tokenizer is not None and words is None:
        raise WeightsError(f"no tokenizer at {tokenizer}; name a tokenizer.json or a merges file")
    if words is not None and words.vocab_size > config.text.vocab_size:
        raise WeightsError(
            f"the tokenizer has {words.vocab_size} ids, the text tower of {path} {config.text.vocab_size}: they do "
            "not belong together; put the tokenizer that it was trained with beside it, or name it with tokenizer=PATH"
        )
    model = build_model(config, tensors, str(path))
    files = checkpoint.files

    def identify() -> str:
        if checkpoint.layout == "zebra" and tokenizer is None and image_size is None:
            return compute_fingerprint(read_manifest_digests(path))
        parts = [cached_sha256(file) for file in files]
        parts += [words.fingerprint if words else "", str(config.image_size)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    return Bundle(model.to(resolve_device(device)).eval(), words, preprocess, identify)


def verify_golden_vectors(bundle: Bundle, path: Path, *, force: bool = False) -> None:
    """Recompute the golden vectors of a zebra folder, unless these very files passed on this machine before.

    Raises:
        WeightsError: They differ.
    """
    how = f"{bundle.device} {bundle.precision} {bundle.backend}"
    what = f"golden {cached_sha256(path / MANIFEST_FILE)} torch {torch.__version__} {how}"
    if force or not has_passed(what):
        verify_golden(bundle, path / "golden.safetensors")
        record_passed(what)
