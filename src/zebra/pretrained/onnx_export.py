"""A bundle in, two ONNX graphs out (by torch's own exporter), with all that is needed to run them without zebra."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from zebra.config.model import SiglipTextConfig
from zebra.errors import MissingExtra
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.text.causal import TextTransformer
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

OPSET = 18
"""What torch's exporter writes without converting, and onnxruntime reads since 1.14."""


def export_onnx(bundle: Bundle, folder: Path, opset: int = OPSET) -> None:
    """Write both towers as graphs that end in unit vectors, their preprocessing and tokenizer, and a README to start.

    `image.onnx` takes `pixels`, float32 [batch, 3, S, S] as `Preprocess.normalise` leaves them, to `image_vectors`
    [batch, E]. `text.onnx` takes `tokens`, int64 [batch, length], to `text_vectors` [batch, E]; the length is free up
    to the context, but fixed for SigLIP. Weights are fp32 inside the graphs; those of a tower over 2 GB lie in a
    file beside it (`image.onnx.data`), since a graph cannot be larger.

    Args:
        bundle: Any model, on any device; it is left as it is.
        folder: Made if missing.
        opset: Version of ONNX's operators, at least 18.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
        WeightsError: The bundle has no tokenizer.
        ConfigError: It was loaded in another precision than fp32.
    """
    bundle.require_fp32("exported")
    tokenizer = bundle.require_tokenizer()
    config, tower = bundle.model.config, bundle.model.text
    length = config.text.context_length
    folder.mkdir(parents=True, exist_ok=True)

    export_image_tower(bundle.model, folder / "image.onnx", opset)

    names = ("tokens", "text_vectors")
    if isinstance(tower, TextTransformer):
        tokens = torch.zeros(2, 3, dtype=torch.int64)
        free = {0: Dim("batch"), 1: Dim("length", min=2, max=length)}
        _export_graph(_UnpackedTextTower(tower), tokens, free, names, folder / "text.onnx", opset)
    else:
        tokens = torch.zeros(2, length, dtype=torch.int64)
        _export_graph(tower, tokens, {0: Dim("batch")}, names, folder / "text.onnx", opset)

    tokenizer.save(folder / "tokenizer.json")
    preprocess = json.dumps(bundle.preprocess.to_dict(), indent=1) + "\n"
    (folder / "preprocess.json").write_text(preprocess, encoding="utf-8")
    (folder / "README.md").write_text(_render_readme(bundle), encoding="utf-8")


def export_image_tower(model: CLIP, path: Path, opset: int = OPSET) -> None:
    """Write the image tower alone: `pixels` to `image_vectors`, as `write_onnx` describes them.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
    """
    pixels = torch.zeros(2, 3, model.config.image_size, model.config.image_size)
    _export_graph(model.visual, pixels, {0: Dim("batch")}, ("pixels", "image_vectors"), path, opset)


class _UnpackedTextTower(nn.Module):
    """The causal text tower at every position of every text: what its texts share depends on them, a graph cannot."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return what the tower returns, [B, E]."""
        tower = self.tower
        x_BLD = tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]]
        length = torch.arange(tokens_BL.shape[1])
        x_BLD = tower.transformer(x_BLD, attn_mask=length <= length[:, None])
        # Not len(): it would fix the batch at the size of the example.
        pooled_BD = x_BLD[torch.arange(tokens_BL.shape[0]), tokens_BL.argmax(dim=1)]
        vectors_BE: Tensor = tower.ln_final(pooled_BD) @ tower.text_projection
        return vectors_BE


