"""Export of models to ONNX, with all files to run them without zebra."""

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

from zebra.config.text_towers import SiglipTextConfig
from zebra.errors import MissingExtra
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.text.causal import TextTransformer
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer

OPSET = 18
"""The version that torch's exporter writes without conversion; onnxruntime reads it since 1.14."""


def export_onnx(bundle: Bundle, folder: Path, opset: int = OPSET) -> None:
    """Write the graphs of both towers, preprocessing, tokenizer, and a README with an example.

    `image.onnx` maps `pixels`, float32 [batch, 3, S, S] from `Preprocess.normalize`, to `image_vectors` [batch, E].
    `text.onnx` maps `tokens`, int64 [batch, length], to `text_vectors` [batch, E]; the length is dynamic up to the
    context length, but fixed for SigLIP. Vectors have unit length, weights are fp32. A graph is limited to 2 GB, so
    the weights of larger towers are in a second file (`image.onnx.data`).

    Args:
        bundle: Any model, on any device; it is not changed.
        folder: Created if it does not exist.
        opset: Version of the ONNX operators, at least 18.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
        WeightsError: The model has no tokenizer.
        ConfigError: The model was not loaded in fp32.
    """
    bundle.require_fp32("exported")
    tokenizer = bundle.require_tokenizer()
    config, tower = bundle.model.config, bundle.model.text
    length = config.text.context_length
    folder.mkdir(parents=True, exist_ok=True)

    export_image_tower(bundle.model, folder / "image.onnx", opset)

    io_names = ("tokens", "text_vectors")
    if isinstance(tower, TextTransformer):
        tokens = torch.zeros(2, 3, dtype=torch.int64)
        dynamic_dims = {0: Dim("batch"), 1: Dim("length", min=2, max=length)}
        _export_graph(_UnpackedTextTower(tower), tokens, dynamic_dims, io_names, folder / "text.onnx", opset)
    else:
        tokens = torch.zeros(2, length, dtype=torch.int64)
        _export_graph(tower, tokens, {0: Dim("batch")}, io_names, folder / "text.onnx", opset)

    tokenizer.save(folder / "tokenizer.json")
    preprocess = json.dumps(bundle.preprocess.to_dict(), indent=1) + "\n"
    (folder / "preprocess.json").write_text(preprocess, encoding="utf-8")
    (folder / "README.md").write_text(_render_readme(bundle), encoding="utf-8")


def export_image_tower(model: CLIP, path: Path, opset: int = OPSET) -> None:
    """Write the graph of the image tower: `pixels` to `image_vectors`, as in `export_onnx`.

    Raises:
        MissingExtra: The packages `onnx` and `onnxscript` are not installed.
    """
    pixels = torch.zeros(2, 3, model.config.image_size, model.config.image_size)
    _export_graph(model.visual, pixels, {0: Dim("batch")}, ("pixels", "image_vectors"), path, opset)


class _UnpackedTextTower(nn.Module):
    """The causal text tower without packing of common prefixes, which depends on the values of the tokens."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Return the embeddings of the tower [B, E], not normalized."""
        tower = self.tower
        x_BLD = tower.token_embedding(tokens_BL) + tower.positional_embedding[: tokens_BL.shape[1]]
        position = torch.arange(tokens_BL.shape[1])
        x_BLD = tower.transformer(x_BLD, attn_mask=position <= position[:, None])
        # len() would fix the batch size to that of the example.
        pooled_BD = x_BLD[torch.arange(tokens_BL.shape[0]), tokens_BL.argmax(dim=1)]
        vectors_BE: Tensor = tower.ln_final(pooled_BD) @ tower.text_projection
        return vectors_BE


class _NormalizedTower(nn.Module):
    """A tower followed by normalization to unit length."""

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
        import onnxscript  # noqa: F401  torch's exporter needs it
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
    # The exporter silently fixes an axis if the code converts its size to a Python number.
    shape = program.model.graph.inputs[0].shape
    assert shape is not None
    assert all(isinstance(shape[axis], int) != (axis in dynamic_dims) for axis in range(example_input.ndim)), (
        f"{path}: {shape}"
    )
    # Delete the metadata: it names the source files and lines on this machine.
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    program.save(path)
    onnx.checker.check_model(str(path), full_check=True)


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress log lines and warnings of torch and onnxscript about their internals."""
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
    has_fixed_length = isinstance(config.text, SiglipTextConfig)
    lines = [
        "# An image-text model as two ONNX graphs",
        "",
        "| graph | input | output |",
        "|---|---|---|",
        f"| `image.onnx` | `pixels` float32 [batch, 3, {size}, {size}] | `image_vectors` float32 "
        f"[batch, {config.embed_dim}] |",
        f"| `text.onnx` | `tokens` int64 [batch, {length if has_fixed_length else f'2…{length}'}] | `text_vectors` "
        f"float32 [batch, {config.embed_dim}] |",
        "",
        "Vectors have unit length, so a dot product is a cosine similarity. `preprocess.json` describes how images are",
        "converted to pixels, `tokenizer.json` how texts are converted to tokens. After",
        "`pip install onnxruntime tokenizers pillow`, this program scores the image `photo.jpg` against two texts:",
        "",
        "```python",
        *_render_example(bundle),
        "```",
        "",
    ]
    if preprocess.decode == "careful":
        lines += ["zebra itself also composites transparent images on white before the conversion to RGB.", ""]
    return "\n".join(lines)


def _render_example(bundle: Bundle) -> list[str]:
    """Return the lines of a program that classifies an image without zebra and torch."""
    scale, bias = bundle.logit_scale, bundle.logit_bias
    if bias is None:
        scores = ["scores = np.exp(logits - logits.max())  # a softmax over the texts", "scores /= scores.sum()"]
    else:
        scores = [f"scores = 1 / (1 + np.exp(-(logits + {bias})))  # a sigmoid for each text"]
    # SigLIP's tokenizer.json defines padding and truncation, CLIP's does not.
    is_clip, length = isinstance(bundle.tokenizer, BPETokenizer), bundle.context_length
    limits = [f"tokenizer.enable_truncation({length})", "tokenizer.enable_padding(pad_id=0)"] if is_clip else []
    mean, std = list(bundle.preprocess.mean), list(bundle.preprocess.std)
    return [
        "import numpy as np",
        "from onnxruntime import InferenceSession",
        "from PIL import Image, ImageOps",
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
    """Return the lines that open, resize and crop the image, in the order of the model's preprocessing."""
    size, resampling = preprocess.image_size, f"Image.Resampling.{preprocess.interpolation.upper()}"
    is_careful = preprocess.decode == "careful"
    opened = 'ImageOps.exif_transpose(Image.open("photo.jpg"))'
    first, last = ('.convert("RGB")', "") if is_careful or preprocess.rgb == "first" else ("", '.convert("RGB")')
    if preprocess.resize == "squash":
        return [f"image = {opened}{first}.resize(({size}, {size}), {resampling}){last}"]
    margin = f"(side - {size}) // 2" if preprocess.crop == "floor" else f"round((side - {size}) / 2)"
    return [
        f"image = {opened}{first}",
        f"sides = [int({size} * side / min(image.size)) for side in image.size]  # the shorter side is {size}",
        f"left, top = [{margin} for side in sides]",
        f"image = image.resize(sides, {resampling}).crop((left, top, left + {size}, top + {size})){last}",
    ]
