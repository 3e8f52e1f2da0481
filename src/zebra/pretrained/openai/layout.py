"""An original OpenAI `.pt` file in, a checkpoint out: its architecture is read off the shapes of its tensors.

Source: the files that github.com/openai/CLIP downloads (MIT), and the rules by which it builds a model from one.
"""

import re
from collections.abc import Callable, Mapping
from math import isqrt
from pathlib import Path

from torch import Tensor

from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import Preprocess
from zebra.pretrained.checkpoint import PretrainedCheckpoint
from zebra.pretrained.openai.archive import read_archive
from zebra.pretrained.pos_embed import RESNET_STRIDE

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
"""Name of a published model → sha256 of its file, as in the addresses OpenAI serves the files from."""

HEAD_WIDTH = 64
"""Of every published transformer, image and text; in a ResNet, of the attention pool."""
IGNORED_TENSORS = re.compile(r"(input_resolution|context_length|vocab_size|.*\.attn_mask)$")
"""Numbers that the shapes repeat, and the causal mask of a text tower that kept it among its tensors."""
WEIGHT_NAMES = re.compile(
    r"visual\..+|transformer\.resblocks\.\d+\..+|token_embedding\.weight|positional_embedding|ln_final\.(weight|bias)"
    r"|text_projection|logit_scale"
)


def published_file_name(name: str) -> str:
    """Return the name a published model is downloaded under.

    >>> published_file_name("ViT-L/14@336px")
    'ViT-L-14-336px.pt'
    """
    return re.sub("[/@]", "-", name) + ".pt"


def verify_published_digest(path: Path, digest: Callable[[Path], str]) -> None:
    """Compare a file called like a published one with it; files of other names pass unread.

    Args:
        digest: Reads a file's sha256, or remembers it.

    Raises:
        WeightsError: The digest is not the published one.
    """
    for name, expected in OPENAI_SHA256.items():
        if path.name == published_file_name(name) and (found := digest(path)) != expected:
            raise WeightsError(
                f"{path} is not OpenAI's {name}: its sha256 is {found}, that of the published file {expected}. "
                "Download it again, or rename it if it is a model of your own"
            )


def read_openai(path: Path) -> PretrainedCheckpoint:
    """Read a TorchScript archive as OpenAI published them, or a plain state dict of the same names.

    The activation is always QuickGELU: nothing in such a file says otherwise, and all of OpenAI's models have it.

    Raises:
        WeightsError: The file is damaged or unsafe, or its tensors are not those of OpenAI's CLIP.
    """
    tensors = {name: value for name, value in read_archive(path).items() if not IGNORED_TENSORS.match(name)}
    for name in tensors:
        if not WEIGHT_NAMES.fullmatch(name):
            raise WeightsError(
                f"{path} holds a tensor {name}, which OpenAI's CLIP has no place for. A trainer's checkpoint must be "
                "reduced to the model's state dict; models of open_clip and transformers load from their folders"
            )
    try:
        config = _infer_config(tensors)
    except KeyError as error:
        raise WeightsError(
            f"{path} lacks the tensor {error.args[0]}: it is not a whole CLIP of OpenAI's"
        ) from error
    except ValueError as error:  # a ConfigError, or not the dimensions to unpack
        raise WeightsError(f"{path}: the shapes of its tensors make no CLIP of OpenAI's ({error})") from error
    return PretrainedCheckpoint(
        layout="openai",
        config=config,
        preprocess=Preprocess(image_size=config.image_size, decode="reference"),
        tensors=tensors,
        files=(path,),
    )


def _infer_config(tensors: Mapping[str, Tensor]) -> ModelConfig:
    vision: VisionTransformerConfig | ResNetConfig
    if "visual.proj" in tensors:
        width, _, _, patch_size = tensors["visual.conv1.weight"].shape
        positions, _ = tensors["visual.positional_embedding"].shape
        image_size = patch_size * _infer_grid_size(positions)
        vision = VisionTransformerConfig(
            width=width,
            layers=_count_blocks(tensors, "visual.transformer.resblocks."),
            heads=width // HEAD_WIDTH,
            patch_size=patch_size,
        )
    else:
        width, _, _, _ = tensors["visual.layer1.0.conv1.weight"].shape
        positions, pooled = tensors["visual.attnpool.positional_embedding"].shape
        image_size = RESNET_STRIDE * _infer_grid_size(positions)
        one, two, three, four = (_count_blocks(tensors, f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
        vision = ResNetConfig(width=width, layers=(one, two, three, four), heads=pooled // HEAD_WIDTH)
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
    """Count the blocks whose tensors are called `<prefix><number>.…`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in tensors if name.startswith(prefix)})


def _infer_grid_size(num_positions: int) -> int:
    """Return the side of the square that all positions but the first one fill."""
    return isqrt(num_positions - 1)
