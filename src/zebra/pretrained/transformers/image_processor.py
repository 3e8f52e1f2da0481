"""transformers' preprocessor_config.json in, zebra's preprocessing out, and back.

Source: `CLIPImageProcessor`, `SiglipImageProcessor` and `Siglip2ImageProcessor` of transformers 5.24 on their Pillow
backend. Where torchvision is installed, transformers may resize with it instead, and bytes then differ by one.
"""

import math
from pathlib import Path
from typing import Literal

from zebra.config.structure import structure
from zebra.errors import ConfigError, WeightsError
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zebra.pretrained.folder import read_json_object
from zebra.pretrained.transformers.config import JsonDict, ModelType, parse_grid_size, parse_positive_int

RESAMPLING_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters that zebra has too."""

# What transformers takes for a key that preprocessor_config.json leaves out.
_SIGLIP_DEFAULTS: JsonDict = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_center_crop": False, "do_pad": False,
    "rescale_factor": 1 / 255, "resample": 3, "default_to_square": False, "crop_size": 224,
    "size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
}  # fmt: skip
_PROCESSOR_DEFAULTS: dict[str, JsonDict] = {
    "CLIPImageProcessor": _SIGLIP_DEFAULTS
    | {"do_center_crop": True, "size": 224, "image_mean": OPENAI_MEAN, "image_std": OPENAI_STD},
    "SiglipImageProcessor": _SIGLIP_DEFAULTS,
    "Siglip2ImageProcessor": _SIGLIP_DEFAULTS | {"resample": 2, "max_num_patches": 256, "patch_size": 16},
}
_DEFAULT_PROCESSORS: dict[ModelType, str] = dict(
    zip(("clip", "siglip", "siglip2"), _PROCESSOR_DEFAULTS, strict=True)
)
"""The processor of a family, where the file names none."""


def read_image_processor(folder: Path, model_type: ModelType) -> tuple[Path, Preprocess]:
    """Find and understand the image processor's settings, which transformers 5 may put into processor_config.json.

    Raises:
        WeightsError: They are missing or damaged, or ask for something that zebra does not do exactly.
    """
    path = folder / "processor_config.json"
    raw = read_json_object(path).get("image_processor") if path.is_file() else None
    if raw is None:
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            raise WeightsError(
                f"{folder} lacks preprocessor_config.json, which says how the model wants its pictures; copy it from "
                "where the model came from"
            )
        raw = read_json_object(path)
    if not isinstance(raw, dict):
        raise WeightsError(f"{path}: image_processor must be an object, not {raw!r}")
    return path, _parse_preprocess(raw, model_type, path)


def to_image_processor_config(preprocess: Preprocess, model_type: ModelType) -> JsonDict:
    """Say a preprocessing in transformers' words, as far as they reach."""
    square = {"height": preprocess.image_size, "width": preprocess.image_size}
    shortest = preprocess.resize == "shortest"
    return {
        # CLIP's alone cuts a square in every version of transformers.
        "image_processor_type": "CLIPImageProcessor" if shortest else "SiglipImageProcessor",
        "processor_class": "CLIPProcessor" if model_type == "clip" else "SiglipProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": preprocess.image_size} if shortest else square,
        "resample": next(
            code for code, name in RESAMPLING_FILTERS.items() if name == preprocess.interpolation
        ),
        "do_center_crop": shortest,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _parse_preprocess(raw: JsonDict, model_type: ModelType, path: Path) -> Preprocess:
    kind = str(
        raw.get("image_processor_type")
        or raw.get("feature_extractor_type")
        or _DEFAULT_PROCESSORS[model_type]
    )
    name = kind.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if name not in _PROCESSOR_DEFAULTS or (name == _DEFAULT_PROCESSORS["siglip2"]) != (
        model_type == "siglip2"
    ):
        raise WeightsError(
            f"{path}: {kind} prepares the pictures of a {model_type} model; zebra follows {', '.join(_PROCESSOR_DEFAULTS)}, "
            "the last for siglip2 alone"
        )
    settings = _PROCESSOR_DEFAULTS[name] | {key: value for key, value in raw.items() if value is not None}
    for switch, wanted in (("do_resize", True), ("do_rescale", True), ("do_pad", False)):
        if settings[switch] is not wanted:
            raise WeightsError(
                f"{path}: {switch} is {settings[switch]}; zebra's preprocessing has it {wanted}"
            )
    if not _is_255th(settings["rescale_factor"]):
        raise WeightsError(f"{path}: rescale_factor is {settings['rescale_factor']}; zebra divides by 255")
    if settings["resample"] not in list(
        RESAMPLING_FILTERS
    ):  # a list, since what stands in the file may not be hashable
        raise WeightsError(
            f"{path}: resample {settings['resample']} is a filter zebra lacks; it has 2 (bilinear) and 3 (bicubic)"
        )
    if model_type == "siglip2":
        grid = parse_grid_size(settings["max_num_patches"], "max_num_patches", path)
        side = grid * parse_positive_int(settings["patch_size"], "patch_size", path)
        settings["size"] = {"height": side, "width": side}
    size, resize = _parse_resize(settings, path)
    described = {
        "image_size": size,
        "resize": resize,
        "interpolation": RESAMPLING_FILTERS[settings["resample"]],
        "crop": "floor",
        "rgb": "first",
        "mean": settings["image_mean"] if settings["do_normalize"] else [0.0] * 3,
        "std": settings["image_std"] if settings["do_normalize"] else [1.0] * 3,
        "decode": "reference",
    }
    try:
        return structure(Preprocess, described, "preprocess")
    except ConfigError as error:
        raise WeightsError(f"{path} describes a preprocessing that zebra does not have: {error}") from error


def _parse_resize(settings: JsonDict, path: Path) -> tuple[object, Literal["shortest", "squash"]]:
    """Say how large pictures become and how, for the two ways that end in a square."""
    size = _parse_size(settings["size"], square=settings["default_to_square"])
    crop = _parse_size(settings["crop_size"], square=True) if settings["do_center_crop"] else None
    match size:
        case {"shortest_edge": side} if len(size) == 1 and crop == {"height": side, "width": side}:
            return side, "shortest"
        case {"height": side, "width": other} if side == other and crop in (None, size):
            return side, "squash"
    raise WeightsError(
        f"{path} resizes to {size} and cuts to {crop}; zebra scales the shorter side and cuts a square of that size, "
        "or squashes to a square"
    )


def _parse_size(size: object, *, square: bool) -> JsonDict:
    """Name the sides of a size, which older files give as a number or a pair."""
    if isinstance(size, dict):
        return {name: side for name, side in size.items() if side is not None}
    if isinstance(size, list) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    return {"height": size, "width": size} if square else {"shortest_edge": size}


def _is_255th(factor: object) -> bool:
    return isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-9)
