"""OpenAI's original `.pt` files, and state dicts with the same names.

State dicts are `.pt`, `.bin` or safetensors.

The sizes are inferred from the shapes of the tensors. Shapes do not tell the activation and the number of attention
heads: they are known of files from OpenAI, and must be given for others. Long-CLIP (arXiv 2403.15378) has the same code
with two tables of positions for 248 tokens: the first 20 are CLIP's, the others are its own.

Reference: the files that github.com/openai/CLIP downloads (MIT), and how it builds a model from them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isqrt
from pathlib import Path

from torch import Tensor

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.presets import get_preset
from zebra.config.text_towers import TextConfig
from zebra.config.transformer import Activation
from zebra.errors import WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.concatenate import concatenate
from zebra.pretrained.pos_embed import RESNET_STRIDE
from zebra.pretrained.tensors import read_tensors
from zebra.pretrained.torch_archive import read_archive

OPENAI_SHA256 = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B/32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B/16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L/14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L/14@336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}
"""SHA-256 of the file of each published model, as in the URLs of OpenAI."""

HEAD_WIDTH = 64
"""Width of an attention head in all published transformers, and in the attention pool of ResNets."""
OPENAI_TENSORS = frozenset(("input_resolution", "context_length", "vocab_size"))
"""Numbers in OpenAI's files, which also follow from the shapes. Other trainers do not write them."""
CAUSAL_MASK = re.compile(r".*\.attn_mask$")
"""The mask of text towers that store it."""
LONG_CLIP_POSITIONS = "positional_embedding_res"
"""The second table of positions, which only Long-CLIP has."""
NUM_KEPT_POSITIONS = 20
WEIGHT_NAMES = re.compile(
    r"visual\..+|transformer\.resblocks\.\d+\..+|token_embedding\.weight|positional_embedding|ln_final\.(weight|bias)"
    r"|text_projection|logit_scale"
)


def published_file_name(name: str) -> str:
    """Return the file name of a published model.

    >>> published_file_name("ViT-L/14@336px")
    'ViT-L-14-336px.pt'
    """
    return re.sub("[/@]", "-", name) + ".pt"


def verify_published_digest(path: Path, digest: Callable[[Path], str]) -> None:
    """Compare the SHA-256 of a file that has the name of a published one; other files are not read.

    Args:
        digest: Returns the SHA-256 of a file.

    Raises:
        WeightsError: The SHA-256 differs.
    """
    for name, expected in OPENAI_SHA256.items():
        if path.name == published_file_name(name) and (actual := digest(path)) != expected:
            raise WeightsError(
                f"{path} is not OpenAI's {name}: its sha256 is {actual}, that of the published file {expected}. "
                "Download it again, or rename it if it is your own model."
            )


def read_openai(
    path: Path, *, activation: Activation | None = None, heads: tuple[int, int] | None = None
) -> PretrainedCheckpoint:
    """Read a TorchScript archive as published by OpenAI, or a plain state dict with the same names.

    Files from OpenAI have the numbers OPENAI_TENSORS, those of Long-CLIP have LONG_CLIP_POSITIONS; their models use
    QuickGELU and heads of HEAD_WIDTH.

    Args:
        activation: Activation of both towers; required for a file that is not from OpenAI.
        heads: Number of attention heads of the image tower (of a ResNet: of its attention pool) and of the text tower;
            required for a file that is not from OpenAI and has none of the published shapes.

    Raises:
        WeightsError: The file is damaged or unsafe, its tensors are not those of CLIP, or it is not from OpenAI and
            its architecture is not given.
        ConfigError: The number of heads does not divide the width of its tower.
    """
    archive = read_tensors(path) if path.suffix == ".safetensors" else read_archive(path)
    has_known_architecture = archive.keys() >= OPENAI_TENSORS or LONG_CLIP_POSITIONS in archive
    tensors = {
        name: value for name, value in archive.items() if name not in OPENAI_TENSORS and not CAUSAL_MASK.match(name)
    }
    tensors = _merge_positions(tensors, path)
    _require_clip_tensors(tensors, path)
    try:
        config = _infer_config(tensors)
    except KeyError as error:
        raise WeightsError(f"{path} lacks the tensor {error.args[0]} of OpenAI's CLIP. Copy the file again.") from error
    except ValueError as error:  # a ConfigError, or a wrong number of dimensions
        raise WeightsError(
            f"{path}: the shapes of its tensors are not those of OpenAI's CLIP ({error}). Copy the file again."
        ) from error
    needs_heads = heads is None and not any(config == get_preset(name) for name in OPENAI_SHA256)
    if not has_known_architecture and (activation is None or needs_heads):
        raise _unknown_architecture_error(path, needs_heads=needs_heads)
    config = _with_architecture(config, activation, heads)
    return PretrainedCheckpoint(
        layout="openai",
        config=config,
        preprocess=Preprocess(image_size=config.image_size, decode="reference"),
        tensors=tensors,
        files=(path,),
        given_architecture="" if activation is None and heads is None else str(config),
    )


