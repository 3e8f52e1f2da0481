"""Conversion between preprocessor_config.json and zebra's preprocessing.

Reference: the image processors of transformers 5.24 with their Pillow backend (`…Pil`; until transformers 4 the classes
without `Fast`). With torchvision, the only backend of TIPSv2's processor, transformers may resize differently, by at
most 1 of 255.
"""

import math
from pathlib import Path

from zebra.config.image_towers import NaflexVisionConfig
from zebra.config.model import ModelConfig
from zebra.config.structure import structure
from zebra.errors import ConfigError, WeightsError, show_value
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zebra.pretrained.transformers.config import CLIP_TYPES, JsonDict, ModelType, parse_positive_int
from zebra.text.files import read_json_object

RESAMPLING_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the resampling filters that zebra supports."""

# Defaults of transformers for keys that are missing in preprocessor_config.json.
_SIGLIP_DEFAULTS: JsonDict = {
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_center_crop": False, "do_pad": False,
    "rescale_factor": 1 / 255, "resample": 3, "default_to_square": False, "crop_size": 224,
    "size": {"height": 224, "width": 224}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
}  # fmt: skip
_OPENAI_DEFAULTS: JsonDict = {"image_mean": OPENAI_MEAN, "image_std": OPENAI_STD}
_SQUARE_DEFAULTS = _SIGLIP_DEFAULTS | {"default_to_square": True}
_PROCESSOR_DEFAULTS: dict[str, JsonDict] = {
    "CLIPImageProcessor": _SIGLIP_DEFAULTS | _OPENAI_DEFAULTS | {"do_center_crop": True, "size": 224},
    "SiglipImageProcessor": _SIGLIP_DEFAULTS,
    "Siglip2ImageProcessor": _SIGLIP_DEFAULTS | {"resample": 2, "max_num_patches": 256, "patch_size": 16},
    "ChineseCLIPImageProcessor": _SIGLIP_DEFAULTS | _OPENAI_DEFAULTS | {"do_center_crop": True, "size": 224},
    "ViTImageProcessor": _SIGLIP_DEFAULTS | {"resample": 2},
    "BlipImageProcessor": _SQUARE_DEFAULTS | _OPENAI_DEFAULTS | {"size": 384},
    "FlavaImageProcessor": _SQUARE_DEFAULTS | _OPENAI_DEFAULTS | {"do_center_crop": True},
    "EfficientNetImageProcessor": _SQUARE_DEFAULTS | {
        "size": 346, "crop_size": 289, "rescale_offset": False, "include_top": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    },
    "Tipsv2ImageProcessor": _SQUARE_DEFAULTS | {"size": 448, "resample": 2, "do_normalize": False},
}  # fmt: skip
_DEFAULT_PROCESSORS = {
    "clip": "CLIPImageProcessor",
    "metaclip_2": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "aimv2": "CLIPImageProcessor",
    "align": "EfficientNetImageProcessor",
    "blip": "BlipImageProcessor",
    "flava": "FlavaImageProcessor",
    "groupvit": "CLIPImageProcessor",
    "tipsv2": "Tipsv2ImageProcessor",
}
"""The processor of a model type, if the file names none."""


def read_image_processor(folder: Path, model_type: str, config: ModelConfig | None = None) -> tuple[Path, Preprocess]:
    """Read the settings of the image processor; transformers 5 may write them to processor_config.json.

    Args:
        config: Config of the model, which the processor must suit; None: it is not compared.

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
    if config is not None:
        require_image_size(preprocess, config, path)
    return path, preprocess


