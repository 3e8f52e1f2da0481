"""README of models exported to ONNX, with a program that runs the graphs."""

from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig
from zebra.images.preprocess import Preprocess
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.onnx.browser_files import OUTPUTS, BrowserType, browser_type
from zebra.pretrained.onnx.model_folder import OnnxModel
from zebra.text.bpe import BPETokenizer

CLASSES: dict[BrowserType, tuple[str, str]] = {
    "clip": ("CLIPVisionModelWithProjection", "CLIPTextModelWithProjection"),
    "siglip": ("SiglipVisionModel", "SiglipTextModel"),
}
"""Classes of transformers.js for images and texts, by model type."""


def render_onnx_readme(bundle: Bundle, model: OnnxModel) -> str:
    """Return the README of an exported model, with a program that needs neither zebra nor torch."""
    config, preprocess = bundle.model.config, bundle.preprocess
    text_length = f"{'' if _has_fixed_length(bundle) else '2…'}{config.text.context_length}"
    vectors = f"float32 [batch, {config.embed_dim}]"
    lines = [
        "# An image-text model as ONNX graphs",
        "",
        "| graph | input | output |",
        "|---|---|---|",
        f"| `onnx/vision_model*.onnx` | {_describe_image_input(preprocess)} | {vectors} |",
        f"| `onnx/text_model*.onnx` | `input_ids` int64 [batch, {text_length}] | {vectors} |",
        "",
        "Vectors have unit length, so a dot product is a cosine similarity. Inputs and outputs are float32 in every",
        "precision. `zebra.json` lists the graphs with their smallest cosine to fp32:",
        "",
        *_render_graphs(model),
        "",
        "## Python",
        "",
        "`preprocess.json` describes how images are converted to pixels, `tokenizer.json` how texts are converted to",
        "tokens. After `pip install onnxruntime tokenizers pillow`, this program scores the image `photo.jpg` against",
        "two texts:",
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
    return "\n".join([*lines, "## JavaScript", "", *_render_javascript(bundle), ""])


def _render_graphs(model: OnnxModel) -> list[str]:
    """Return a table of the graphs, and the reasons why others are missing."""
    rows = [f"| `{graph.file}` | {graph.precision} | {graph.min_cosine:.6f} |" for graph in model.graphs]
    return ["| file | precision | smallest cosine |", "|---|---|---|", *rows, *(f"\n{line}" for line in model.omitted)]


def _render_javascript(bundle: Bundle) -> list[str]:
    """Return an example for transformers.js, or why there is none."""
    model_type = browser_type(bundle.model.config)
    if model_type is None:
        return ["transformers.js has no class for this model (NaFlex). onnxruntime-web runs the graphs."]
    vision, text = CLASSES[model_type]
    names = OUTPUTS[model_type]
    padding = "'max_length'" if _has_fixed_length(bundle) else "true"
    return [
        "transformers.js opens this folder, for example below the path of its option `env.localModelPath`:",
        "",
        "```javascript",
        "import { AutoProcessor, AutoTokenizer, load_image } from '@huggingface/transformers';",
        f"import {{ {vision}, {text} }} from '@huggingface/transformers';",
        "",
        "const folder = 'NAME', options = { dtype: 'q8' };  // or 'fp32', 'fp16'",
        "const processor = await AutoProcessor.from_pretrained(folder);",
        "const tokenizer = await AutoTokenizer.from_pretrained(folder);",
        f"const images = await {vision}.from_pretrained(folder, options);",
        f"const texts = await {text}.from_pretrained(folder, options);",
        "const pixels = await processor(await load_image('photo.jpg'));",
        f"const tokens = tokenizer(['a photo of a horse'], {{ padding: {padding}, truncation: true }});",
        f"const image_vectors = (await images(pixels)).{names['image']};",
        f"const text_vectors = (await texts(tokens)).{names['text']};",
        "```",
        "",
        "Its resize has another filter than Pillow, so vectors of images differ a little from those of zebra.",
    ]


def _has_fixed_length(bundle: Bundle) -> bool:
    """Return whether the text graph takes texts of the whole context only."""
    return isinstance(bundle.model.config.text, SiglipTextConfig | CocaTextConfig)


def _describe_image_input(preprocess: Preprocess) -> str:
    if preprocess.patch_size is None:
        return f"`pixel_values` float32 [batch, 3, {preprocess.image_size}, {preprocess.image_size}]"
    return (
        f"`pixel_values` float32 [batch, length, {3 * preprocess.patch_size**2}]; `spatial_shapes` int64 "
        "[batch, 2], rows and columns of patches"
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
        '[image_vector] = InferenceSession("onnx/vision_model.onnx").run(None, inputs)',
        '[text_vector] = InferenceSession("onnx/text_model.onnx").run(None, {"input_ids": tokens})',
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
        return ['inputs = {"pixel_values": pixels.transpose(2, 0, 1)[None]}']
    side = preprocess.patch_size
    return [
        f"blocks = pixels.reshape(rows, {side}, columns, {side}, 3).transpose(0, 2, 1, 3, 4)",
        "patches = blocks.reshape(1, rows * columns, -1)",
        'inputs = {"pixel_values": patches, "spatial_shapes": np.array([[rows, columns]])}',
    ]
