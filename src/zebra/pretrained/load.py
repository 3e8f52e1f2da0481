"""`zebra.load`: loading of models of any layout, from disk or from the hub."""

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

import torch

from zebra.config.precision import InferencePrecision
from zebra.config.text_towers import TextConfig
from zebra.config.transformer import Activation
from zebra.errors import ConfigError, WeightsError, suggest_name
from zebra.pretrained.autotune import pick_precision
from zebra.pretrained.backends import Backend
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import ModelLayout, PretrainedCheckpoint
from zebra.pretrained.device import resolve_device
from zebra.pretrained.digests import cached_sha256, has_passed, record_passed
from zebra.pretrained.download import blob_sha256, download_model
from zebra.pretrained.folder import FORMAT_VERSION, compute_fingerprint, read_model_folder, verified_files
from zebra.pretrained.golden import verify_golden
from zebra.pretrained.manifest import MANIFEST_FILE, read_manifest_digests, verify_manifest
from zebra.pretrained.open_clip import read_open_clip
from zebra.pretrained.open_clip.tags import find_tag, is_tag_name, make_tag_folder, suggest_tag
from zebra.pretrained.openai import read_openai, verify_published_digest
from zebra.pretrained.pos_embed import resize_pos_embed
from zebra.pretrained.sentence_transformers.layout import find_dual_encoder
from zebra.pretrained.sentence_transformers.modules import MODULES_FILE
from zebra.pretrained.transformers import read_transformers
from zebra.pretrained.weight_files import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from zebra.pretrained.weights import build_model
from zebra.text.clip_vocabulary import VOCAB_SIZE, find_openai_tokenizer
from zebra.text.files import read_json_object
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
    max_num_patches: int | None = None,
    precision: InferencePrecision | Literal["auto"] = "fp32",
    backend: Backend = "torch",
    activation: Activation | None = None,
    heads: tuple[int, int] | None = None,
) -> Bundle:
    """Load a model.

    Args:
        path: A folder in the layout of zebra, transformers or open_clip, an OpenAI `.pt` file, "hf:org/name", also
            with "@revision", or a name of open_clip such as "ViT-B-32/laion2b_s34b_b79k" (`zebra models`).
        tokenizer: A tokenizer file or folder that replaces the model's own.
        verify: Compare the SHA-256 of all files that have a recorded one, and recompute the golden vectors. Passed
            checks are cached until a file changes. Golden vectors are skipped with another tokenizer, image size or
            number of patches.
        device: cpu, cuda, cuda:1, mps or auto, which takes the first GPU if there is one.
        image_size: An input size other than the model's; positional embeddings are interpolated.
        max_num_patches: For NaFlex: the largest number of patches of an image, if not the model's own. More patches
            show more detail and take more time.
        precision: fp32; bf16; int8, for image transformers on the CPU; or auto: the fastest on this machine whose
            vectors have a cosine of at least 0.999 to those of fp32, measured once. `Bundle.precision` is the result.
        backend: onnxruntime runs the image tower in fp32 on the CPU; the first call writes a graph to the cache.
        activation: Activation of a `.pt` state dict that is not from OpenAI: gelu or quick_gelu.
        heads: Attention heads of the image and the text tower of such a file, if it has none of OpenAI's shapes.

    Raises:
        WeightsError: A file is missing, damaged or of an unsupported architecture, or golden vectors differ.
        DownloadError: A model of the hub can neither be downloaded nor found in the cache.
        ConfigError: The device is not available, or image size, number of patches or precision do not suit the model.
        MissingExtra: onnxruntime is not installed.
    """
    validate_options(precision, backend, device)
    model_path = resolve_model_path(path)
    layout = detect_layout(model_path)
    if verify:
        verify_files(model_path, layout, cached_sha256)
    if layout == "openai":
        checkpoint = read_openai(model_path, activation=activation, heads=heads)
    elif activation is None and heads is None:
        checkpoint = LAYOUT_READERS[layout](model_path)
    else:
        raise ConfigError(f"{model_path} contains its architecture; activation= and heads= are for .pt files only.")
    model_device = "cpu" if backend == "onnxruntime" else device
    fp32_bundle = build_bundle(
        checkpoint,
        model_path,
        tokenizer=tokenizer,
        device=model_device,
        image_size=image_size,
        max_num_patches=max_num_patches,
    )
    has_golden_vectors = layout == "zebra" and (tokenizer, image_size, max_num_patches) == (None, None, None)
    if verify and has_golden_vectors:
        verify_golden_vectors(fp32_bundle, model_path)
    if (precision, backend) == ("fp32", "torch"):
        return fp32_bundle
    if backend == "onnxruntime":
        # Imported late, because it imports torch's ONNX exporter, which takes a second.
        from zebra.pretrained.onnx_backend import to_onnxruntime

        bundle = to_onnxruntime(fp32_bundle)
    else:
        bundle = fp32_bundle.to_precision(pick_precision(fp32_bundle) if precision == "auto" else precision)
    if verify and has_golden_vectors:
        verify_golden_vectors(bundle, model_path)
    return bundle


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


def resolve_model_path(path: str | Path) -> Path:
    """Return the local folder or file of a model; download models of the hub, also by open_clip's names.

    Of a folder of sentence-transformers, it is the folder of the CLIP or SigLIP model in it.
    """
    folder = _find_or_download(path)
    is_sentence_transformer = (folder / MODULES_FILE).is_file() and not (folder / OPEN_CLIP_CONFIG).is_file()
    return find_dual_encoder(folder) if is_sentence_transformer else folder


