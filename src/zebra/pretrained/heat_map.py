"""Heat maps of the parts of an image that match a text, by integrated gradients.

Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) distribute the difference between the cosines of an
image and of a baseline over the pixels. The baseline is the blurred image (Sturmfels et al. 2020, Distill): it has the
colors and no details. Only gradients with respect to pixels are needed, so every kind of tower has the same method.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zebra.config.image_towers import ImageTowerConfig, NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.images.naflex import stack_patches
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.clip import truncate_vectors

NUM_STEPS = 4
"""Points between baseline and image at which gradients are computed."""
BLUR_FRACTION = 1 / 12
"""Standard deviation of the baseline's blur, as a fraction of the shorter side."""
SMOOTHING_FRACTION = 1 / 16
"""Standard deviation by which the influence of a pixel is spread over its neighbors, likewise."""
NUM_CELLS = 16
"""Cells per side of the map of a tower without patches; fewer if the image is smaller."""


def compute_heat_map(
    model: CLIP, preprocess: Preprocess, pixels_3HW: Tensor, text_TE: Tensor, num_steps: int = NUM_STEPS
) -> Tensor:
    """Map which cells of an image raise its cosine to each text.

    The gradients of all texts share one forward pass of `num_steps` images; each text adds a backward pass.

    Args:
        pixels_3HW: The image from `preprocess.resize_and_crop`, uint8.
        text_TE: Unit vectors of the texts, which may be cut to their first components.
        num_steps: With more steps, the sum of a map approaches the difference of the cosines.

    Returns:
        float32 [T, h, w] on the CPU, in row-major order of the cells; see `Bundle.heat_map`.
    """
    weight = next(model.visual.parameters())
    with torch.inference_mode(False), torch.enable_grad():
        image_13HW = preprocess.normalize(pixels_3HW.clone()[None].to(weight.device))
        text_TE = text_TE.clone().to(weight.device)
        baseline_13HW = _blur(image_13HW)
        difference_13HW = image_13HW - baseline_13HW
        fractions_S = (torch.arange(num_steps, device=weight.device) + 0.5) / num_steps
        path_S3HW = (baseline_13HW + fractions_S.view(-1, 1, 1, 1) * difference_13HW).requires_grad_()
        vectors_SE = truncate_vectors(_encode(model, preprocess, path_S3HW.to(weight.dtype)), text_TE.shape[1])
        cosines_T = (vectors_SE @ text_TE.T).mean(dim=0)
        gradients = [torch.autograd.grad(cosine, path_S3HW, retain_graph=True)[0].sum(dim=0) for cosine in cosines_T]
    heat_THW = (torch.stack(gradients) * difference_13HW).sum(dim=1)
    return _sum_cells(heat_THW, model.config.vision).cpu()


def _encode(model: CLIP, preprocess: Preprocess, images_B3HW: Tensor) -> Tensor:
    """Encode normalized images of one shape as unit vectors [B, E]."""
    if preprocess.patch_size is None:
        return model.encode_images(images_B3HW)
    patches = stack_patches(list(images_B3HW), preprocess.patch_size)
    return model.encode_images(patches.to(images_B3HW.device))


def _blur(image_13HW: Tensor) -> Tensor:
    """Blur by a Gaussian whose weights are normalized at the edges."""
    rows_HH, columns_WW = _gaussian_weights(image_13HW, BLUR_FRACTION)
    return rows_HH @ image_13HW @ columns_WW.T


def _gaussian_weights(images: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Return the weights of Gaussian filters along the last two dimensions, [H, H] and [W, W]; rows sum to 1."""
    height, width = images.shape[-2:]
    sigma = fraction * min(height, width)
    positions = (torch.arange(side, device=images.device, dtype=torch.float32) for side in (height, width))
    rows_HH, columns_WW = (
        (-((position[:, None] - position) ** 2) / (2 * sigma**2)).softmax(dim=1) for position in positions
    )
    return rows_HH, columns_WW


def _sum_cells(heat_THW: Tensor, vision: ImageTowerConfig) -> Tensor:
    """Smooth the map and sum the pixels of each cell; the total stays the same."""
    height, width = heat_THW.shape[1:]
    match vision:
        case VisionTransformerConfig() | SiglipVisionConfig() | NaflexVisionConfig():
            rows, columns = height // vision.patch_size, width // vision.patch_size
        case _:
            rows, columns = min(height, NUM_CELLS), min(width, NUM_CELLS)
    row_Hh, column_Ww = (
        F.one_hot(torch.arange(side, device=heat_THW.device) * cells // side, cells).float()
        for side, cells in ((height, rows), (width, columns))
    )
    rows_HH, columns_WW = _gaussian_weights(heat_THW, SMOOTHING_FRACTION)
    return (rows_HH @ row_Hh).T @ heat_THW @ (columns_WW @ column_Ww)
