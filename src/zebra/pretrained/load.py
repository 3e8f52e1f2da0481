"""`zebra.load`: loading of models of any layout, from disk or from the hub.

Only what a model needs is imported: the reader of its layout, and the modules of options that are used.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

import torch

from zebra.config.precision import InferencePrecision
from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.config.transformer import Activation
from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import ConfigError, WeightsError, suggest_name
from zebra.gc_pause import pause_gc
from zebra.pretrained.backends import Backend
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import ModelLayout, PretrainedCheckpoint
from zebra.pretrained.device import rank_devices
from zebra.pretrained.device_check import move_to_device, verify_fp16
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed
from zebra.pretrained.download import blob_sha256
from zebra.pretrained.folder import compute_fingerprint, read_model_folder, verified_files
from zebra.pretrained.golden import verify_golden
from zebra.pretrained.locate import detect_layout, find_or_download, resolve_model_path
from zebra.pretrained.manifest import MANIFEST_FILE, read_manifest_digests, verify_manifest
from zebra.pretrained.pairs import pair_towers, read_text_model
from zebra.pretrained.precision import warn_if_emulated
from zebra.pretrained.tokenizer_check import require_matching_tokenizer
from zebra.pretrained.weights import build_model
from zebra.text.clip_vocabulary import VOCAB_SIZE, find_openai_tokenizer
from zebra.text.hub_tokenizer import find_named_tokenizer
from zebra.text.tokenizers import find_tokenizer


@pause_gc()
def load(
    path: str | Path,
    *,
    text: str | Path | None = None,
    tokenizer: str | Path | None = None,
    verify: bool = True,
    device: str = "auto",
    image_size: int | None = None,
    max_num_patches: int | None = None,
    precision: InferencePrecision | Literal["auto"] = "fp32",
    backend: Backend = "torch",
    activation: Activation | None = None,
    heads: tuple[int, int] | None = None,
    dimensions: int | None = None,
) -> Bundle:
    """Load a model.

    Args:
        path: A folder in the layout of zebra, transformers or open_clip, an OpenAI `.pt` file, "hf:org/name", also
            with "@revision", or a name of open_clip such as "ViT-B-32/laion2b_s34b_b79k" (`zebra models`).
        text: A text model, named like `path`, whose tower and tokenizer replace those of the model: a folder of
            sentence-transformers, such as "hf:sentence-transformers/clip-ViT-B-32-multilingual-v1". `Bundle.save`
            writes both as one model.
        tokenizer: A tokenizer file or folder that replaces the model's own.
        verify: Compare the SHA-256 of all files that have a recorded one, and recompute the golden vectors. Passed
            checks are cached until a file changes. Golden vectors are skipped with another tokenizer, image size or
            number of patches.
        device: cpu, cuda, cuda:1, mps or auto, which takes the first GPU if there is one. At the first use of a device
            with a model, its vectors are compared with those of the CPU; auto takes no device that fails.
        image_size: An input size other than the model's; positional embeddings are interpolated.
        max_num_patches: For NaFlex: the largest number of patches of an image, if not the model's own. More patches
            show more detail and take more time.
        precision: fp32; bf16; fp16, for GPUs and processors that multiply it; int8, for transformers on the CPU; or
            auto: for each tower the fastest on this machine whose vectors have a cosine of at least 0.999 to those of
            fp32, measured once. `Bundle.precision` and `Bundle.text_precision` are the result.
        backend: onnxruntime runs the image tower in fp32 on the CPU; the first call writes a graph to the cache.
        activation: Activation of a `.pt` state dict that is not from OpenAI: gelu or quick_gelu.
        heads: Attention heads of the image and the text tower of such a file, if it has none of OpenAI's shapes.
        dimensions: Cut all vectors to their first components; a size that the model was trained for (Matryoshka).

    Raises:
        WeightsError: A file is missing, damaged or of an unsupported architecture, or golden vectors differ.
        DownloadError: A model of the hub can neither be downloaded nor found in the cache.
        DeviceError: The device computes other vectors than the CPU, or cannot run the model.
        ConfigError: The device is not available, or image size, number of patches, precision or dimensions do not suit
            the model.
        MissingExtra: onnxruntime is not installed.
    """
    validate_options(precision, backend, device)
    rank_devices(device)
    model_path = resolve_model_path(path)
    layout = detect_layout(model_path)
    if verify:
        verify_files(model_path, layout, cached_sha256)
    checkpoint = read_checkpoint(model_path, layout, activation=activation, heads=heads)
    tokenizer_path = model_path
    if text is not None:
        text_path = find_or_download(text)
        text_checkpoint = read_text_model(text_path)
        if verify:
            verify_blobs(text_checkpoint.files, cached_sha256)
        checkpoint = pair_towers(checkpoint, text_checkpoint, image_path=model_path, text_path=text_path)
        tokenizer_path = text_checkpoint.folder
    fp32_bundle = build_bundle(
        checkpoint, tokenizer_path, tokenizer=tokenizer, image_size=image_size, max_num_patches=max_num_patches
    )
    if backend == "torch":
        move_to_device(fp32_bundle, device, verify=verify)
    has_golden_vectors = checkpoint.layout == "zebra" and (tokenizer, image_size, max_num_patches) == (None, None, None)
    if verify and has_golden_vectors:
        verify_golden_vectors(fp32_bundle, model_path)
    if (precision, backend) == ("fp32", "torch"):
        bundle = fp32_bundle
    elif backend == "onnxruntime":
        from zebra.pretrained.onnx.backend import to_onnxruntime

        bundle = to_onnxruntime(fp32_bundle)
    elif precision == "auto":
        from zebra.pretrained.autotune import pick_precision

        image_precision, text_precision = pick_precision(fp32_bundle, "image"), pick_precision(fp32_bundle, "text")
        bundle = fp32_bundle.to_precision(image_precision, text_precision).fuse_batch_norms()
    else:
        warn_if_emulated(precision, fp32_bundle.device)
        bundle = fp32_bundle.to_precision(precision)
        if verify and precision == "fp16" and not has_golden_vectors:
            verify_fp16(bundle, fp32_bundle)
    if verify and has_golden_vectors and bundle is not fp32_bundle:
        verify_golden_vectors(bundle, model_path)
    return bundle if dimensions is None else bundle.truncate(dimensions)


def validate_options(precision: str, backend: str, device: str) -> None:
    """Raise ConfigError for an unknown precision or backend, or one that the backend does not support."""
    for option, name, known in (
        ("precision", precision, (*get_args(InferencePrecision), "auto")),
        ("backend", backend, get_args(Backend)),
    ):
        if name not in known:
            raise ConfigError(f"unknown {option}: {name!r}.{suggest_name(name, known)}")
    if backend == "onnxruntime" and (precision != "fp32" or device not in ("cpu", "auto")):
        raise ConfigError(
            f"backend='onnxruntime' supports precision='fp32' on the CPU only, not {precision!r} on {device!r}. "
            "Use backend='torch' for other precisions and devices."
        )


def read_checkpoint(
    path: Path, layout: ModelLayout, *, activation: Activation | None = None, heads: tuple[int, int] | None = None
) -> PretrainedCheckpoint:
    """Read a model folder or file; see `load`.

    Raises:
        WeightsError: A file is missing, damaged or of an unsupported architecture.
        ConfigError: `activation` or `heads` is given for a folder.
    """
    if layout == "openai":
        from zebra.pretrained.openai.layout import read_openai

        return read_openai(path, activation=activation, heads=heads)
    if activation is not None or heads is not None:
        raise ConfigError(f"{path} contains its architecture; activation= and heads= are for .pt files only.")
    if layout == "transformers":
        from zebra.pretrained.transformers.layout import read_transformers

        return read_transformers(path)
    if layout == "open_clip":
        from zebra.pretrained.open_clip.layout import read_open_clip

        return read_open_clip(path)
    return read_model_folder(path)


def verify_files(path: Path, layout: ModelLayout, digest: Callable[[Path], str]) -> None:
    """Compare the SHA-256 of files with the recorded ones: manifest, OpenAI's digests, names in the hub's cache.

    Args:
        digest: Returns the SHA-256 of a file.

    Raises:
        WeightsError: A file differs.
    """
    if layout == "zebra":
        verify_manifest(path, digest, required=verified_files(path))
    elif layout == "openai":
        from zebra.pretrained.openai.layout import verify_published_digest

        verify_published_digest(path, digest)
    else:
        verify_blobs(sorted(path.iterdir()), digest)


def verify_blobs(files: Iterable[Path], digest: Callable[[Path], str]) -> None:
    """Compare the SHA-256 of files of the hub's cache with their names there; see `verify_files`."""
    for file in files:
        expected = blob_sha256(file)
        if expected is not None and digest(file) != expected:
            raise WeightsError(
                f"{file} differs from the sha256 of its download. Delete {file.resolve()} and load the model again."
            )


