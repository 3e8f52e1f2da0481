"""README of models exported to ONNX, with a program that runs the graphs."""

from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.text.bpe import BPETokenizer


def render_onnx_readme(bundle: Bundle) -> str:
    """Return the README of an exported model, with a program that needs neither zebra nor torch."""
    config, preprocess = bundle.model.config, bundle.preprocess
    text_length = f"{'' if _has_fixed_length(bundle) else '2…'}{config.text.context_length}"
    lines = [
        "# An image-text model as two ONNX graphs",
        "",
        "| graph | input | output |",
        "|---|---|---|",
        f"| `image.onnx` | {_describe_image_input(preprocess)} | `image_vectors` float32 [batch, {config.embed_dim}] |",
        f"| `text.onnx` | `tokens` int64 [batch, {text_length}] | `text_vectors` float32 [batch, {config.embed_dim}] |",
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
    if preprocess.resize == "naflex":
        lines += [
            "Images of a batch may differ in their grids: fill up with zeros to the largest number of patches.",
            "",
        ]
    if preprocess.decode == "careful":
        lines += ["zebra itself also composites transparent images on white before the conversion to RGB.", ""]
    return "\n".join(lines)


def _has_fixed_length(bundle: Bundle) -> bool:
    """Return whether the text graph takes texts of the whole context only."""
    return isinstance(bundle.model.config.text, SiglipTextConfig | CocaTextConfig)


def _describe_image_input(preprocess: Preprocess) -> str:
    if preprocess.patch_size is None:
        return f"`pixels` float32 [batch, 3, {preprocess.image_size}, {preprocess.image_size}]"
    return (
        f"`patches` float32 [batch, length, {3 * preprocess.patch_size**2}]; `grid` int64 [batch, 2], rows and columns "
        "of patches"
    )


def _render_example(bundle: Bundle) -> list[str]:
    """Return the lines of a program that classifies an image without zebra and torch."""
    scale, bias = bundle.logit_scale, bundle.logit_bias
    if bias is None:
        scores = ["scores = np.exp(logits - logits.max())  # a softmax over the texts", "scores /= scores.sum()"]
    else:
        scores = [f"scores = 1 / (1 + np.exp(-(logits + {bias})))  # a sigmoid for each text"]
    # SigLIP's tokenizer.json defines padding and truncation, CLIP's does not.
    is_clip, length = isinstance(bundle.tokenizer, BPETokenizer), bundle.context_length
    padding = f"pad_id=0, length={length}" if _has_fixed_length(bundle) else "pad_id=0"
    limits = [f"tokenizer.enable_truncation({length})", f"tokenizer.enable_padding({padding})"] if is_clip else []
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
        "pixels = (np.asarray(image, np.float32) / 255 - mean) / std",
        *_render_image_inputs(bundle.preprocess),
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        *limits,
        "tokens = np.array([row.ids for row in tokenizer.encode_batch(texts)], np.int64)",
        '[image_vector] = InferenceSession("image.onnx").run(None, inputs)',
        '[text_vector] = InferenceSession("text.onnx").run(None, {"tokens": tokens})',
        f"logits = {scale} * (image_vector @ text_vector.T)[0]",
        *scores,
        "print(dict(zip(texts, scores.tolist())))",
    ]


def _render_preprocessing(preprocess: Preprocess) -> list[str]:
    """Return the lines that open, resize and crop the image, in the order of the model's preprocessing."""
    size, resize_size = preprocess.image_size, preprocess.resize_size or preprocess.image_size
    resampling = f"Image.Resampling.{preprocess.interpolation.upper()}"
    is_careful = preprocess.decode == "careful"
    opened = 'ImageOps.exif_transpose(Image.open("photo.jpg"))'
    first, last = ('.convert("RGB")', "") if is_careful or preprocess.rgb == "first" else ("", '.convert("RGB")')
    if preprocess.resize == "naflex":
        side = preprocess.patch_size
        return [
            f"image = {opened}{first}",
            "low, high = 1e-6, 100.0  # the scale of the largest grid that keeps the aspect ratio",
            "while high - low >= 1e-5:",
            "    scale = (low + high) / 2",
            f"    num_patches = np.prod([max(1, np.ceil(length * scale / {side})) for length in image.size])",
            f"    low, high = (scale, high) if num_patches <= {preprocess.max_num_patches} else (low, scale)",
            f"columns, rows = [max(1, int(np.ceil(length * low / {side}))) for length in image.size]",
            f"image = image.resize((columns * {side}, rows * {side}), {resampling}){last}",
        ]
    if preprocess.resize == "squash" and resize_size == size:
        return [f"image = {opened}{first}.resize(({size}, {size}), {resampling}){last}"]
    margin = f"(side - {size}) // 2" if preprocess.crop == "floor" else f"round((side - {size}) / 2)"
    sides = f"[int({resize_size} * side / min(image.size)) for side in image.size]  # the shorter side is {resize_size}"
    return [
        f"image = {opened}{first}",
        f"sides = {[resize_size] * 2 if preprocess.resize == 'squash' else sides}",
        f"left, top = [{margin} for side in sides]",
        f"image = image.resize(sides, {resampling}).crop((left, top, left + {size}, top + {size})){last}",
    ]


def _render_image_inputs(preprocess: Preprocess) -> list[str]:
    """Return the lines that make the inputs of the graph from normalized pixels [H, W, 3]."""
    if preprocess.patch_size is None:
        return ['inputs = {"pixels": pixels.transpose(2, 0, 1)[None]}']
    side = preprocess.patch_size
    return [
        f"blocks = pixels.reshape(rows, {side}, columns, {side}, 3).transpose(0, 2, 1, 3, 4)",
        'inputs = {"patches": blocks.reshape(1, rows * columns, -1), "grid": np.array([[rows, columns]])}',
    ]
