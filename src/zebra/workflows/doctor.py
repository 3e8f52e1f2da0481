"""`zebra doctor`: an installation or a model in; what it is, and whether it is sound, out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from zebra.config.cache import cache_folder
from zebra.config.model import ModelConfig, ResNetConfig
from zebra.errors import ZebraError
from zebra.pretrained.autotune import candidates, fastest, trials
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.checkpoint import Checkpoint, Layout
from zebra.pretrained.device import pick_device
from zebra.pretrained.digests import sha256
from zebra.pretrained.load import HUB, READERS, assemble, detect, locate, verify_files, verify_vectors
from zebra.train.environment import environment
from zebra.train.precision import settle

OPTIONAL = ("onnx", "onnxscript", "onnxruntime", "tensorboard", "wandb")
"""Packages that a verb or a flag asks for by name when it needs them."""
WEIGHTS = (".pt", ".pth", ".safetensors", ".bin", ".onnx")
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

    what: str
    says: str
    sound: bool = True


def is_model(path: str) -> bool:
    """Tell a model from captioned images by what is there."""
    place = Path(path)
    return (
        path.startswith(HUB)
        or place.suffix in WEIGHTS
        or any((place / name).is_file() for name in MODEL_FILES)
    )


def examine_installation() -> list[Finding]:
    """Describe this machine and what is installed."""
    here = environment()
    versions = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    optional = ", ".join(f"{name} {_version(name) or 'not installed'}" for name in OPTIONAL)
    return [
        Finding("python", here["python"]),
        Finding("packages", versions),
        Finding("optional", optional),
        Finding("processor", f"{here['processor']}, {here['cores']} cores, {here['threads']} threads"),
        Finding("accelerator", str(here["accelerator"] or "none")),
        Finding("--precision auto", f"takes {settle('auto', pick_device('auto'))} here"),
        Finding("cache", str(cache_folder())),
    ]


def examine_model(path: str) -> list[Finding]:
    """Explain a model and verify everything that can be verified, whatever passed before."""
    findings: list[Finding] = []
    try:
        place = locate(path)
        layout = detect(place)
        findings.append(Finding("layout", f"{layout}, at {place}"))
        findings += _digests(place, layout)
        checkpoint = READERS[layout](place)
        findings += _describe(checkpoint)
        bundle = assemble(checkpoint, place)
        findings += _words(bundle)
        findings.append(Finding("fingerprint", bundle.fingerprint))
        findings += _vectors(bundle, place, layout)
        findings.append(_formats(bundle))
    except ZebraError as error:
        findings.append(Finding("broken", str(error), sound=False))
    return findings


def _digests(place: Path, layout: Layout) -> Iterator[Finding]:
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    yield _checked("sha256", lambda: verify_files(place, layout, digest), lambda: _digest_verdict(read))


def _digest_verdict(read: list[str]) -> str:
    return f"{len(read)} files agree with their record" if read else "nothing on record to compare with"


def _vectors(bundle: Bundle, place: Path, layout: Layout) -> Iterator[Finding]:
    if layout != "zebra":
        yield Finding("golden vectors", "none in this layout; `zebra export --format zebra` writes them")
        return
    yield _checked(
        "golden vectors",
        lambda: verify_vectors(bundle, place, fresh=True),
        lambda: "picture and text give the recorded vectors",
    )


def _formats(bundle: Bundle) -> Finding:
    outcomes = trials(bundle, candidates(bundle))
    (plain,) = (trial.seconds for trial in outcomes if trial.precision == "fp32")
    others = [
        f"{trial.precision} {plain / trial.seconds:.1f} times as fast as fp32, cosine {trial.cosine:.5f}"
        for trial in outcomes
        if trial.precision != "fp32"
    ]
    return Finding("precision", "; ".join([f"auto takes {fastest(outcomes)}", *others]))


def _checked(what: str, check: Callable[[], None], verdict: Callable[[], str]) -> Finding:
    try:
        check()
    except ZebraError as error:
        return Finding(what, str(error), sound=False)
    return Finding(what, verdict())


def _describe(checkpoint: Checkpoint) -> Iterator[Finding]:
    config, preprocess = checkpoint.config, checkpoint.preprocess
    numbers = sum(tensor.numel() for tensor in checkpoint.tensors.values())
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.tensors.values()})
    yield Finding("weights", f"{len(checkpoint.tensors)} tensors, {numbers:,} numbers in {', '.join(kinds)}")
    yield Finding("image tower", _image_tower(config))
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


def _image_tower(config: ModelConfig) -> str:
    vision = config.vision
    if isinstance(vision, ResNetConfig):
        return f"modified ResNet, blocks {vision.layers}, width {vision.width}, {config.image_size} px"
    return (
        f"{vision.kind}, {vision.layers} layers of width {vision.width}, {vision.heads} heads, MLP {vision.hidden}, "
        f"{vision.activation}; patches of {vision.patch_size} in {config.image_size} px"
    )


def _words(bundle: Bundle) -> Iterator[Finding]:
    if bundle.tokenizer is None:
        yield Finding("tokenizer", "none found: the model embeds pictures alone", sound=False)
    else:
        yield Finding("tokenizer", f"{type(bundle.tokenizer).__name__}, {bundle.tokenizer.vocab_size:,} ids")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
