"""Names of open_clip's pretrained models, such as ViT-B-32/laion2b_s34b_b79k.

`tags.csv` and `architectures.json` state what `pretrained.py` and `model_configs/` of open_clip 3.3.0 state: the
repository, activation and preprocessing of each tag, and the config of each architecture. The sizes of the towers and
the operations per image are counted from the architectures. A test compares all of it with an installed open_clip.
"""

import csv
import json
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from zebra.atomic_io import atomic_write
from zebra.config.cache import cache_dir
from zebra.errors import WeightsError, ZebraError, suggest_name
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.text.files import read_json_object

CONFIG_FILE = "open_clip_config.json"
QUICK_GELU_SUFFIX = "-quickgelu"
NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "clip": (OPENAI_MEAN, OPENAI_STD),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation by their name in `tags.csv`."""
OPENAI_NAMES = {
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}
"""The names of OpenAI's `clip.load`, and the architectures of their tag `openai`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """An architecture that open_clip has a name for."""

    image_mparams: float
    """Parameters of the image tower, in millions."""
    text_mparams: float
    """Parameters of the text tower, in millions."""
    image_gflops: float
    """Floating-point operations of the image tower per image, in 10^9; a multiplication and an addition are two."""
    model_cfg: dict[str, Any]

    @property
    def image_size(self) -> int:
        """Return the side of the input image in pixels."""
        return int(self.model_cfg["vision_cfg"]["image_size"])

    @property
    def embed_dim(self) -> int:
        """Return the embedding dimension."""
        return int(self.model_cfg["embed_dim"])

    @property
    def mparams(self) -> float:
        """Return the parameters of both towers, in millions."""
        return self.image_mparams + self.text_mparams


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClipTag:
    """Published weights of an architecture."""

    architecture: str
    tag: str
    repository: str
    """The hub repository, "org/name"."""
    file: str
    """The weight file in it; empty for the usual names."""
    quick_gelu: bool
    """Whether the weights were trained with QuickGELU, whatever the architecture's config says."""
    preprocessing: str
    """Normalization, interpolation and resize mode, such as "clip bicubic shortest"."""
    license: str
    """Empty if no source was found."""
    languages: Literal["en", "multi"]
    imagenet: float | None
    """Published zero-shot accuracy on ImageNet, in percent."""
    coco: float | None
    """Published recall@1 on MS COCO in percent, the mean of both directions."""
    source: str
    """Where the scores were published: a key of `zebra.pretrained.known_models.SOURCES`."""

    @property
    def name(self) -> str:
        """Return the name that `zebra.load` takes."""
        return f"{self.architecture}/{self.tag}"

    def open_clip_config(self) -> dict[str, Any]:
        """Return the contents of an `open_clip_config.json` with what open_clip computes for this tag."""
        normalization, interpolation, resize_mode = self.preprocessing.split()
        mean, std = NORMALIZATIONS[normalization]
        model_cfg = read_architectures()[self.architecture].model_cfg
        if self.quick_gelu:
            model_cfg = model_cfg | {"quick_gelu": True}
        preprocess_cfg = {"mean": mean, "std": std, "interpolation": interpolation, "resize_mode": resize_mode}
        return {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}


@cache
def read_architectures() -> dict[str, Architecture]:
    """Return the architectures that have tags, by open_clip's name."""
    text = _read_table("architectures.json")
    return {name: Architecture(**fields) for name, fields in json.loads(text).items()}


@cache
def read_tags() -> dict[str, OpenClipTag]:
    """Return the tags by name, in open_clip's order, without the names that end in -quickgelu."""
    tags: dict[str, OpenClipTag] = {}
    for row in csv.DictReader(_read_table("tags.csv").splitlines()):
        fields: dict[str, Any] = dict(row)
        fields["quick_gelu"] = fields["quick_gelu"] == "yes"
        for score in ("imagenet", "coco"):
            fields[score] = float(fields[score]) if fields[score] else None
        tag = OpenClipTag(**fields)
        tags[tag.name] = tag
    return tags