def require_image_size(preprocess: Preprocess, config: ModelConfig, path: Path) -> None:
    """Raise WeightsError if the processor at `path` has another image size than the model."""
    if preprocess.image_size != config.image_size:
        raise WeightsError(
            f"{path} has the image size {preprocess.image_size}, but config.json has {config.image_size}. Copy both "
            "files from the same model."
        )


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
        side = preprocess.resize_size or preprocess.image_size
        size, square = ({"height": pixels, "width": pixels} for pixels in (side, preprocess.image_size))
        is_shortest, has_crop = preprocess.resize == "shortest", preprocess.resize == "shortest" or size != square
        resize = {
            # Only CLIP's processor crops a center square in every version of transformers.
            "image_processor_type": "CLIPImageProcessor" if has_crop else "SiglipImageProcessor",
            "processor_class": "CLIPProcessor" if model_type in CLIP_TYPES else "SiglipProcessor",
            "size": {"shortest_edge": side} if is_shortest else size,
            "do_center_crop": has_crop,
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


def _parse_preprocess(raw: JsonDict, model_type: str, config: ModelConfig | None, path: Path) -> Preprocess:
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
    if "rescale_offset" not in settings and not _is_255th(settings["rescale_factor"]):
        raise WeightsError(
            f"{path}: rescale_factor is {show_value(settings['rescale_factor'])}, but zebra supports only 1/255."
        )
    # A list, because the value in the file may not be hashable.
    if settings["resample"] not in list(RESAMPLING_FILTERS):
        raise WeightsError(
            f"{path}: resample is {show_value(settings['resample'])}, but zebra supports only 0 (nearest), 2 "
            "(bilinear) and 3 (bicubic)."
        )
    if config is not None and isinstance(config.vision, NaflexVisionConfig):
        resize = _parse_naflex(settings, config.vision, path) | {"image_size": config.image_size}
    else:
        resize = _parse_resize(settings, path)
    mean, std = _parse_normalization(settings, path)
    raw_preprocess = resize | {
        "interpolation": RESAMPLING_FILTERS[settings["resample"]],
        "crop": "floor",
        "rgb": "first",
        "mean": mean,
        "std": std,
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


def _parse_resize(settings: JsonDict, path: Path) -> JsonDict:
    """Return the image size, the resize mode, and the size of the resize if the crop is smaller."""
    size = _parse_size(settings["size"], square=settings["default_to_square"])
    crop = _parse_size(settings["crop_size"], square=True) if settings["do_center_crop"] else None
    resize, side = ("shortest", size.get("shortest_edge")) if len(size) == 1 else ("squash", size.get("height"))
    has_one_side = size in ({"shortest_edge": side}, {"height": side, "width": side})
    cropped_side = side if crop is None and resize == "squash" else (crop or {}).get("height")
    if has_one_side and crop in (None, {"height": cropped_side, "width": cropped_side}):
        if cropped_side == side:
            return {"image_size": side, "resize": resize}
        if isinstance(side, int) and isinstance(cropped_side, int) and cropped_side < side:
            return {"image_size": cropped_side, "resize": resize, "resize_size": side}
    raise WeightsError(
        f"{path} resizes to {show_value(size)} and crops to {show_value(crop)}. zebra supports a square crop of at "
        "most the size of the shorter side."
    )


def _parse_size(size: object, *, square: bool) -> JsonDict:
    """Return a size with named sides; older files have a number or a pair."""
    if isinstance(size, dict):
        return {name: side for name, side in size.items() if side is not None}
    if isinstance(size, list) and len(size) == 2:
        return {"height": size[0], "width": size[1]}
    return {"height": size, "width": size} if square else {"shortest_edge": size}


def _parse_normalization(settings: JsonDict, path: Path) -> tuple[object, object]:
    """Return mean and std of values in [0, 1].

    EfficientNet's processor may subtract 1 after the rescaling (`rescale_offset`), and divides by the standard
    deviation again with `include_top`.
    """
    mean, std = (settings["image_mean"], settings["image_std"]) if settings["do_normalize"] else ([0.0] * 3, [1.0] * 3)
    if "rescale_offset" not in settings:
        return mean, std
    factor, top_std = settings["rescale_factor"], settings["image_std"] if settings["include_top"] else [1.0] * 3
    triples = (mean, std, top_std)
    is_valid = all(isinstance(x, list) and len(x) == 3 and all(isinstance(v, int | float) for v in x) for x in triples)
    if not is_valid or not isinstance(factor, float) or not factor > 0:
        raise WeightsError(
            f"{path}: rescale_factor {show_value(factor)} with image_mean {show_value(settings['image_mean'])} and "
            f"image_std {show_value(settings['image_std'])} is not supported. Copy the file again."
        )
    offset, scale = int(settings["rescale_offset"] is True), 255 * factor
    return [(m + offset) / scale for m in mean], [s * t / scale for s, t in zip(std, top_std, strict=True)]


def _is_255th(factor: object) -> bool:
    return isinstance(factor, float) and math.isclose(factor, 1 / 255, rel_tol=1e-9)
