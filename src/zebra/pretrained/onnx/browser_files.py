"""The files by which transformers.js opens an exported model.

config.json  preprocessor_config.json  tokenizer_config.json

transformers.js chooses the class of a model by its `model_type`; the graphs define everything else. So every model with
images of a fixed size is of the type `clip`, also one that transformers itself has no class for.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from zebra.config.image_towers import NaflexVisionConfig
from zebra.config.model import ModelConfig
from zebra.images.preprocess import Preprocess
from zebra.pretrained.folder import write_json
from zebra.pretrained.onnx.model_folder import TOWER_FILES, Graph, Tower
from zebra.pretrained.transformers.config import infer_model_type, is_transformers_model
from zebra.pretrained.transformers.image_processor import to_image_processor_config
from zebra.pretrained.transformers.tokenizer import write_tokenizer_json
from zebra.text.tokenizers import Tokenizer

BrowserType = Literal["clip", "siglip"]
OUTPUTS: dict[BrowserType, dict[Tower, str]] = {
    "clip": {"image": "image_embeds", "text": "text_embeds"},
    "siglip": {"image": "pooler_output", "text": "pooler_output"},
}
"""Names of the outputs of the graphs by model type."""


def browser_type(config: ModelConfig) -> BrowserType | None:
    """Return the model type for transformers.js; None for NaFlex, which it has no class for."""
    if isinstance(config.vision, NaflexVisionConfig):
        return None
    return "siglip" if is_transformers_model(config) and infer_model_type(config) == "siglip" else "clip"


def write_browser_files(
    folder: Path, config: ModelConfig, preprocess: Preprocess, tokenizer: Tokenizer, graphs: Iterable[Graph]
) -> None:
    """Write the settings for transformers.js, and `tokenizer.json`."""
    model_type = browser_type(config)
    if model_type is None:
        tokenizer.save(folder / "tokenizer.json")
        return
    graphs = list(graphs)
    ids = write_tokenizer_json(folder, tokenizer, context_length=config.text.context_length)
    write_json(folder / "preprocessor_config.json", to_image_processor_config(preprocess, model_type))
    settings: dict[str, Any] = {
        "model_type": model_type,
        "projection_dim": config.embed_dim,
        "text_config": {
            "model_type": f"{model_type}_text_model",
            "vocab_size": config.text.vocab_size,
            "max_position_embeddings": config.text.context_length,
            **ids,
        },
        "vision_config": {"model_type": f"{model_type}_vision_model", "image_size": config.image_size},
        "transformers.js_config": _library_settings(graphs),
    }
    write_json(folder / "config.json", settings)


def _library_settings(graphs: list[Graph]) -> dict[str, Any]:
    """Return the settings that name precisions which are missing, and graphs with external data."""
    settings: dict[str, Any] = {}
    in_int8 = {graph.tower for graph in graphs if graph.precision == "int8"}
    if len(in_int8) < len(TOWER_FILES):  # in the browser, int8 is the default
        settings["dtype"] = {name: "q8" if tower in in_int8 else "fp32" for tower, name in TOWER_FILES.items()}
    external = {Path(graph.file).name: True for graph in graphs if graph.data is not None}
    if external:
        settings["use_external_data_format"] = external
    return settings