def find_tag(name: str) -> OpenClipTag | None:
    """Return the tag of a name, or None if the name has neither an architecture of open_clip nor one of OpenAI's names.

    Case and hyphens of the tag do not matter, as in open_clip. An architecture that ends in -quickgelu has only the
    tags that were trained with QuickGELU.

    Raises:
        WeightsError: The architecture is known and the tag is missing or unknown; the message lists the known ones.
    """
    if name in OPENAI_NAMES:
        name = f"{OPENAI_NAMES[name]}/openai"
    full_architecture, _, tag_name = name.partition("/")
    architecture = full_architecture.removesuffix(QUICK_GELU_SUFFIX)
    candidates = {
        tag.tag: tag
        for tag in read_tags().values()
        if tag.architecture == architecture and (tag.quick_gelu or full_architecture == architecture)
    }
    if not candidates:
        return None
    tag_name = tag_name.lower().replace("-", "_")
    if tag_name in candidates:
        return candidates[tag_name]
    problem = f"unknown tag {tag_name!r}.{suggest_name(tag_name, candidates)}" if tag_name else "no tag is given."
    raise WeightsError(
        f"{name}: {problem} Write {full_architecture}/TAG, where TAG names the weights: {', '.join(candidates)}"
    )


def is_tag_name(name: str) -> bool:
    """Return whether a name has an architecture that `find_tag` knows, with whatever tag."""
    architecture = name.partition("/")[0].removesuffix(QUICK_GELU_SUFFIX)
    return name in OPENAI_NAMES or architecture in read_architectures()


def make_tag_folder(tag: OpenClipTag, snapshot: Path) -> Path:
    """Return a folder in zebra's cache with the tag's config and links to the files of its repository.

    open_clip takes architecture and preprocessing of a tag from its own tables, not from the repository: some
    repositories have no `open_clip_config.json`, or one for another image size.

    Args:
        tag: The tag.
        snapshot: The downloaded repository, in the hub's cache.

    Warns:
        UserWarning: The repository has a config that gives another model.
    """
    config = tag.open_clip_config()
    folder = cache_dir() / "open_clip" / tag.architecture / tag.tag / snapshot.name
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(config), encoding="utf-8")
    for file in snapshot.iterdir():
        if file.is_file() and file.name not in (CONFIG_FILE, "config.json"):
            _link(file.absolute(), folder / file.name)
    if (snapshot / CONFIG_FILE).is_file():
        _warn_of_differences(tag, config, read_json_object(snapshot / CONFIG_FILE))
    return folder


def _read_table(name: str) -> str:
    return (resources.files("zebra.pretrained.open_clip") / name).read_text(encoding="utf-8")


def _link(target: Path, link: Path) -> None:
    if link.exists():
        return
    link.unlink(missing_ok=True)  # a link to a file that the hub's cache no longer has
    try:
        link.symlink_to(target)
    except FileExistsError:
        return  # another process was faster
    except OSError:  # Windows without the right to create links
        shutil.copyfile(target, link)


def _warn_of_differences(tag: OpenClipTag, config: Mapping[str, Any], published: Mapping[str, Any]) -> None:
    try:
        known_config, known_preprocess = parse_open_clip_config(config)
        other_config, other_preprocess = parse_open_clip_config(published)
    except ZebraError:
        return  # reading the folder reports what is unsupported; a config that open_clip itself ignores may be
    differences = [
        f"{name} {values[name]} instead of {other_values[name]}"
        for values, other_values in (
            (asdict(known_config), asdict(other_config)),
            (asdict(known_preprocess), asdict(other_preprocess)),
        )
        for name in values
        if values[name] != other_values[name]
    ]
    if differences:
        warnings.warn(
            f"{tag.name}: open_clip's table gives {'; '.join(differences)} in {CONFIG_FILE} of {tag.repository}. "
            f"open_clip's table is used; hf:{tag.repository} uses the other.",
            stacklevel=4,
        )
