"""Known models, with sizes, licenses, published scores and whether they open.

They are open_clip's pretrained tags and repositories of the hub. `hub_models.csv` lists repositories by the reader that
opens them: a layout, or a `model_type` of transformers. Scores are published ones, and empty where no source was found.
"""

import csv
import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from zebra.config.model import ModelConfig
from zebra.errors import ConfigError, MissingExtra
from zebra.pretrained.open_clip.config import parse_open_clip_config
from zebra.pretrained.open_clip.tags import OpenClipTag, read_architectures, read_tags
from zebra.pretrained.transformers_models import TRANSFORMERS_MODELS

REFERENCE_ARCHITECTURE = "ViT-B-32"
"""The architecture whose operations per image are the unit of `KnownModel.compute`."""
SOURCES = {
    "open_clip": "https://github.com/mlfoundations/open_clip/blob/f862f86/docs/openclip_results.csv",
    "siglip2": "https://github.com/google-research/big_vision/blob/1659d42/big_vision/configs/proj/image_text/README_siglip2.md",
    "mobileclip": "https://github.com/apple/ml-mobileclip/blob/1140b8d/README.md",
    "metaclip": "https://github.com/facebookresearch/MetaCLIP/blob/5fa4ac5/README.md",
    "pe": "https://github.com/facebookresearch/perception_models/blob/44e61d1/apps/pe/README.md",
    "vitamin": "https://github.com/Beckschen/ViTamin/blob/087d080/README.md",
}
"""Where scores were published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """A model by the name that `zebra.load` takes."""

    name: str
    repository: str
    """The hub repository, "org/name"."""
    reader: str
    """Layout or, for transformers, `model_type`."""
    image_size: int | None
    """Side of the input image in pixels; None if unknown or variable."""
    mparams: float | None
    """Parameters of both towers, in millions."""
    embed_dim: int | None
    languages: str
    """en, zh or multi."""
    license: str
    """Empty if no source was found."""
    imagenet: float | None
    """Published zero-shot accuracy on ImageNet, in percent."""
    coco: float | None
    """Published recall@1 on MS COCO in percent, the mean of both directions."""
    source: str
    """URL of the scores."""
    gflops: float | None
    """Floating-point operations of the image tower per image, in 10^9, counted from the architecture."""
    libraries: tuple[str, ...]
    """The libraries that compute the towers, zebra first; empty if it is refused."""
    refused: str
    """Why zebra does not open it; empty if it does."""
    note: str = ""
    """What is special about its use."""

    @property
    def compute(self) -> float | None:
        """Return the operations per image relative to ViT-B/32, rounded to a power of two."""
        if self.gflops is None:
            return None
        unit = read_architectures()[REFERENCE_ARCHITECTURE].image_gflops
        return float(2.0 ** round(math.log2(self.gflops / unit)))

    @property
    def opens(self) -> str:
        """Return "zebra", the extras that are needed such as "+ timm", or "refused"."""
        return format_libraries(self.libraries)


@cache
def list_known_models() -> tuple[KnownModel, ...]:
    """Return the repositories of the hub, then open_clip's tags."""
    return (*_read_hub_models(), *map(_describe_tag, read_tags().values()))


def suggest_model(name: str) -> str:
    """Return " Did you mean …?" with the closest known name, or nothing if none is close."""
    # Without `list_known_models`, which parses the config of every tag.
    repositories = {model.name: model.repository for model in _read_hub_models()}
    repositories |= {tag.name: tag.repository for tag in read_tags().values()}
    if name in repositories.values():
        return f" Did you mean {f'hf:{name}'!r}?"
    close = difflib.get_close_matches(name, repositories, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def list_libraries(config: ModelConfig) -> tuple[str, ...]:
    """Return the libraries that compute the towers of a model, zebra first."""
    libraries = {config.vision.library, config.text.library}
    return tuple(sorted(libraries, key=lambda library: (library != "zebra", library)))


def format_libraries(libraries: tuple[str, ...]) -> str:
    """Return what computes a model.

    >>> format_libraries(("zebra",)), format_libraries(("zebra", "timm")), format_libraries(())
    ('zebra', '+ timm', 'refused')
    """
    others = [library for library in libraries if library != "zebra"]
    return f"+ {' '.join(others)}" if others else "zebra" if libraries else "refused"


def _read_hub_models() -> Iterator[KnownModel]:
    text = (resources.files("zebra.pretrained") / "hub_models.csv").read_text(encoding="utf-8")
    model_types = {model.model_type: model for model in TRANSFORMERS_MODELS}
    for row in csv.DictReader(text.splitlines()):
        architecture = read_architectures().get(row["sizes_of"])
        refused = row["refused"]
        libraries: tuple[str, ...] = () if refused else ("zebra",)
        if row["reader"] in model_types:
            model_type = model_types[row["reader"]]
            libraries, refused = model_type.libraries, model_type.refused
        image_size = row["image_size"] or (architecture.image_size if architecture else None)
        yield KnownModel(
            name=f"hf:{row['repository']}",
            repository=row["repository"],
            reader=row["reader"],
            image_size=int(image_size) if image_size else None,
            mparams=architecture.mparams if architecture else None,
            embed_dim=architecture.embed_dim if architecture else None,
            languages=row["languages"],
            license=row["license"],
            imagenet=float(row["imagenet"]) if row["imagenet"] else None,
            coco=float(row["coco"]) if row["coco"] else None,
            source=SOURCES[row["source"]] if row["source"] else "",
            gflops=architecture.image_gflops if architecture else None,
            libraries=libraries,
            refused=refused,
            note=row["note"],
        )


def _describe_tag(tag: OpenClipTag) -> KnownModel:
    architecture = read_architectures()[tag.architecture]
    libraries: tuple[str, ...]
    try:
        config, _ = parse_open_clip_config(tag.open_clip_config())
        libraries, refused = list_libraries(config), ""
    except MissingExtra as error:  # the size of a tower is in a library that is not installed
        libraries, refused = ("zebra", error.extra or ""), ""
    except ConfigError as error:
        libraries, refused = (), str(error)
    return KnownModel(
        name=tag.name,
        repository=tag.repository,
        reader="open_clip",
        image_size=architecture.image_size,
        mparams=architecture.mparams,
        embed_dim=architecture.embed_dim,
        languages=tag.languages,
        license=tag.license,
        imagenet=tag.imagenet,
        coco=tag.coco,
        source=SOURCES[tag.source] if tag.source else "",
        gflops=architecture.image_gflops,
        libraries=libraries,
        refused=refused,
    )