class _NormalizedTower(nn.Module):
    """A tower whose vectors are brought to length 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        """Return unit vectors [B, E]."""
        return F.normalize(self.tower(x), dim=-1)


def _export_graph(
    tower: nn.Module,
    example_input: Tensor,
    dynamic_dims: dict[int, Dim],
    io_names: tuple[str, str],
    path: Path,
    opset: int,
) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  torch's exporter is written in it
    except ImportError as error:
        raise MissingExtra(error.name or "onnx", "exporting to ONNX", "onnx") from error
    module = _NormalizedTower(copy.deepcopy(tower)).cpu().float().eval()
    with _silence_exporter():
        program = torch.onnx.export(
            module,
            (example_input,),
            input_names=io_names[:1],
            output_names=io_names[1:],
            dynamic_shapes=(dynamic_dims,),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    # The exporter fixes an axis in silence if the tower's code turns its size into a Python number.
    shape = program.model.graph.inputs[0].shape
    assert shape is not None
    assert all(
        isinstance(shape[axis], int) != (axis in dynamic_dims) for axis in range(example_input.ndim)
    ), f"{path}: {shape}"
    # Every node would tell which lines of which files of this machine it came from.
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path), full_check=True)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Keep back what torch and onnxscript say about their own internals."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _render_readme(bundle: Bundle) -> str:
    config, preprocess = bundle.model.config, bundle.preprocess
    size, length = config.image_size, config.text.context_length
    fixed = isinstance(config.text, SiglipTextConfig)
    lines = [
        "# An image-text model as two ONNX graphs",
        "",
        "| graph | input | output |",
        "|---|---|---|",
        f"| `image.onnx` | `pixels` float32 [batch, 3, {size}, {size}] | `image_vectors` float32 "
        f"[batch, {config.embed_dim}] |",
        f"| `text.onnx` | `tokens` int64 [batch, {length if fixed else f'2…{length}'}] | `text_vectors` float32 "
        f"[batch, {config.embed_dim}] |",
        "",
        "Vectors have unit length: a dot product is a cosine similarity. `preprocess.json` says how a picture becomes",
        "pixels, `tokenizer.json` how a text becomes tokens. With `pip install onnxruntime tokenizers pillow`, this",
        "scores the picture `photo.jpg` against two texts:",
        "",
        "```python",
        *_render_example(bundle),
        "```",
        "",
    ]
    if preprocess.decode == "careful":
        lines += ["zebra itself also lays transparent pictures on white before it makes them RGB.", ""]
    return "\n".join(lines)


def _render_example(bundle: Bundle) -> list[str]:
    """Return the lines of a program that classifies a picture without zebra or torch."""
    scale, bias = bundle.logit_scale, bundle.logit_bias
    if bias is None:
        scores = [
            "scores = np.exp(logits - logits.max())  # a softmax over the texts",
            "scores /= scores.sum()",
        ]
    else:
        scores = [f"scores = 1 / (1 + np.exp(-(logits + {bias})))  # every text for itself"]
    # SigLIP's tokenizer.json carries its own padding and truncation, CLIP's does not.
    clips, length = isinstance(bundle.tokenizer, BPETokenizer), bundle.context_length
    limits = [f"tokenizer.enable_truncation({length})", "tokenizer.enable_padding(pad_id=0)"] if clips else []
    mean, std = list(bundle.preprocess.mean), list(bundle.preprocess.std)
    return [
        "import numpy as np",
        "from onnxruntime import InferenceSession",
        "from PIL import Image, ImageOps"
        if bundle.preprocess.decode == "careful"
        else "from PIL import Image",
        "from tokenizers import Tokenizer",
        "",
        'texts = ["a photo of a horse", "a photo of a cat"]',
        *_render_preprocessing(bundle.preprocess),
        f"mean, std = np.float32({mean}), np.float32({std})",
        "pixels = ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)[None]",
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        *limits,
        "tokens = np.array([row.ids for row in tokenizer.encode_batch(texts)], np.int64)",
        '[image_vector] = InferenceSession("image.onnx").run(None, {"pixels": pixels})',
        '[text_vector] = InferenceSession("text.onnx").run(None, {"tokens": tokens})',
        f"logits = {scale} * (image_vector @ text_vector.T)[0]",
        *scores,
        "print(dict(zip(texts, scores.tolist())))",
    ]


def _render_preprocessing(preprocess: Preprocess) -> list[str]:
    """Return the lines that open the picture and bring it to size, in the order the model was made for."""
    size, filter_ = preprocess.image_size, f"Image.Resampling.{preprocess.interpolation.upper()}"
    careful = preprocess.decode == "careful"
    opened = 'ImageOps.exif_transpose(Image.open("photo.jpg"))' if careful else 'Image.open("photo.jpg")'
    first, last = ('.convert("RGB")', "") if careful or preprocess.rgb == "first" else ("", '.convert("RGB")')
    if preprocess.resize == "squash":
        return [f"image = {opened}{first}.resize(({size}, {size}), {filter_}){last}"]
    margin = f"(side - {size}) // 2" if preprocess.crop == "floor" else f"round((side - {size}) / 2)"
    return [
        f"image = {opened}{first}",
        f"sides = [int({size} * side / min(image.size)) for side in image.size]  # the shorter one is {size}",
        f"left, top = [{margin} for side in sides]",
        f"image = image.resize(sides, {filter_}).crop((left, top, left + {size}, top + {size})){last}",
    ]
