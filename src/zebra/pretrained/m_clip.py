"""Text models of M-CLIP: an encoder, mean pooling and a linear layer.

config.json  pytorch_model.bin  tokenizer.json

Reference: `pt_multilingual_clip.py` and `Config_MCLIP.py` of github.com/FreddeFrallan/Multilingual-CLIP. The config
names the encoder by its repository, without its settings.
"""

from pathlib import Path

from zebra.errors import ConfigError, WeightsError, show_value
from zebra.pretrained.bert import bert_from_transformers
from zebra.pretrained.checkpoint import TextCheckpoint
from zebra.pretrained.open_clip.hf_configs import read_encoder_config
from zebra.pretrained.tensors import read_tensors
from zebra.pretrained.weight_files import find_weights, list_weight_files
from zebra.text.files import read_json_object

MODEL_TYPE = "M-CLIP"
ENCODER_PREFIX = "transformer."
PROJECTION = ("LinearTransformation.weight", "LinearTransformation.bias")


def is_m_clip(folder: Path) -> bool:
    """Return whether a folder is a text model of M-CLIP."""
    path = folder / "config.json"
    return path.is_file() and read_json_object(path).get("model_type") == MODEL_TYPE


def read_m_clip(folder: Path) -> TextCheckpoint:
    """Read a text model.

    Differs: the library fails for a text of more tokens than positions; zebra truncates it.

    Raises:
        WeightsError: A file is missing or damaged, the encoder is not of the BERT family or unknown, or a tensor is
            missing, unknown or of another shape.
    """
    path = folder / "config.json"
    raw = read_json_object(path)
    name = raw.get("modelBase")
    if not isinstance(name, str):
        raise WeightsError(f"{path}: modelBase is {show_value(name)}. It must name the encoder. Copy the file again.")
    try:
        encoder = read_encoder_config(name, "modelBase")
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from error
    weights = find_weights(folder)
    tensors = read_tensors(weights)
    for projection_name in PROJECTION:
        if projection_name not in tensors:
            raise WeightsError(f"{weights} lacks the tensor {projection_name}. Copy the folder again.")
    weight, bias = (tensors.pop(projection_name) for projection_name in PROJECTION)
    config, converted = bert_from_transformers(
        encoder,
        {key.removeprefix(ENCODER_PREFIX): tensor for key, tensor in tensors.items()},
        str(weights),
        pooling="mean",
        projection=(weight, bias),
    )
    return TextCheckpoint(
        folder=folder,
        embed_dim=len(weight),
        config=config,
        tensors=converted,
        files=(path, *list_weight_files(weights)),
    )
