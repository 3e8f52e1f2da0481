"""Heat maps against occlusion: insertion and deletion curves, and time.

    python benchmarks/heat_maps.py MODEL DATASET [--images 100]

DATASET is a folder of labeled images, such as WORLD/evaluation/seen-kinds of `zebra menagerie`. Each method maps where
an image matches its true class name. Then pixels are removed, hottest first, in steps of a sixteenth of the image
(deletion), or put back into an image without content (insertion). The mean over the steps of the cosine to the class
name, and of its probability among all class names, is the area under the curve: low is good for deletion, high for
insertion. What replaces a removed pixel is the blurred image or the mean color of the image.

    random           random values in 8 × 8 cells
    occlusion        mean fall of the cosine over all windows of a quarter of the side that cover a pixel; the window
                     moves by a sixteenth of the side (13 × 13 passes) and shows the blurred image
    fine occlusion   the same, moved by a thirty-second (25 × 25 passes)
    last features    gradient times activation, its positive part, of the second stage of a ResNet (LayerCAM, Jiang et
                     al. 2021, the best of the stages); of the output of the last but one block of a transformer
    attention        gradients of the cosine of each block's class token with respect to its attention, positive parts
                     (LeGrad, Bousselham et al. 2024); for Vision Transformers with a class token only
    zebra            `zebra.pretrained.heat_map`

Seconds are process time of one thread per image, one image at a time. A row per method goes to results/heat_maps.jsonl.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from receipt import save_row
from zebra.data.benchmarks.clip_benchmark import read_classification
from zebra.images.inputs import load_image
from zebra.models.image.resnet import ModifiedResNet
from zebra.models.image.vit import VisionTransformer
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.heat_map import _blur, _encode, compute_heat_map
from zebra.pretrained.load import load

NUM_CURVE_STEPS = 16
BATCH_SIZE = 64

Method = Callable[[Bundle, Tensor, Tensor], Tensor]
"""Maps (model, uint8 pixels [3, H, W], text vector [E]) to values [h, w] of any resolution."""


def encode(clip: Bundle, images_B3HW: Tensor) -> Tensor:
    """Encode normalized images without gradients."""
    with torch.no_grad():
        return torch.cat([_encode(clip.model, clip.preprocess, part) for part in images_B3HW.split(BATCH_SIZE)])


def random_map(_clip: Bundle, _pixels_3HW: Tensor, _text_E: Tensor) -> Tensor:
    """Return random values."""
    return torch.rand(8, 8)


def occlude(clip: Bundle, pixels_3HW: Tensor, text_E: Tensor, steps_per_side: int = 16) -> Tensor:
    """Slide a window that shows the blurred image."""
    image_13HW = clip.preprocess.normalize(pixels_3HW[None])
    blurred_13HW = _blur(image_13HW)
    height, width = image_13HW.shape[2:]
    window, step = min(height, width) // 4, max(1, min(height, width) // steps_per_side)
    corners = [(y, x) for y in range(0, height - window + 1, step) for x in range(0, width - window + 1, step)]
    covered = torch.zeros(len(corners), 1, height, width, dtype=torch.bool)
    for index, (y, x) in enumerate(corners):
        covered[index, :, y : y + window, x : x + window] = True
    falls = [encode(clip, torch.where(part, blurred_13HW, image_13HW)) @ text_E for part in covered.split(BATCH_SIZE)]
    fall_N = encode(clip, image_13HW) @ text_E - torch.cat(falls)
    weights_NHW = covered[:, 0].float()
    return (fall_N.view(-1, 1, 1) * weights_NHW).sum(dim=0) / weights_NHW.sum(dim=0).clamp(min=1)


def occlude_finely(clip: Bundle, pixels_3HW: Tensor, text_E: Tensor) -> Tensor:
    """Slide the window in steps half as long."""
    return occlude(clip, pixels_3HW, text_E, 32)


def weight_features(clip: Bundle, pixels_3HW: Tensor, text_E: Tensor) -> Tensor:
    """Multiply features by their gradients, positive parts only."""
    tower, captured = clip.model.visual, {}
    is_resnet = isinstance(tower, ModifiedResNet)
    module = tower.layer2 if is_resnet else list(tower.transformer.blocks())[-2]
    handle = module.register_forward_hook(lambda _module, _inputs, output: captured.update(features=output))
    image_13HW = clip.preprocess.normalize(pixels_3HW[None]).requires_grad_()
    cosine = (_encode(clip.model, clip.preprocess, image_13HW) @ text_E).sum()
    handle.remove()
    features = captured["features"]
    (gradient,) = torch.autograd.grad(cosine, features)
    if is_resnet:
        return (gradient.relu() * features.detach()).sum(dim=1)[0].relu()
    product_L = (gradient * features.detach()).sum(dim=2)[0]
    patch = clip.model.config.vision.patch_size
    rows, columns = (side // patch for side in pixels_3HW.shape[1:])
    return product_L[-rows * columns :].view(rows, columns).relu()


def weight_attention(clip: Bundle, pixels_3HW: Tensor, text_E: Tensor) -> Tensor:
    """Sum the gradients of attention over the blocks."""
    tower = clip.model.visual
    assert isinstance(tower, VisionTransformer)
    inputs: list[Tensor] = []
    handles = [
        block.register_forward_hook(lambda _module, args, _output: inputs.append(args[0].detach()))
        for block in tower.transformer.blocks()
    ]
    encode(clip, clip.preprocess.normalize(pixels_3HW[None]))
    for handle in handles:
        handle.remove()
    heat_L = torch.zeros(inputs[0].shape[1])
    for block, tokens_1LD in zip(tower.transformer.blocks(), inputs, strict=True):
        qkv = block.attn.project_qkv(block.ln_1(tokens_1LD)).unflatten(2, (3, block.attn.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(dim=-1).requires_grad_()
        tokens = tokens_1LD + block.attn.out_proj((attention @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.ln_2(tokens))
        vector_1E = F.normalize(tower.project(tower.ln_post(tokens[:, 0])), dim=1)
        (gradient,) = torch.autograd.grad((vector_1E @ text_E).sum(), attention)
        heat_L += gradient.relu().mean(dim=1)[0, 0]
    rows = pixels_3HW.shape[1] // clip.model.config.vision.patch_size
    return heat_L[1:].view(rows, -1)


def explain(clip: Bundle, pixels_3HW: Tensor, text_E: Tensor) -> Tensor:
    """Return the heat map of zebra."""
    return compute_heat_map(clip.model, clip.preprocess, pixels_3HW, text_E[None])[0]


METHODS: dict[str, Method] = {
    "random": random_map,
    "occlusion": occlude,
    "fine occlusion": occlude_finely,
    "last features": weight_features,
    "attention": weight_attention,
    "zebra": explain,
}


def curves(clip: Bundle, pixels_3HW: Tensor, heat_hw: Tensor, class_CE: Tensor, label: int) -> dict[str, float]:
    """Return the areas under the insertion and deletion curves."""
    image_13HW = clip.preprocess.normalize(pixels_3HW[None])
    size = image_13HW.shape[2:]
    heat_HW = F.interpolate(heat_hw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    rank = heat_HW.flatten().argsort(descending=True).argsort().view(size)
    shares = torch.linspace(0, 1, NUM_CURVE_STEPS + 1) * rank.numel()
    hottest = (rank < shares.view(-1, 1, 1))[:, None]
    areas = {}
    for name, empty in (("blur", _blur(image_13HW)), ("mean", image_13HW.mean(dim=(2, 3), keepdim=True))):
        for curve, images in (
            ("deletion", torch.where(hottest, empty, image_13HW)),
            ("insertion", torch.where(hottest, image_13HW, empty)),
        ):
            cosine_SC = encode(clip, images) @ class_CE.T
            probability_SC = (clip.logit_scale * cosine_SC).softmax(dim=1)
            for score, values_SC in (("cosine", cosine_SC), ("probability", probability_SC)):
                values_S = values_SC[:, label]
                areas[f"{curve} {score}, {name}"] = float(torch.trapezoid(values_S) / NUM_CURVE_STEPS)
    return areas


def main() -> None:
    """Measure all methods on images spread over the dataset."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    args = parser.parse_args()
    torch.manual_seed(0)
    clip = load(args.model, device="cpu")
    clip.model.requires_grad_(False)
    benchmark = read_classification(args.dataset)
    class_CE = clip.class_vectors(benchmark.classnames)
    step = max(1, len(benchmark.source) // args.images)
    records = [benchmark.source.read(index) for index in range(0, len(benchmark.source), step)][: args.images]
    pixels = [_load_pixels(clip, record.image) for record in records]
    predicted = [int((clip.encode_pixels(image[None]) @ class_CE.T).argmax()) for image in pixels]
    top1 = sum(p == record.label for p, record in zip(predicted, records, strict=True)) / len(records)
    methods = [name for name in args.methods if name != "attention" or isinstance(clip.model.visual, VisionTransformer)]
    for name in methods:
        totals: dict[str, float] = {}
        seconds = 0.0
        for image, record in zip(pixels, records, strict=True):
            assert record.label is not None
            start = time.process_time()
            heat = METHODS[name](clip, image, class_CE[record.label])
            seconds += time.process_time() - start
            for key, area in curves(clip, image, heat, class_CE, record.label).items():
                totals[key] = totals.get(key, 0.0) + area / len(pixels)
        areas = {key: round(value, 4) for key, value in totals.items()}
        row = {
            "model": clip.model.config.vision.kind,
            "dataset": args.dataset.name,
            "images": len(pixels),
            "top1": round(top1, 3),
            "method": name,
            "ms_per_image": round(1000 * seconds / len(pixels), 2),
            "areas": areas,
        }
        save_row("heat_maps", json.loads(json.dumps(row)))


def _load_pixels(clip: Bundle, data: bytes) -> Tensor:
    return torch.from_numpy(clip.preprocess.resize_and_crop(load_image(data, "image", clip.preprocess.decode)))


if __name__ == "__main__":
    main()
