"""Weights with wild tensors give a model or a ZebraError, in every layout."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.image_towers import SiglipVisionConfig
from zebra.errors import ZebraError
from zebra.pretrained.concatenate import concatenate
from zebra.pretrained.open_clip.layout import convert_from_open_clip
from zebra.pretrained.open_clip.timm import convert_to_timm
from zebra.pretrained.openai.layout import read_openai
from zebra.pretrained.pos_embed import resize_pos_embed
from zebra.pretrained.transformers.key_mapping import convert_from_transformers, convert_to_transformers
from zebra.pretrained.weights import build_model, published_state_dict

from ...tiny_model import build_tiny_model
from .bundles import build_siglip_bundle

LAYOUTS = [
    ("vit", "zebra"), ("resnet", "zebra"), ("siglip", "zebra"), ("vit", "transformers"), ("siglip", "transformers"),
    ("vit", "open_clip"), ("siglip", "open_clip"), ("vit", "openai"), ("resnet", "openai"),
]  # fmt: skip
DTYPES = [
    torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.complex64,
    torch.float8_e5m2,
]  # fmt: skip
TENSORS = st.builds(
    lambda shape, dtype: torch.zeros(shape).to(dtype),
    st.lists(st.sampled_from([0, 1, 2, 3, 16, 64, 65]), max_size=3).flatmap(
        lambda shape: st.permutations([*shape, 1, 1]).flatmap(lambda dims: st.integers(0, 5).map(lambda n: dims[:n]))
    ),
    st.sampled_from(DTYPES),
)


@cache
def build_model_of_kind(kind):
    return (build_siglip_bundle() if kind == "siglip" else build_tiny_model(kind)).model


def to_layout(model, layout):
    """Return the tensors of a model under the names of a layout."""
    tensors = published_state_dict(model)
    if layout == "transformers":
        return convert_to_transformers(tensors, model.config)
    if layout == "open_clip" and isinstance(model.config.vision, SiglipVisionConfig):
        return convert_to_timm(tensors, model.config.vision.layers)
    return tensors


def from_layout(tensors, config, layout, folder):
    """Return config and tensors under zebra's names."""
    if layout == "transformers":
        return config, convert_from_transformers(tensors, config, "weights")
    if layout == "open_clip":
        return config, convert_from_open_clip(tensors, config, Path("weights"))
    if layout == "openai":
        torch.save(tensors, folder / "model.pt")
        checkpoint = read_openai(folder / "model.pt")
        return checkpoint.config, checkpoint.tensors
    return config, tensors


@pytest.mark.filterwarnings("ignore:Casting complex values:UserWarning")
@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
@given(data=st.data())
def test_weights_with_wild_tensors_give_a_model_or_a_zebra_error(tmp_path, kind, layout, data):
    model = build_model_of_kind(kind)
    tensors, image_size = to_layout(model, layout), data.draw(st.sampled_from([64, 96]), "image size")
    for _ in range(data.draw(st.integers(1, 2), "changes")):
        name = data.draw(st.sampled_from(sorted(tensors)), "name")
        change = data.draw(st.sampled_from(["replace", "cast", "flatten", "shorten", "remove", "rename"]), "change")
        tensor = tensors.pop(name)
        if change == "replace":
            tensors[name] = data.draw(TENSORS, "tensor")
        elif change == "cast":
            tensors[name] = tensor.to(data.draw(st.sampled_from(DTYPES), "dtype"))
        elif change == "flatten":
            tensors[name] = tensor.flatten().clone()
        elif change == "shorten" and tensor.ndim:
            tensors[name] = tensor[..., :-1].clone()
        elif change == "rename":
            tensors[f"{name}.x"] = tensor.clone()
    try:
        config, converted = from_layout(tensors, model.config, layout, tmp_path)
        converted, config = resize_pos_embed(converted, config, image_size)
        build_model(config, converted, "weights")
    except ZebraError as error:
        assert len(str(error)) < 2000


def test_types_that_torch_does_not_join_are_a_zebra_error():
    with pytest.raises(ZebraError, match=r"do not fit \(float8_e5m2 \[2\], float32 \[3\]\)"):
        concatenate([torch.zeros(2).to(torch.float8_e5m2), torch.zeros(3)])
