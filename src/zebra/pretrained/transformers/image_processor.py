"""Conversion between preprocessor_config.json and zebra's preprocessing.

Reference: `CLIPImageProcessor`, `SiglipImageProcessor` and `Siglip2ImageProcessor` of transformers 5.24 with their
Pillow backend (`…Pil`; until transformers 4 the classes without `Fast`). With torchvision, transformers may resize
differently, by at most 1 of 255.
"""

import math
from pathlib import Path
from typing import Literal

from zebra.config.image_towers import NaflexVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zebra.pretrained.transformers.config import CLIP_TYPES, JsonDict, ModelType, parse_positive_int
from zebra.text.files import read_json_object

RESAMPLING_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters that zebra supports."""

# Defaults of transformers for keys that are missing in preprocessor_config.json.
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
    "ViTImageProcessor": _SIGLIP_DEFAULTS | {"resample": 2},
}
_PROCESSOR_DEFAULTS["ChineseCLIPImageProcessor"] = _PROCESSOR_DEFAULTS["CLIPImageProcessor"]
_DEFAULT_PROCESSORS: dict[ModelType, str] = {
    "clip": "CLIPImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
}
"""The processor of a model type, if the file names none."""


def read_image_processor(folder: Path, model_type: ModelType, config: ModelConfig) -> tuple[Path, Preprocess]:
    """Read the settings of the image processor; transformers 5 may write them to processor_config.json.

    Args:
        config: Config of the model, which the processor must suit.

    Returns:
        The path of the file, and the preprocessing.

    Raises:
        WeightsError: The settings are missing, damaged, or not exactly supported by zebra.
    """
    path = folder / "processor_config.json"
    raw = read_json_object(path).get("image_processor") if path.is_file() else None
    if raw is None:
        path = folder / "preprocessor_config.json"
        if not path.is_file():
            raise WeightsError(
                f"{folder} lacks preprocessor_config.json, which describes the preprocessing of images. Copy it from "
                "the source of the model."
            )
        raw = read_json_object(path)
    if not isinstance(raw, dict):
        raise WeightsError(
            f"{path}: image_processor must be a JSON object, not {show_value(raw)}. Copy the file again."
        )
    preprocess = _parse_preprocess(raw, model_type, config, path)
    if preprocess.image_size != config.image_size:
        raise WeightsError(
            f"{path} has the image size {preprocess.image_size}, but config.json has {config.image_size}. Copy both "
            "files from the same model."
        )
    return path, preprocess


def to_image_processor_config(preprocess: Preprocess, model_type: ModelType) -> JsonDict:
    """Return preprocessor_config.json for a preprocessing; `crop`, `rgb` and `decode` cannot be expressed."""
    if preprocess.resize == "naflex":
        resize: JsonDict = {
            "image_processor_type": "Siglip2ImageProcessor",
            "processor_class": "Siglip2Processor",
            "patch_size": preprocess.patch_size,
            "max_num_patches": preprocess.max_num_patches,
        }
    else:
        square = {"height": preprocess.image_size, "width": preprocess.image_size}
        is_shortest = preprocess.resize == "shortest"
        resize = {
            # Only CLIP's processor crops a center square in every version of transformers.
            "image_processor_type": "CLIPImageProcessor" if is_shortest else "SiglipImageProcessor",
            "processor_class": "CLIPProcessor" if model_type in CLIP_TYPES else "SiglipProcessor",
            "size": {"shortest_edge": preprocess.image_size} if is_shortest else square,
            "do_center_crop": is_shortest,
            "crop_size": square,
        }
    return resize | {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": next(code for code, name in RESAMPLING_FILTERS.items() if name == preprocess.interpolation),
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _parse_preprocess(raw: JsonDict, model_type: ModelType, config: ModelConfig, path: Path) -> Preprocess:
    processor = str(
        raw.get("image_processor_type") or raw.get("feature_extractor_type") or _DEFAULT_PROCESSORS[model_type]
    )
    name = processor.removesuffix("Fast").removesuffix("Pil").replace("FeatureExtractor", "ImageProcessor")
    if name not in _PROCESSOR_DEFAULTS or (name == _DEFAULT_PROCESSORS["siglip2"]) != (model_type == "siglip2"):
        raise WeightsError(
            f"{path}: {processor[:80]} is not supported for a {model_type} model. zebra supports "
            f"{', '.join(_PROCESSOR_DEFAULTS)}; {_DEFAULT_PROCESSORS['siglip2']} for siglip2 only."
        )
    settings = _PROCESSOR_DEFAULTS[name] | {key: value for key, value in raw.items() if value is not None}
    for key, supported in (("do_resize", True), ("do_rescale", True), ("do_pad", False)):
        if settings[key] is not supported:
            raise WeightsError(f"{path}: {key} is {show_value(settings[key])}, but zebra supports only {supported}.")
    if not _is_255th(settings["rescale_factor"]):
        raise WeightsError(
            f"{path}: rescale_factor is {show_value(settings['rescale_factor'])}, but zebra supports only 1/255."
        )
    # A list, because the value in the file may not be hashable.
    if settings["resample"] not in list(RESAMPLING_FILTERS):
        raise WeightsError(
            f"{path}: resample is {show_value(settings['resample'])}, but zebra supports only 2 (bilinear) and 3 "
            "(bicubic)."
        )
    if isinstance(config.vision, NaflexVisionConfig):
        resize = _parse_naflex(settings, config.vision, path) | {"image_size": config.image_size}
    else:
        size, mode = _parse_resize(settings, path)
        resize = {"image_size": size, "resize": mode}
    raw_preprocess = resize | {
        "interpolation": RESAMPLING_FILTERS[settings["resample"]],
        "crop": "floor",
        "rgb": "first",
        "mean": settings["image_mean"] if settings["do_normalize"] else [0.0] * 3,
        "std": settings["image_std"] if settings["do_normalize"] else [1.0] * 3,
        "decode": "reference",
    }
    try:
        return structure(Preprocess, raw_preprocess, "preprocess")
    except ConfigError as error:
        raise WeightsError(f"{path} describes a preprocessing that zebra does not support: {error}") from error


def _parse_naflex(settings: JsonDict, vision: NaflexVisionConfig, path: Path) -> JsonDict:
    """Return the settings of NaFlex; WeightsError if the patches have another size than those of the tower."""
    patch_size = parse_positive_int(settings["patch_size"], "patch_size", path)
    if patch_size != vision.patch_size:
        raise WeightsError(
            f"{path} has patches of {patch_size} pixels, but config.json has {vision.patch_size}. Copy both files from "
            "the same model."
        )
    max_num_patches = parse_positive_int(settings["max_num_patches"], "max_num_patches", path)
    return {"resize": "naflex", "patch_size": patch_size, "max_num_patches": max_num_patches}


def _parse_resize(settings: JsonDict, path: Path) -> tuple[object, Literal["shortest", "squash"]]:
    """Return the image size and the resize mode, if the result is a square."""
    size = _parse_size(settings["size"], square=settings["default_to_square"])
    crop = _parse_size(settings["crop_size"], square=True) if settings["do_center_crop"] else None
    match size:
        case {"shortest_edge": side} if len(size) == 1 and crop == {"height": side, "width": side}:
            return side, "shortest"
        case {"height": side, "width": other} if side == other and crop in (None, size):
            return side, "squash"
    raise WeightsError(
        f"{path} resizes to {show_value(size)} and crops to {show_value(crop)}. zebra supports a square crop of the "
        "size of the shorter side, or resizing to a square."
    )


def _parse_size(size: object, *, square: bool) -> JsonDict:
    """Return a size with named sides; older files have a number or a pair."""
    if isinstance(size, dict):
        return {name: side for name, side in size.items() if side is not None}
    if isinstance(size, list) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    return {"height": size, "width": size} if square else {"shortest_edge": size}


def _is_255th(factor: object) -> bool:
    return isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-9)