def build_bundle(
    checkpoint: PretrainedCheckpoint,
    path: Path,
    *,
    tokenizer: str | Path | None = None,
    image_size: int | None = None,
    max_num_patches: int | None = None,
) -> Bundle:
    """Build a bundle on the CPU from a checkpoint; without a tokenizer it encodes images only.

    Args:
        path: Folder or file of the model, where its tokenizer is looked for.
        tokenizer: A tokenizer file or folder that replaces the model's own.

    Raises:
        WeightsError: A tensor does not fit the config, or a tokenizer is missing or has too many ids.
        ConfigError: The image size or number of patches does not suit the model.
    """
    config, tensors, preprocess = checkpoint.config, checkpoint.tensors, checkpoint.preprocess
    if image_size is not None:
        from zebra.pretrained.pos_embed import resize_pos_embed

        tensors, config = resize_pos_embed(tensors, config, image_size)
        preprocess = replace(preprocess, image_size=image_size)
    if max_num_patches is not None:
        if preprocess.resize != "naflex":
            raise ConfigError(f"{path} is no NaFlex model: max_num_patches does not apply. Use image_size= instead.")
        preprocess = replace(preprocess, max_num_patches=max_num_patches)
    model_tokenizer = find_tokenizer(Path(tokenizer or path), config.text.context_length, path)
    if tokenizer is not None and model_tokenizer is None:
        raise WeightsError(f"no tokenizer at {tokenizer}. Name a tokenizer.json or a merges file.")
    if model_tokenizer is None and _has_openai_vocabulary(config.text):
        model_tokenizer = find_openai_tokenizer(config.text.context_length, path)
    if model_tokenizer is None:
        model_tokenizer = find_named_tokenizer(config.text.context_length, path)
    if model_tokenizer is not None:
        require_matching_tokenizer(model_tokenizer, config.text, path)
    if checkpoint.unused:
        warnings.warn(f"{path}: not read: {checkpoint.unused}", stacklevel=3)
    model = build_model(config, tensors, str(path))
    files = checkpoint.files

    def fingerprint() -> str:
        if checkpoint.layout == "zebra" and (tokenizer, image_size, max_num_patches) == (None, None, None):
            return compute_fingerprint(read_manifest_digests(path, required=verified_files(path)))
        parts = [cached_sha256(file) for file in files]
        parts += [model_tokenizer.fingerprint if model_tokenizer else "", str(config.image_size)]
        parts += [] if max_num_patches is None else [f"{max_num_patches} patches"]
        parts += [checkpoint.given_architecture] if checkpoint.given_architecture else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    return Bundle(model.eval(), model_tokenizer, preprocess, fingerprint, templates=checkpoint.templates)


def _has_openai_vocabulary(text: TextTowerConfig) -> bool:
    """Return whether a tower reads the ids of OpenAI's tokenizer: the size is equal, and the largest id ends texts."""
    match text:
        case TextConfig(eos_id=None) | CocaTextConfig() | SiglipTextConfig(pooling="argmax"):
            return text.vocab_size == VOCAB_SIZE
        case TransformersTextConfig(pad_id=None):
            return text.vocab_size == VOCAB_SIZE
    return False


def verify_golden_vectors(bundle: Bundle, path: Path, *, force: bool = False) -> None:
    """Recompute the golden vectors of a zebra folder, unless the same files passed on this machine before.

    Args:
        force: Recompute them in any case.

    Raises:
        WeightsError: They differ.
    """
    environment = f"{bundle.device} {bundle.precision} {bundle.text_precision} {bundle.backend}"
    environment += " fused" if bundle.has_fused_batch_norms else ""
    libraries = "".join(f" {name} {metadata.version(name)}" for name in bundle.model.config.libraries)
    check = f"golden {cached_sha256(path / MANIFEST_FILE)} torch {torch.__version__}{libraries} {environment}"
    if force or not has_passed(check):
        verify_golden(bundle, path / "golden.safetensors")
        record_passed(check)