def _merge_positions(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors with Long-CLIP's two tables of positions as one; WeightsError if their shapes differ."""
    if LONG_CLIP_POSITIONS not in tensors:
        return tensors
    first, rest = tensors.get("positional_embedding"), tensors[LONG_CLIP_POSITIONS]
    if first is None or first.shape != rest.shape or first.ndim != 2:
        raise WeightsError(
            f"{path}: positional_embedding and {LONG_CLIP_POSITIONS} of Long-CLIP must be tables of one shape. Copy "
            "the file again."
        )
    merged = concatenate([first[:NUM_KEPT_POSITIONS], rest[NUM_KEPT_POSITIONS:]])
    others = {name: tensor for name, tensor in tensors.items() if name != LONG_CLIP_POSITIONS}
    return others | {"positional_embedding": merged}


def _require_clip_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise WeightsError if a tensor has a name that OpenAI's CLIP does not have."""
    if any(name.startswith(("state_dict.", "module.")) for name in tensors):
        raise WeightsError(
            f"{path} is a training checkpoint, as open_clip writes them; it does not contain the architecture. Copy it "
            'to FOLDER/open_clip_pytorch_model.bin, write the architecture beside it (python -c "import json, '
            "open_clip; json.dump({'model_cfg': open_clip.get_model_config('NAME')}, "
            "open('FOLDER/open_clip_config.json', 'w'))\"), and load FOLDER."
        )
    for name in tensors:
        if not WEIGHT_NAMES.fullmatch(name):
            raise WeightsError(
                f"{path} has a tensor {name}, which OpenAI's CLIP does not have. Load models of open_clip and "
                "transformers from their folders."
            )


def _unknown_architecture_error(path: Path, *, needs_heads: bool) -> WeightsError:
    missing = "the activation and the number of attention heads" if needs_heads else "the activation"
    heads = ", heads=(IMAGE_HEADS, TEXT_HEADS)" if needs_heads else ""
    return WeightsError(
        f"{path} is a state dict that is not from OpenAI; it does not contain {missing}. Write a model folder once, "
        f"and use it in place of the file: python -c \"import zebra; zebra.load('{path}', activation='gelu'{heads})"
        ".save('FOLDER')\". Give activation='quick_gelu' for a model that was trained with it, such as fine-tuned "
        "weights of OpenAI and open_clip's models with quickgelu in their name."
    )


def _with_architecture(
    config: ModelConfig, activation: Activation | None, heads: tuple[int, int] | None
) -> ModelConfig:
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionTransformerConfig | ResNetConfig)
    assert isinstance(text, TextConfig)
    if heads is not None:
        vision, text = replace(vision, heads=heads[0]), replace(text, heads=heads[1])
    if activation is not None:
        text = replace(text, activation=activation)
        if isinstance(vision, VisionTransformerConfig):
            vision = replace(vision, activation=activation)
    return replace(config, vision=vision, text=text)


def _infer_config(tensors: Mapping[str, Tensor]) -> ModelConfig:
    vision: VisionTransformerConfig | ResNetConfig
    if "visual.proj" in tensors:
        width, _, _, patch_size = tensors["visual.conv1.weight"].shape
        num_positions, _ = tensors["visual.positional_embedding"].shape
        image_size = patch_size * _infer_grid_size(num_positions)
        vision = VisionTransformerConfig(
            width=width,
            layers=_count_blocks(tensors, "visual.transformer.resblocks."),
            heads=width // HEAD_WIDTH,
            patch_size=patch_size,
        )
    else:
        width, _, _, _ = tensors["visual.layer1.0.conv1.weight"].shape
        num_positions, pool_width = tensors["visual.attnpool.positional_embedding"].shape
        image_size = RESNET_STRIDE * _infer_grid_size(num_positions)
        one, two, three, four = (_count_blocks(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        vision = ResNetConfig(width=width, layers=(one, two, three, four), heads=pool_width // HEAD_WIDTH)
    vocab_size, width = tensors["token_embedding.weight"].shape
    context_length, _ = tensors["positional_embedding"].shape
    _, embed_dim = tensors["text_projection"].shape
    return ModelConfig(
        embed_dim=embed_dim,
        image_size=image_size,
        vision=vision,
        text=TextConfig(
            width=width,
            layers=_count_blocks(tensors, "transformer.resblocks."),
            heads=width // HEAD_WIDTH,
            vocab_size=vocab_size,
            context_length=context_length,
        ),
    )


def _count_blocks(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of blocks whose tensors are called `<prefix><number>.…`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _infer_grid_size(num_positions: int) -> int:
    """Return the side of the square grid of all positions except the first."""
    return isqrt(num_positions - 1)
