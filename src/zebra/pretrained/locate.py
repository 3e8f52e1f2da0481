"""Find the folder of a model by its name, and the layout of the folder.

The tables of known models and the readers of other layouts are imported late, since a local folder needs none of them.
"""

import warnings
from pathlib import Path

from zebra.errors import WeightsError
from zebra.pretrained.checkpoint import ModelLayout
from zebra.pretrained.download import download_model
from zebra.pretrained.folder import FORMAT_VERSION
from zebra.pretrained.manifest import MANIFEST_FILE
from zebra.pretrained.onnx.model_folder import MODEL_FILE as ONNX_MODEL_FILE
from zebra.pretrained.pairs import is_text_model, require_image_tower
from zebra.pretrained.sentence_transformers.modules import MODULES_FILE, read_modules
from zebra.pretrained.weight_files import OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS
from zebra.text.files import read_json_object

HUB_PREFIX = "hf:"
STATE_DICT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
"""Suffixes of single files with the weights of a CLIP."""


def resolve_model_path(path: str | Path) -> Path:
    """Return the local folder or file of a model; download models of the hub, also by open_clip's names.

    Of a folder of sentence-transformers, it is the folder of the CLIP or SigLIP model in it.
    """
    folder = find_or_download(path)
    require_image_tower(folder)
    if (folder / MODULES_FILE).is_file() and not (folder / OPEN_CLIP_CONFIG).is_file():
        from zebra.pretrained.sentence_transformers.layout import find_dual_encoder

        return find_dual_encoder(folder)
    return folder


def find_or_download(path: str | Path) -> Path:
    """Return the local folder or file that a name means, as it is; download models of the hub."""
    if isinstance(path, str) and path.startswith(HUB_PREFIX):
        return download_model(path, check_settings=require_supported)
    model_path = Path(path)
    if model_path.exists():
        return model_path
    from zebra.pretrained.open_clip.tags import find_tag, make_tag_folder

    tag = find_tag(str(path))
    if tag is None:
        from zebra.pretrained.known_models import suggest_model

        raise WeightsError(
            f"no model folder at {model_path.resolve()}.{suggest_model(str(path))} `zebra train` writes one to "
            f'<out>/model; models of the hub are named "{HUB_PREFIX}org/name", and `zebra models` lists known names.'
        )
    weight_names = (tag.file,) if tag.file else OPEN_CLIP_WEIGHTS
    return make_tag_folder(tag, download_model(f"{HUB_PREFIX}{tag.repository}", weight_names))


def require_supported(folder: Path) -> None:
    """Raise WeightsError if the config in a folder is of a model that zebra cannot read; weights may still be missing.

    Settings that only the readers know are not checked.
    """
    config = folder / "config.json"
    if (folder / MODULES_FILE).is_file():
        read_modules(folder)
    elif (folder / OPEN_CLIP_CONFIG).is_file():
        from zebra.pretrained.open_clip.layout import read_open_clip_config

        read_open_clip_config(folder / OPEN_CLIP_CONFIG)
    elif config.is_file() and not _is_zebra_config(config) and not is_text_model(folder):
        from zebra.pretrained.transformers.model_types import require_model_type

        require_model_type(read_json_object(config), config)


def is_hub_model(name: str) -> bool:
    """Return whether a name is "hf:org/name" or one of open_clip's, and not that of a local file or folder."""
    from zebra.pretrained.open_clip.tags import is_tag_name

    return name.startswith(HUB_PREFIX) or (is_tag_name(name) and not Path(name).exists())


def hub_repository(name: str) -> str | None:
    """Return the repository "org/name" of a model on the hub; None for a local one."""
    if name.startswith(HUB_PREFIX):
        return name.removeprefix(HUB_PREFIX).partition("@")[0]
    from zebra.pretrained.open_clip.tags import find_tag

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
        has_config = any((path.parent / name).is_file() for name in ("config.json", OPEN_CLIP_CONFIG))
        if path.suffix not in STATE_DICT_SUFFIXES or (has_config and path.suffix not in (".pt", ".pth")):
            advice = f"Name its folder: {path.parent}" if has_config else "Name a folder or a state dict of CLIP"
            raise WeightsError(
                f"{path} is a single file, but a model is a folder or a state dict "
                f"({', '.join(STATE_DICT_SUFFIXES)}). {advice}."
            )
        return "openai"
    if (path / ONNX_MODEL_FILE).is_file():
        raise WeightsError(
            f"{path} has ONNX graphs, which zebra.load does not read. Open it with zebra.lite.load, or load the model "
            "that it was exported from."
        )
    config, open_clip = path / "config.json", path / OPEN_CLIP_CONFIG
    if config.is_file() and _is_zebra_config(config):
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


def _is_zebra_config(path: Path) -> bool:
    return read_json_object(path).get("format") == FORMAT_VERSION["format"]
