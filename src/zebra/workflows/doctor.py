"""`zebra doctor`: an installation or a model in; what it is, and whether it is sound, out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from zebra.config.cache import cache_dir
from zebra.config.model import ModelConfig, ResNetConfig
from zebra.config.train import TrainConfig
from zebra.data.inspection import UNLIMITED_CONTEXT, DataReport, inspect_data
from zebra.errors import DataError, ZebraError
from zebra.pretrained.autotune import benchmark_precisions, candidate_precisions, pick_fastest
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import ModelLayout, PretrainedCheckpoint
from zebra.pretrained.device import resolve_device
from zebra.pretrained.digests import sha256
from zebra.pretrained.load import (
    HUB_PREFIX,
    LAYOUT_READERS,
    build_bundle,
    detect_layout,
    resolve_model_path,
    verify_files,
    verify_golden_vectors,
)
from zebra.text.bpe import BPETokenizer
from zebra.train.environment import collect_environment
from zebra.train.precision import resolve_precision

OPTIONAL_PACKAGES = ("onnx", "onnxscript", "onnxruntime", "tensorboard", "wandb")
"""Packages that a verb or a flag asks for by name when it needs them."""
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".onnx")
MODEL_FILES = (
    "config.json",
    "open_clip_config.json",
    "preprocess.json",
    "MANIFEST.json",
    "model.safetensors",
)
"""One of these is in every model folder, also in one that is not whole, and in no data set."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis."""

    name: str
    detail: str
    is_ok: bool = True


def is_model_path(path: str) -> bool:
    """Tell a model from captioned images by what is there."""
    place = Path(path)
    return (
        path.startswith(HUB_PREFIX)
        or place.suffix in WEIGHT_SUFFIXES
        or any((place / name).is_file() for name in MODEL_FILES)
    )


def inspect_dataset(
    config: TrainConfig,
    *,
    max_samples: int | None = None,
    callback: Callable[[int, int, str], None] = lambda _done, _total, _what: None,
) -> DataReport:
    """Inspect captioned images as `zebra.data.inspection.inspect_data` does, with the tokenizer that the config names."""
    tokenizer = None if config.tokenizer is None else _load_tokenizer(config.tokenizer)
    try:
        return inspect_data(config, tokenizer=tokenizer, max_samples=max_samples, callback=callback)
    except DataError as error:
        raise DataError(
            f"{error} (nor is it a model: a folder with config.json, a .pt file, hf:org/name)"
        ) from error


def _load_tokenizer(path: str) -> BPETokenizer:
    if path.endswith(".json"):
        return BPETokenizer.load(path, UNLIMITED_CONTEXT)
    return BPETokenizer.from_merges(path, UNLIMITED_CONTEXT)


def inspect_installation() -> list[Finding]:
    """Describe this machine and what is installed."""
    here = collect_environment()
    versions = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    optional = ", ".join(f"{name} {_version(name) or 'not installed'}" for name in OPTIONAL_PACKAGES)
    return [
        Finding("python", here["python"]),
        Finding("packages", versions),
        Finding("optional", optional),
        Finding("processor", f"{here['processor']}, {here['cores']} cores, {here['threads']} threads"),
        Finding("accelerator", str(here["accelerator"] or "none")),
        Finding("--precision auto", f"takes {resolve_precision('auto', resolve_device('auto'))} here"),
        Finding("cache", str(cache_dir())),
    ]


def inspect_model(path: str) -> list[Finding]:
    """Explain a model and verify everything that can be verified, whatever passed before."""
    findings: list[Finding] = []
    try:
        place = resolve_model_path(path)
        layout = detect_layout(place)
        findings.append(Finding("layout", f"{layout}, at {place}"))
        findings += _verify_digests(place, layout)
        checkpoint = LAYOUT_READERS[layout](place)
        findings += _describe_checkpoint(checkpoint)
        bundle = build_bundle(checkpoint, place)
        findings += _describe_tokenizer(bundle)
        findings.append(Finding("fingerprint", bundle.fingerprint))
        findings += _verify_golden_vectors(bundle, place, layout)
        findings.append(_compare_precisions(bundle))
    except ZebraError as error:
        findings.append(Finding("broken", str(error), is_ok=False))
    return findings


def _verify_digests(model_path: Path, layout: ModelLayout) -> Iterator[Finding]:
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    yield _run_check(
        "sha256", lambda: verify_files(model_path, layout, digest), lambda: _format_digests(read)
    )


def _format_digests(file_names: list[str]) -> str:
    return (
        f"{len(file_names)} files agree with their record"
        if file_names
        else "nothing on record to compare with"
    )


def _verify_golden_vectors(bundle: Bundle, path: Path, layout: ModelLayout) -> Iterator[Finding]:
    if layout != "zebra":
        yield Finding("golden vectors", "none in this layout; `zebra export --format zebra` writes them")
        return
    yield _run_check(
        "golden vectors",
        lambda: verify_golden_vectors(bundle, path, force=True),
        lambda: "picture and text give the recorded vectors",
    )


def _compare_precisions(bundle: Bundle) -> Finding:
    outcomes = benchmark_precisions(bundle, candidate_precisions(bundle))
    (plain,) = (trial.seconds for trial in outcomes if trial.precision == "fp32")
    others = [
        f"{trial.precision} {plain / trial.seconds:.1f} times as fast as fp32, cosine {trial.min_cosine:.5f}"
        for trial in outcomes
        if trial.precision != "fp32"
    ]
    return Finding("precision", "; ".join([f"auto takes {pick_fastest(outcomes)}", *others]))


def _run_check(name: str, check: Callable[[], None], describe: Callable[[], str]) -> Finding:
    try:
        check()
    except ZebraError as error:
        return Finding(name, str(error), is_ok=False)
    return Finding(name, describe())


def _describe_checkpoint(checkpoint: PretrainedCheckpoint) -> Iterator[Finding]:
    config, preprocess = checkpoint.config, checkpoint.preprocess
    numbers = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()})
    yield Finding("weights", f"{len(checkpoint.tensors)} tensors, {numbers:,} numbers in {', '.join(kinds)}")
    yield Finding("image tower", _format_image_tower(config))
    text = config.text
    yield Finding(
        "text tower",
        f"{text.kind}, {text.layers} layers of width {text.width}, {text.heads} heads, {text.activation}; "
        f"{text.vocab_size:,} ids, {text.context_length} tokens",
    )
    yield Finding(
        "embedding", f"{config.embed_dim} dimensions{', sigmoid bias' if config.logit_bias else ''}"
    )
    yield Finding(
        "pictures",
        f"{preprocess.resize} {preprocess.interpolation} to {preprocess.image_size} px, crop {preprocess.crop}, "
        f"RGB {preprocess.rgb}, decoded {preprocess.decode}; mean {preprocess.mean}, std {preprocess.std}",
    )


def _format_image_tower(config: ModelConfig) -> str:
    vision = config.vision
    if isinstance(vision, ResNetConfig):
        return f"modified ResNet, blocks {vision.layers}, width {vision.width}, {config.image_size} px"
    return (
        f"{vision.kind}, {vision.layers} layers of width {vision.width}, {vision.heads} heads, MLP {vision.hidden}, "
        f"{vision.activation}; patches of {vision.patch_size} in {config.image_size} px"
    )


def _describe_tokenizer(bundle: Bundle) -> Iterator[Finding]:
    if bundle.tokenizer is None:
        yield Finding("tokenizer", "none found: the model embeds pictures alone", is_ok=False)
    else:
        yield Finding("tokenizer", f"{type(bundle.tokenizer).__name__}, {bundle.tokenizer.vocab_size:,} ids")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
