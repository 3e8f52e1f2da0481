"""`zebra doctor`: inspect a model, a dataset, or the installation."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from zebra.config.cache import cache_dir
from zebra.config.doctor import DoctorConfig
from zebra.config.model import ModelConfig
from zebra.config.train import TrainConfig
from zebra.data.benchmarks.suites import is_suite
from zebra.data.inspection import UNLIMITED_CONTEXT, DataReport, inspect_data
from zebra.errors import DataError, ZebraError
from zebra.pretrained.autotune import Tower, benchmark_precisions, candidate_precisions, pick_fastest
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import ModelLayout, PretrainedCheckpoint
from zebra.pretrained.device import resolve_device
from zebra.pretrained.device_check import move_to_device
from zebra.pretrained.digests import sha256
from zebra.pretrained.load import build_bundle, read_checkpoint, verify_files, verify_golden_vectors
from zebra.pretrained.locate import detect_layout, is_hub_model, resolve_model_path
from zebra.text.bpe import BPETokenizer
from zebra.train.environment import collect_environment, package_version
from zebra.train.precision import resolve_precision
from zebra.workflows.doctor_dataset import find_dataset, inspect_dataset, inspect_suites
from zebra.workflows.finding import Finding

OPTIONAL_PACKAGES = ("timm", "transformers", "onnx", "onnxscript", "onnxruntime", "tensorboard", "wandb")
"""Packages that some verbs or flags need."""
WEIGHT_SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".onnx")
MODEL_FILES = (
    "config.json",
    "open_clip_config.json",
    "modules.json",
    "preprocess.json",
    "MANIFEST.json",
    "model.safetensors",
)
"""Every model folder contains at least one of these, even an incomplete one, and no dataset does."""


def run(
    config: DoctorConfig, *, callback: Callable[[int, int, str], None] = lambda _done, _total, _stage: None
) -> list[Finding] | DataReport:
    """Inspect a model, an evaluation dataset, captioned images or, without a target, the installation.

    Args:
        callback: Called while samples are read, with the number of inspected samples, the total and the stage.

    Raises:
        ConfigError: The tokenizer or an option does not suit the data.
        DataError: The target is neither a model nor data with a usable sample.
    """
    if not config.target:
        return inspect_installation()
    if is_suite(config.target):
        return list(inspect_suites(config.target, config.data_root))
    if config.data_root is not None:
        return list(inspect_dataset(config.target, config, callback))
    if is_model_path(config.target):
        return inspect_model(config.target, config.device)
    if (dataset := find_dataset(config)) is not None:
        return list(inspect_dataset(dataset, config, callback))
    train = config.train or TrainConfig(data=config.target, out="", steps=1)
    train = replace(train, data=config.target)
    try:
        return inspect_data(
            train,
            tokenizer=_load_tokenizer(train.tokenizer) if train.tokenizer else None,
            max_samples=config.max_samples,
            callback=callback,
        )
    except DataError as error:
        raise DataError(f"{error} (nor is it a model: a folder with config.json, a .pt file, hf:org/name)") from error


def _load_tokenizer(path: str) -> BPETokenizer:
    if path.endswith(".json"):
        return BPETokenizer.load(path, UNLIMITED_CONTEXT)
    return BPETokenizer.from_merges(path, UNLIMITED_CONTEXT)


def is_model_path(name: str) -> bool:
    """Return whether the name or the files at the path are those of a model, not of captioned images."""
    path = Path(name)
    return (
        is_hub_model(name)
        or path.suffix in WEIGHT_SUFFIXES
        or any((path / file_name).is_file() for file_name in MODEL_FILES)
    )


def inspect_installation() -> list[Finding]:
    """Describe the installed packages and this machine."""
    environment = collect_environment()
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items())
    optional = ", ".join(f"{name} {package_version(name) or 'not installed'}" for name in OPTIONAL_PACKAGES)
    return [
        Finding("python", environment["python"]),
        Finding("packages", versions),
        Finding("optional", optional),
        Finding(
            "processor", f"{environment['processor']}, {environment['cores']} cores, {environment['threads']} threads"
        ),
        Finding("accelerator", str(environment["accelerator"] or "none")),
        Finding("--precision auto", f"selects {resolve_precision('auto', resolve_device('auto'))} on this machine"),
        Finding("cache", str(cache_dir())),
    ]


def inspect_model(name: str, device: str = "auto") -> list[Finding]:
    """Describe a model and verify its files and vectors, even if cached checks passed."""
    findings: list[Finding] = []
    try:
        path = resolve_model_path(name)
        layout = detect_layout(path)
        findings.append(Finding("layout", f"{layout}, at {path}"))
        findings += _verify_digests(path, layout)
        checkpoint = read_checkpoint(path, layout)
        findings += _describe_checkpoint(checkpoint)
        bundle = build_bundle(checkpoint, path)
        move_to_device(bundle, device)
        findings += _describe_tokenizer(bundle)
        findings.append(Finding("fingerprint", bundle.fingerprint))
        findings += _verify_golden_vectors(bundle, path, layout)
        findings.append(_compare_precisions(bundle))
    except ZebraError as error:
        findings.append(Finding("broken", str(error), is_ok=False))
    return findings


def _verify_digests(model_path: Path, layout: ModelLayout) -> Iterator[Finding]:
    verified: list[str] = []

    def digest(path: Path) -> str:
        verified.append(path.name)
        return sha256(path)

    yield _run_check("sha256", lambda: verify_files(model_path, layout, digest), lambda: _format_digests(verified))


def _format_digests(file_names: list[str]) -> str:
    return f"{len(file_names)} files match their recorded sha256" if file_names else "no sha256 is recorded"


def _verify_golden_vectors(bundle: Bundle, path: Path, layout: ModelLayout) -> Iterator[Finding]:
    if layout != "zebra":
        yield Finding("golden vectors", "none in this layout; `zebra export --format zebra` writes them")
        return
    yield _run_check(
        "golden vectors",
        lambda: verify_golden_vectors(bundle, path, force=True),
        lambda: "image and text give the recorded vectors",
    )


def _compare_precisions(bundle: Bundle) -> Finding:
    towers: tuple[Tower, ...] = ("image", "text") if bundle.tokenizer else ("image",)
    return Finding("precision", ". ".join(_compare_tower_precisions(bundle, tower) for tower in towers))


def _compare_tower_precisions(bundle: Bundle, tower: Tower) -> str:
    trials = benchmark_precisions(bundle, candidate_precisions(bundle, tower), tower)
    (fp32_seconds,) = (trial.seconds for trial in trials if trial.precision == "fp32")
    others = [
        f"{trial.precision} {fp32_seconds / trial.seconds:.1f} times as fast as fp32, cosine {trial.min_cosine:.5f}"
        for trial in trials
        if trial.precision != "fp32"
    ]
    return "; ".join([f"auto selects {pick_fastest(trials)} for {tower}s", *others])


def _run_check(name: str, check: Callable[[], None], describe: Callable[[], str]) -> Finding:
    try:
        check()
    except ZebraError as error:
        return Finding(name, str(error), is_ok=False)
    return Finding(name, describe())


def _describe_checkpoint(checkpoint: PretrainedCheckpoint) -> Iterator[Finding]:
    config, preprocess = checkpoint.config, checkpoint.preprocess
    num_values = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()})
    yield Finding("weights", f"{len(checkpoint.tensors)} tensors, {num_values:,} values of type {', '.join(dtypes)}")
    if checkpoint.unused:
        yield Finding("not read", checkpoint.unused)
    yield Finding("image tower", config.vision.describe(config.image_size))
    yield Finding("text tower", config.text.describe())
    yield Finding("computed by", _describe_libraries(config))
    yield Finding("embedding", f"{config.embed_dim} dimensions{', sigmoid bias' if config.logit_bias else ''}")
    target = f"{preprocess.image_size} px, crop {preprocess.crop}"
    if preprocess.resize == "naflex":
        target = f"at most {preprocess.max_num_patches} patches of {preprocess.patch_size} px"
    yield Finding(
        "images",
        f"{preprocess.resize} {preprocess.interpolation} to {target}, "
        f"RGB {preprocess.rgb}, decoded {preprocess.decode}; mean {preprocess.mean}, std {preprocess.std}",
    )


def _describe_libraries(config: ModelConfig) -> str:
    """Say which library computes each tower; a library other than zebra with its version."""
    parts = []
    for tower, library in (("image", config.vision.library), ("text", config.text.library)):
        version = "" if library == "zebra" else f" {package_version(library) or '(not installed)'}"
        parts.append(f"{tower} tower: {library}{version}")
    return ", ".join(parts)


def _describe_tokenizer(bundle: Bundle) -> Iterator[Finding]:
    if bundle.tokenizer is None:
        yield Finding("tokenizer", "none found: the model embeds images only", is_ok=False)
    else:
        yield Finding("tokenizer", f"{type(bundle.tokenizer).__name__}, {bundle.tokenizer.vocab_size:,} ids")