def _find_or_download(path: str | Path) -> Path:
    if isinstance(path, str) and path.startswith(HUB_PREFIX):
        return download_model(path)
    model_path = Path(path)
    if model_path.exists():
        return model_path
    tag = find_tag(str(path))
    if tag is None:
        raise WeightsError(
            f"no model folder at {model_path.resolve()}.{suggest_tag(str(path))} `zebra train` writes one to "
            f'<out>/model; models of the hub are named "{HUB_PREFIX}org/name", and `zebra models` lists known names.'
        )
    weight_names = (tag.file,) if tag.file else OPEN_CLIP_WEIGHTS
    return make_tag_folder(tag, download_model(f"{HUB_PREFIX}{tag.repository}", weight_names))


def is_hub_model(name: str) -> bool:
    """Return whether a name is "hf:org/name" or one of open_clip's, and not that of a local file or folder."""
    return name.startswith(HUB_PREFIX) or (is_tag_name(name) and not Path(name).exists())


def hub_repository(name: str) -> str | None:
    """Return the repository "org/name" of a model on the hub; None for a local one."""
    if name.startswith(HUB_PREFIX):
        return name.removeprefix(HUB_PREFIX).partition("@")[0]
    tag = find_tag(name) if is_hub_model(name) else None
    return tag.repository if tag else None


def detect_layout(path: Path) -> ModelLayout:
    """Return the layout of a model folder or file.

    A folder with both `open_clip_config.json` and `config.json` is read as open_clip's: the authors of open_clip
    publish such repositories, and `config.json` is a conversion.

    Raises:
        WeightsError: It is no model of a known layout.
    """
    if path.is_file():
        if path.suffix not in (".pt", ".pth"):
            raise WeightsError(
                f"{path} is a single file, but a model is a folder or an OpenAI .pt file. Name its folder: "
                f"{path.parent}"
            )
        return "openai"
    config, open_clip = path / "config.json", path / OPEN_CLIP_CONFIG
    if config.is_file() and read_json_object(config).get("format") == FORMAT_VERSION["format"]:
        return "zebra"
    if open_clip.is_file():
        if config.is_file():
            warnings.warn(f"{path} has open_clip_config.json and config.json; config.json is ignored", stacklevel=3)
        return "open_clip"
    if config.is_file():
        return "transformers"
    if (path / MANIFEST_FILE).is_file() or (path / "preprocess.json").is_file():
        raise WeightsError(f"{path} is an incomplete zebra model: config.json missing. Copy the folder again.")
    raise WeightsError(
        f"{path} is no model folder: it has neither config.json (zebra, transformers) nor open_clip_config.json. Check "
        "the path."
    )


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
        verify_published_digest(path, digest)
    else:
        for file in sorted(path.iterdir()):
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
    device: str = "auto",
    image_size: int | None = None,
    max_num_patches: int | None = None,
) -> Bundle:
    """Build a bundle from a checkpoint; without a tokenizer it encodes images only.

    Args:
        path: Folder or file of the model, where its tokenizer is looked for.
        tokenizer: A tokenizer file or folder that replaces the model's own.

    Raises:
        WeightsError: A tensor does not fit the config, or a tokenizer is missing or has too many ids.
        ConfigError: The image size or number of patches does not suit the model, or the device is not available.
    """
    config, tensors, preprocess = checkpoint.config, checkpoint.tensors, checkpoint.preprocess
    if image_size is not None:
        tensors, config = resize_pos_embed(tensors, config, image_size)
        preprocess = replace(preprocess, image_size=image_size)
    if max_num_patches is not None:
        if preprocess.resize != "naflex":
            raise ConfigError(f"{path} is no NaFlex model: max_num_patches does not apply. Use image_size= instead.")
        preprocess = replace(preprocess, max_num_patches=max_num_patches)
    model_tokenizer = find_tokenizer(Path(tokenizer or path), config.text.context_length, path)
    if tokenizer is not None and model_tokenizer is None:
        raise WeightsError(f"no tokenizer at {tokenizer}. Name a tokenizer.json or a merges file.")
    if model_tokenizer is None and isinstance(config.text, TextConfig) and config.text.vocab_size == VOCAB_SIZE:
        model_tokenizer = find_openai_tokenizer(config.text.context_length, path)
    if model_tokenizer is not None and model_tokenizer.vocab_size > config.text.vocab_size:
        raise WeightsError(
            f"the tokenizer has {model_tokenizer.vocab_size} ids, but the text tower of {path} has "
            f"{config.text.vocab_size}. Put the model's own tokenizer into the folder, or name it with tokenizer=PATH."
        )
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

    return Bundle(
        model.to(resolve_device(device)).eval(),
        model_tokenizer,
        preprocess,
        fingerprint,
        templates=checkpoint.templates,
    )


def verify_golden_vectors(bundle: Bundle, path: Path, *, force: bool = False) -> None:
    """Recompute the golden vectors of a zebra folder, unless the same files passed on this machine before.

    Args:
        force: Recompute them in any case.

    Raises:
        WeightsError: They differ.
    """
    environment = f"{bundle.device} {bundle.precision} {bundle.backend}"
    libraries = "".join(f" {name} {metadata.version(name)}" for name in bundle.model.config.libraries)
    check = f"golden {cached_sha256(path / MANIFEST_FILE)} torch {torch.__version__}{libraries} {environment}"
    if force or not has_passed(check):
        verify_golden(bundle, path / "golden.safetensors")
        record_passed(check)
