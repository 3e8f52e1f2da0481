"""open_clip's layout is read exactly; unsupported keys and models are refused by name."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig, TextConfig
from zebra.config.timm_tower import TimmVisionConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zebra.models import CLIP
from zebra.pretrained.load import load
from zebra.pretrained.open_clip.config import parse_open_clip_config, to_open_clip_config
from zebra.pretrained.open_clip.layout import read_open_clip, write_open_clip
from zebra.pretrained.open_clip.timm import TIMM_TOWERS, convert_from_timm, convert_to_timm
from zebra.pretrained.open_clip.timm_vit import TIMM_VITS
from zebra.pretrained.weights import build_model, published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.workflows.doctor import inspect_model

TEXT = TextConfig(width=32, layers=1, heads=2, vocab_size=600, context_length=16)
VIT = VisionTransformerConfig(width=48, layers=1, heads=3, patch_size=16)
CONFIG = ModelConfig(embed_dim=24, image_size=32, vision=VIT, text=TEXT)
SIGLIP_TEXT = SiglipTextConfig(width=32, layers=1, heads=2)
COCA_TEXT = CocaTextConfig(width=32, layers=1, heads=2, vocab_size=600, context_length=16)
FAMILIES = "docs/layouts.md lists what it reads from open_clip"
RAW: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 48, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {},
}
SECTIONS = {
    "model_cfg": ("model_cfg",),
    "vision_cfg": ("model_cfg", "vision_cfg"),
    "text_cfg": ("model_cfg", "text_cfg"),
    "preprocess_cfg": ("preprocess_cfg",),
}


def changed(section: str, changes: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(RAW)
    part = raw
    for key in SECTIONS[section]:
        part = part[key]
    part.update(changes)
    return raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, RAW)
    save_file({"logit_scale": torch.tensor(2.0)}, tmp_path / "open_clip_model.safetensors")
    return tmp_path


def write(folder: Path, raw: object) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps(raw))


def test_a_plain_config_is_read(folder: Path) -> None:
    checkpoint = read_open_clip(folder)
    gelu = replace(CONFIG, vision=replace(VIT, activation="gelu"), text=replace(TEXT, activation="gelu"))
    assert checkpoint.config == gelu
    assert checkpoint.layout == "open_clip"
    assert [path.name for path in checkpoint.files] == ["open_clip_config.json", "open_clip_model.safetensors"]


def test_preprocessing_has_open_clips_defaults_and_rules(folder: Path) -> None:
    write(folder, {"model_cfg": RAW["model_cfg"]})
    assert read_open_clip(folder).preprocess == Preprocess(
        32, "shortest", "bicubic", "half_even", "last", OPENAI_MEAN, OPENAI_STD, "reference"
    )


def test_preprocessing_follows_the_file(folder: Path) -> None:
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.1, 0.2, 0.3], "interpolation": "bilinear", "resize_mode": "squash"}
    write(folder, changed("preprocess_cfg", settings | {"size": 999, "mode": "RGB", "fill_color": 3}))
    preprocess = read_open_clip(folder).preprocess
    assert (preprocess.image_size, preprocess.resize, preprocess.interpolation) == (32, "squash", "bilinear")
    assert (preprocess.mean, preprocess.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


def test_null_in_preprocessing_means_the_default(folder: Path) -> None:
    write(folder, changed("preprocess_cfg", {"mean": None, "interpolation": None, "resize_mode": None}))
    assert read_open_clip(folder).preprocess.mean == OPENAI_MEAN


def test_random_interpolation_is_bicubic_when_evaluating(folder: Path) -> None:
    write(folder, changed("preprocess_cfg", {"interpolation": "random"}))
    assert read_open_clip(folder).preprocess.interpolation == "bicubic"


@pytest.mark.parametrize(
    ("section", "changes"),
    [
        ("model_cfg", {"custom_text": True, "output_dict": True, "init_logit_scale": 0, "quick_gelu": False}),
        ("vision_cfg", {"patch_dropout": 0.5, "attentional_pool": False, "pool_type": "tok", "qk_norm": False}),
        ("vision_cfg", {"timm_model_name": None, "timm_pool": "avg", "timm_proj": "linear", "timm_drop": 0.1}),
        ("text_cfg", {"pool_type": "argmax", "proj_type": "linear", "hf_model_name": None, "pad_id": 1}),
        ("text_cfg", {"eos_id": 7, "output_tokens": True}),
        ("vision_cfg", {"pos_embed_type": "sin_cos_2d", "output_tokens": True, "final_ln_after_pool": True}),
        ("model_cfg", {"multimodal_cfg": {"width": 512}}),
        ("text_cfg", {"act_kwargs": None, "norm_kwargs": {}, "tokenizer_kwargs": {"clean": "lower"}}),
        ("text_cfg", {"hf_tokenizer_name": "x/y", "tokenizer_kwargs": {"clean": "whitespace"}}),
    ],
)
def test_explicit_defaults_change_nothing(folder: Path, section: str, changes: dict[str, Any]) -> None:
    plain = read_open_clip(folder).config
    write(folder, changed(section, changes))
    assert read_open_clip(folder).config == plain


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model_cfg", "audio_cfg", {}),
        ("vision_cfg", "pool_type", "none"),
        ("vision_cfg", "ls_init_value", 1e-4),
        ("vision_cfg", "scale_heads", True),
        ("vision_cfg", "an_idea_of_next_year", 7),
        ("text_cfg", "pool_type", "first"),
        ("text_cfg", "pool_type", "last"),
        ("text_cfg", "proj_bias", True),
        ("text_cfg", "proj_type", "none"),
        ("preprocess_cfg", "mode", "BGR"),
    ],
)
def test_unsupported_settings_are_refused_with_key_value_and_supported_models(
    folder: Path, section: str, key: str, value: object
) -> None:
    write(folder, changed(section, {key: value}))
    with pytest.raises(WeightsError) as caught:
        read_open_clip(folder)
    message = str(caught.value)
    assert FAMILIES in message
    assert str(folder / "open_clip_config.json") in message
    assert f"{key} is {value!r}" in message


@pytest.mark.parametrize(
    ("section", "changes", "named"),
    [
        ("vision_cfg", {"pool_type": "avg"}, "final_ln_after_pool is False"),
        ("vision_cfg", {"attentional_pool": True, "pool_type": "avg", "final_ln_after_pool": True}, "pool_type"),
        ("vision_cfg", {"attentional_pool": "parallel"}, "attentional_pool"),
        ("vision_cfg", {"attentional_pool": True, "attn_pooler_heads": 7}, "pooling_heads"),
        ("text_cfg", {"no_causal_mask": True, "pool_type": "eos"}, "pool_type is 'eos'"),
        ("text_cfg", {"no_causal_mask": True, "embed_cls": True}, "no_causal_mask is True"),
        ("text_cfg", {"embed_cls": True, "pad_id": 1}, "pad_id is 1"),
        ("text_cfg", {"no_causal_mask": True, "pool_type": "last", "proj_type": "none"}, "embed_dim is 24"),
        ("text_cfg", {"no_causal_mask": True, "proj_type": "mlp"}, "proj_type is 'mlp'"),
        ("text_cfg", {"pool_type": "eos", "eos_id": 600}, "eos_id is 600"),
        ("model_cfg", {"quick_gelu": "yes"}, "quick_gelu"),
        ("model_cfg", {"embed_dim": "wide"}, "embed_dim"),
        ("vision_cfg", {"layers": [3, 4]}, "layers"),
        ("vision_cfg", {"head_width": 0}, "head_width"),
        ("vision_cfg", {"head_width": 100}, "heads"),
        ("vision_cfg", {"patch_size": None}, "patch_size"),
        ("vision_cfg", {"image_size": 33}, "image_size"),
        ("vision_cfg", {"image_size": [32, 48]}, r"image_size is \(32, 48\)"),
        ("vision_cfg", {"act_kwargs": {"approximate": "sigmoid"}}, "approximate"),
        ("text_cfg", {"norm_kwargs": {"elementwise_affine": False}}, "elementwise_affine"),
        (
            "text_cfg",
            {"mlp_ratio": 1e308},
            r"text_cfg: width × mlp_ratio \(\d+ × 1e\+308\) must be between 1 and 131,072",
        ),
        ("text_cfg", {"width": 1e308}, "width × mlp_ratio"),
        ("vision_cfg", {"mlp_ratio": -1e308}, "width × mlp_ratio"),
        ("vision_cfg", {"mlp_ratio": 0}, "width × mlp_ratio"),
        ("vision_cfg", {"width": "64"}, "width must be an integer, not '64'"),
        ("vision_cfg", {"layers": 10**7}, "model.vision.layers is 10000000"),
        ("model_cfg", {"embed_dim": 1 << 63}, "model.embed_dim is 9223372036854775808"),
        ("preprocess_cfg", {"resize_mode": "longest"}, "resize_mode is 'longest'"),
        ("preprocess_cfg", {"interpolation": "nearest"}, "interpolation is 'nearest'"),
        ("preprocess_cfg", {"mean": [0.5]}, "mean"),
        ("preprocess_cfg", {"std": [0, 1, 1]}, "std"),
        ("preprocess_cfg", {"sise": 224}, "sise"),
    ],
)
def test_an_invalid_value_is_named(folder: Path, section: str, changes: dict[str, Any], named: str) -> None:
    write(folder, changed(section, changes))
    with pytest.raises(WeightsError, match=named):
        read_open_clip(folder)


def test_quick_gelu_with_another_activation_is_refused(folder: Path) -> None:
    raw = changed("vision_cfg", {"act_kwargs": {"approximate": "tanh"}})
    raw["model_cfg"]["quick_gelu"] = True
    write(folder, raw)
    with pytest.raises(WeightsError, match=r"vision_cfg\.act_kwargs"):
        read_open_clip(folder)


@pytest.mark.parametrize("raw", [{}, {"model_cfg": {"embed_dim": 4}}, {"model_cfg": 3}, {"vision_cfg": {}}])
def test_an_incomplete_config_is_refused(folder: Path, raw: object) -> None:
    write(folder, raw)
    with pytest.raises(WeightsError, match=r"model_cfg|vision_cfg"):
        read_open_clip(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"open_clip_model\.safetensors"):
        read_open_clip(folder)


def test_safetensors_come_before_a_pickle(folder: Path) -> None:
    torch.save({"logit_scale": torch.tensor(1.0)}, folder / "open_clip_pytorch_model.bin")
    assert read_open_clip(folder).tensors["logit_scale"] == 2.0
    (folder / "open_clip_model.safetensors").unlink()
    assert read_open_clip(folder).tensors["logit_scale"] == 1.0


def test_a_file_with_two_text_towers_is_refused(folder: Path) -> None:
    tower = {"ln_final.bias": torch.zeros(3), "text.ln_final.bias": torch.zeros(3)}
    save_file(tower, folder / "open_clip_model.safetensors")
    with pytest.raises(WeightsError, match="two text towers"):
        read_open_clip(folder)


def test_a_logit_scale_in_a_vector_of_one_element_becomes_a_scalar(folder: Path) -> None:
    save_file({"logit_scale": torch.tensor([3.0])}, folder / "open_clip_model.safetensors")
    assert read_open_clip(folder).tensors["logit_scale"].shape == ()


def siglip_cfg(name: str, image_size: int) -> dict[str, Any]:
    vision = {"timm_model_name": name, "timm_pool": "map", "timm_proj": "none", "image_size": image_size}
    raw = changed("model_cfg", {"embed_dim": 768, "init_logit_bias": -10, "vision_cfg": vision})
    raw["model_cfg"]["text_cfg"] |= {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    return raw


def test_a_siglip_config_is_read(folder: Path) -> None:
    write(folder, siglip_cfg("vit_base_patch16_siglip_384", 384))
    config = read_open_clip(folder).config
    assert config.logit_bias
    assert config.image_size == 384
    assert isinstance(config.vision, SiglipVisionConfig)
    assert isinstance(config.text, SiglipTextConfig)


def test_a_timm_tower_of_another_image_size_is_refused(folder: Path) -> None:
    write(folder, siglip_cfg("vit_base_patch16_siglip_384", 224))
    with pytest.raises(WeightsError, match="needs 384"):
        read_open_clip(folder)


@pytest.mark.parametrize(
    ("name", "pool", "proj", "expected"),
    [
        ("convnext_base", "", "linear", {"pool": "default", "projection": "linear"}),
        ("fastvit_mci2", "avg", None, {"pool": "avg", "projection": "classifier"}),
        ("resnet50", "abs_attn", "", {"pool": "abs_attn", "projection": "none"}),
        ("vit_base_patch16_siglip_224", "avg", "none", {"pool": "avg", "projection": "none"}),
    ],
)
def test_a_tower_that_only_timm_computes_is_read_and_written(
    folder: Path, name: str, pool: str, proj: str | None, expected: dict[str, str]
) -> None:
    raw = changed("model_cfg", {})
    raw["model_cfg"]["vision_cfg"] = {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": 96}
    write(folder, raw)
    checkpoint = read_open_clip(folder)
    config = checkpoint.config
    assert config.vision == TimmVisionConfig(name=name, **expected)  # type: ignore[arg-type]
    assert parse_open_clip_config(to_open_clip_config(config, checkpoint.preprocess))[0] == config


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"timm_pool": "default"}, "timm_pool is 'default'"),
        ({"timm_pool": "fast"}, "timm_pool is 'fast'"),
        ({"timm_proj": "classifier"}, "timm_proj is 'classifier'"),
        ({"timm_pool": "", "timm_proj": None}, "classifier needs a pool"),
        ({"timm_model_name": "hf-hub:timm/convnext_base"}, "must be a name of timm"),
        ({"timm_model_name": "../convnext_base"}, "must be a name of timm"),
        ({"timm_model_name": ""}, "must be a name of timm"),
    ],
)
def test_a_tower_of_timm_with_an_unknown_setting_is_refused(folder: Path, changes: dict[str, Any], named: str) -> None:
    raw = changed("model_cfg", {})
    raw["model_cfg"]["vision_cfg"] = {"timm_model_name": "convnext_base", "image_size": 96, **changes}
    write(folder, raw)
    with pytest.raises(WeightsError, match=named):
        read_open_clip(folder)


SMALL_SIGLIP = ModelConfig(
    embed_dim=48, image_size=32, vision=SiglipVisionConfig(width=48, layers=2, heads=3, patch_size=16), text=SIGLIP_TEXT
)


def test_conversion_to_timm_and_back_gives_the_same_tensors() -> None:
    own = published_state_dict(CLIP(SMALL_SIGLIP))
    back = convert_from_timm(convert_to_timm(own, 2), 2)
    assert back.keys() == own.keys()
    assert all(torch.equal(own[name], back[name]) for name in own)


@pytest.mark.parametrize(
    ("lost", "named"),
    [
        ("visual.trunk.blocks.1.norm2.bias", r"visual\.transformer\.resblocks\.1\.ln_2\.bias"),
        ("visual.trunk.attn_pool.q.weight", r"visual\.pool\.attn\.in_proj_weight"),
        ("visual.trunk.pos_embed", r"visual\.positional_embedding"),
    ],
)
def test_a_missing_timm_tensor_is_named_when_the_model_is_built(lost: str, named: str) -> None:
    timm = convert_to_timm(published_state_dict(CLIP(SMALL_SIGLIP)), 2)
    del timm[lost]
    with pytest.raises(WeightsError, match=named):
        build_model(SMALL_SIGLIP, convert_from_timm(timm, 2), "file")


def test_an_unknown_timm_tensor_is_named_when_the_model_is_built() -> None:
    timm = convert_to_timm(published_state_dict(CLIP(SMALL_SIGLIP)), 2) | {"visual.trunk.head.weight": torch.zeros(2)}
    with pytest.raises(WeightsError, match=r"visual\.trunk\.head\.weight"):
        build_model(SMALL_SIGLIP, convert_from_timm(timm, 2), "file")


def test_every_name_of_timm_is_another_tower() -> None:
    assert len(set(TIMM_TOWERS.values())) == len(TIMM_TOWERS)


# --- writing ---


def refused(tmp_path: Path, config: ModelConfig) -> str:
    """Return the message of the refusal to write a config, after a check that no file was written."""
    target = tmp_path / "out"
    preprocess = Preprocess(image_size=config.image_size)
    with pytest.raises(WeightsError) as caught:
        write_open_clip(target, config=config, tensors={}, preprocess=preprocess, tokenizer=None)
    assert not target.exists()
    return str(caught.value)


def test_quick_gelu_in_one_tower_only_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, replace(CONFIG, text=replace(TEXT, activation="gelu")))
    assert "gelu and quick_gelu" in message


def test_quick_gelu_does_not_depend_on_a_resnet() -> None:
    config = replace(CONFIG, vision=ResNetConfig(width=16, layers=(1, 1, 1, 1), heads=8))
    assert to_open_clip_config(config, Preprocess(image_size=32))["model_cfg"]["quick_gelu"] is True


def test_a_siglip_tower_without_a_name_in_timm_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, SMALL_SIGLIP)
    assert "width 48" in message
    assert "timm" in message


def test_a_siglip_tower_with_another_gelu_than_timms_is_refused(tmp_path: Path) -> None:
    """transformers uses the tanh form for these weights; open_clip has no key for it."""
    tower, size = TIMM_TOWERS["vit_base_patch16_siglip_224"]
    vision = replace(tower, activation="gelu_tanh")
    message = refused(tmp_path, ModelConfig(embed_dim=768, image_size=size, vision=vision, text=SIGLIP_TEXT))
    assert "vit_base_patch16_siglip_224, which uses gelu" in message


@pytest.mark.parametrize("name", TIMM_TOWERS)
def test_every_known_siglip_tower_is_written_under_its_name(name: str) -> None:
    vision, size = TIMM_TOWERS[name]
    spelt_out = replace(vision, mlp_width=vision.hidden)
    config = ModelConfig(embed_dim=vision.width, image_size=size, vision=spelt_out, text=SIGLIP_TEXT)
    vision_cfg = to_open_clip_config(config, Preprocess(image_size=size))["model_cfg"]["vision_cfg"]
    assert vision_cfg["timm_model_name"] == name


@pytest.mark.parametrize(
    ("name", "projection_bias"),
    [
        ("vit_base_patch16_224", False),
        ("vit_base_patch16_224", True),
        ("vit_gigantic_patch14_224", False),
        ("vit_large_patch14_clip_336", True),
    ],
)
def test_a_vit_with_biases_is_written_under_its_name_in_timm(name: str, projection_bias: bool) -> None:
    vision, size = TIMM_VITS[name]
    spelt_out = replace(vision, mlp_width=vision.hidden, projection_bias=projection_bias)
    config = ModelConfig(embed_dim=24, image_size=size, vision=spelt_out, text=replace(TEXT, activation="gelu"))
    vision_cfg = to_open_clip_config(config, Preprocess(image_size=size))["model_cfg"]["vision_cfg"]
    assert (vision_cfg["timm_model_name"], vision_cfg["timm_proj_bias"]) == (name, projection_bias)


@pytest.mark.parametrize(
    "flags", [{"patch_bias": True}, {"projection_bias": True}, {"patch_bias": True, "pooling": "mean"}]
)
def test_a_vit_with_biases_without_a_name_in_timm_is_refused(tmp_path: Path, flags: dict[str, Any]) -> None:
    message = refused(tmp_path, replace(CONFIG, vision=replace(VIT, **flags)))
    assert "patches of 16 in 32 px" in message
    assert "timm" in message


@pytest.mark.parametrize("text", [COCA_TEXT, replace(SIGLIP_TEXT, pooling="argmax")], ids=["coca", "mobileclip"])
def test_a_tower_that_attends_to_padding_needs_the_tokenizer_of_open_clip(
    tmp_path: Path, text: CocaTextConfig | SiglipTextConfig
) -> None:
    """open_clip pads texts of any other tokenizer with its end token."""
    tokenizer = BPETokenizer.train(["a photo of a zebra"] * 3, 520, 16)
    config = replace(CONFIG, text=replace(text, vocab_size=520, activation=VIT.activation))
    with pytest.raises(WeightsError, match="attends to padding"):
        write_open_clip(
            tmp_path / "out", config=config, tensors={}, preprocess=Preprocess(image_size=32), tokenizer=tokenizer
        )
    assert not (tmp_path / "out").exists()


def test_a_decoder_that_is_not_read_is_named_by_a_warning_and_by_doctor(tmp_path: Path) -> None:
    config = replace(CONFIG, vision=replace(VIT, pooling="attention"), text=COCA_TEXT)
    tensors = published_state_dict(CLIP(config))
    write_open_clip(tmp_path, config=config, tensors=tensors, preprocess=Preprocess(image_size=32), tokenizer=None)
    weights = tmp_path / "open_clip_model.safetensors"
    decoder = {"text_decoder.ln_final.bias": torch.zeros(3)}
    queries = {"visual.attn_pool.query": torch.cat([tensors["visual.attn_pool.query"], torch.ones(5, 24)])}
    save_file(load_file(weights) | decoder | queries, weights)
    with pytest.warns(UserWarning, match=r"not read: CoCa's decoder of captions \(1 tensors\)"):
        bundle = load(tmp_path)
    assert torch.equal(bundle.model.visual.attn_pool.query, tensors["visual.attn_pool.query"])
    with pytest.warns(UserWarning, match="not read"):
        findings = inspect_model(str(tmp_path))
    assert [finding.detail for finding in findings if finding.name == "not read"] == [
        "CoCa's decoder of captions (1 tensors)"
    ]


@given(width=st.integers(1, 10_000), hidden=st.integers(1, 100_000))
def test_the_truncated_product_of_the_mlp_ratio_is_the_width(width: int, hidden: int) -> None:
    text = replace(TEXT, width=width, heads=1, mlp_width=hidden)
    ratio = to_open_clip_config(replace(CONFIG, text=text), Preprocess(image_size=32))["model_cfg"]["text_cfg"][
        "mlp_ratio"
    ]
    assert int(width * ratio) == hidden


def test_the_same_model_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = published_state_dict(CLIP(CONFIG))
    for name in ("one", "two"):
        write_open_clip(
            tmp_path / name, config=CONFIG, tensors=tensors, preprocess=Preprocess(image_size=32), tokenizer=None
        )
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["open_clip_config.json", "open_clip_model.safetensors"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
