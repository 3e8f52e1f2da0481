"""transformers' layout is read strictly and written completely; unsupported settings are refused by name."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as Rust
from tokenizers import models

from zebra.config.image_towers import NaflexVisionConfig, ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.errors import WeightsError
from zebra.images.preprocess import OPENAI_MEAN, OPENAI_STD, Preprocess
from zebra.models import CLIP
from zebra.pretrained.transformers.config import infer_model_type
from zebra.pretrained.transformers.key_mapping import convert_from_transformers, convert_to_transformers
from zebra.pretrained.transformers.layout import read_transformers, write_transformers
from zebra.pretrained.transformers.tokenizer import write_tokenizer
from zebra.pretrained.weights import published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer

from ...tiny_model import build_siglip2_tokenizer

TOKENIZER = BPETokenizer.train(["a photo of a zebra"] * 3, 520, 16)
VISION = {
    "vit": VisionTransformerConfig(width=16, layers=2, heads=2, patch_size=8, mlp_width=40, norm_eps=1e-4),
    "siglip": SiglipVisionConfig(width=12, layers=1, heads=2, patch_size=8),
    "naflex": NaflexVisionConfig(width=12, layers=1, heads=2, patch_size=16),
    "resnet": ResNetConfig(width=2, layers=(1, 1, 1, 1), heads=2),
}
TEXT = {
    "causal": TextConfig(
        width=24, layers=1, heads=3, vocab_size=TOKENIZER.vocab_size, context_length=16, activation="gelu"
    ),
    "siglip": SiglipTextConfig(width=20, layers=2, heads=2, vocab_size=6, context_length=8),
    "siglip2": SiglipTextConfig(width=20, layers=2, heads=2, vocab_size=260, context_length=8),
}


def padded():
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("a", -1.0), ("b", -2.0), ("c", -3.0), ("d", -4.0)]
    return SiglipTokenizer(Rust(models.Unigram(pieces, unk_id=0)), 8, eos_token="</s>", pad_token="</s>")


def config(vision, text, *, logit_bias=False):
    embed = VISION[vision].width if vision in ("siglip", "naflex") else 10
    return ModelConfig(embed_dim=embed, image_size=32, vision=VISION[vision], text=TEXT[text], logit_bias=logit_bias)


MODELS = {
    "clip": (config("vit", "causal"), TOKENIZER),
    "siglip": (config("siglip", "siglip", logit_bias=True), padded()),
    "naflex": (config("naflex", "siglip2", logit_bias=True), build_siglip2_tokenizer(8)),
}
NAFLEX = Preprocess(image_size=32, resize="naflex", patch_size=16, max_num_patches=256)


def tensors(of):
    torch.manual_seed(0)
    return {name: torch.randn_like(tensor) for name, tensor in published_state_dict(CLIP(of)).items()}


def write(folder, kind="clip", preprocess=None):
    of, tokenizer = MODELS[kind]
    preprocess = preprocess or (NAFLEX if kind == "naflex" else Preprocess(image_size=32))
    write_transformers(folder, config=of, tensors=tensors(of), preprocess=preprocess, tokenizer=tokenizer)
    return folder


@pytest.fixture(params=MODELS)
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


def edit(path, *keys, **changes):
    """Change keys of a JSON file, in the object at the path `keys`."""
    raw = json.loads(path.read_text())
    part = raw
    for key in keys:
        part = part[key]
    part.update(changes)
    path.write_text(json.dumps(raw))


def test_a_model_survives_writing_and_reading_bit_for_bit(tmp_path, kind):
    of, _ = MODELS[kind]
    checkpoint = read_transformers(write(tmp_path, kind))
    assert checkpoint.config == of
    assert checkpoint.layout == "transformers"
    before = tensors(of)
    assert checkpoint.tensors.keys() == before.keys()
    assert all(torch.equal(checkpoint.tensors[name], before[name]) for name in before)
    names = [path.name for path in checkpoint.files]
    assert names == ["config.json", "preprocessor_config.json", "model.safetensors"]


def test_writing_twice_gives_the_same_bytes(tmp_path, kind):
    one, two = write(tmp_path / "one", kind), write(tmp_path / "two", kind)
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


@pytest.mark.parametrize("model_type", ["clip", "fgclip"])
def test_fg_clip_is_read_as_its_function_for_short_texts(folder, model_type):
    plain = read_transformers(folder)
    edit(folder / "config.json", model_type=model_type)
    tensors = load_file(folder / "model.safetensors")
    width = TEXT["causal"].width
    long_positions = {
        f"text_model.embeddings.position_embedding_{name}.weight": torch.ones(248, width) for name in ("ori", "res")
    }
    scales = {"logit_scale_finegraind": torch.tensor(1.0), "logit_scale_hardneg": torch.tensor(1.0)}
    projection = {"text_filip_projection.weight": torch.ones(10, width)}
    save_file(tensors | long_positions | scales | projection, folder / "model.safetensors")
    read = read_transformers(folder)
    assert read.config == plain.config
    assert read.tensors.keys() == plain.tensors.keys()
    assert "long texts" in read.unused


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        (("vit", "causal"), {"vision": {"pre_norm": False}}),
        (("vit", "causal"), {"vision": {"pooling": "mean"}}),
        (("vit", "causal"), {"vision": {"patch_bias": True}}),
        (("vit", "causal"), {"vision": {"projection_bias": True}}),
        (("siglip", "siglip"), {"text": {"pooling": "argmax"}}),
        (("siglip", "siglip"), {"text": {"projection_bias": False}}),
        (("siglip", "siglip"), {"text": {"projection": "none", "width": 12}}),
    ],
)
def test_flags_that_transformers_does_not_have_are_refused(kinds, changes):
    of = config(*kinds, logit_bias=kinds[1] == "siglip")
    for tower, flags in changes.items():
        of = replace(of, **{tower: replace(getattr(of, tower), **flags)})
    with pytest.raises(WeightsError, match="transformers has no model"):
        infer_model_type(of)


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_preprocessing_is_read_by_the_rules_of_transformers(tmp_path, kind, resize, interpolation):
    own = Preprocess(
        image_size=32, resize=resize, interpolation=interpolation, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)
    )
    if kind == "naflex":
        own = replace(own, resize="naflex", patch_size=16, max_num_patches=256)
    back = read_transformers(write(tmp_path, kind, own)).preprocess
    assert back == replace(own, crop="floor", rgb="first", decode="reference")


def test_only_stacked_and_transposed_tensors_are_copied():
    """Other tensors stay memory-mapped, so loading needs little more memory than the weights."""
    of, _ = MODELS["clip"]
    theirs = convert_to_transformers(tensors(of), of)
    own = convert_from_transformers(theirs, of, "here")
    unchanged = {"text_model.embeddings.token_embedding.weight": "token_embedding.weight"}
    unchanged |= {"vision_model.encoder.layers.1.mlp.fc1.weight": "visual.transformer.resblocks.1.mlp.c_fc.weight"}
    for name, zebra_name in unchanged.items():
        assert own[zebra_name].data_ptr() == theirs[name].data_ptr()


@pytest.mark.parametrize(
    ("vision", "text", "bias", "message"),
    [
        ("resnet", "causal", False, "no model with a resnet image tower"),
        ("siglip", "causal", False, "a siglip image tower, a causal text tower"),
        ("vit", "siglip", True, "a vit image tower, a siglip text tower"),
        ("vit", "causal", True, "a causal text tower and a logit bias"),
        ("siglip", "siglip", False, "a siglip text tower and no logit bias"),
    ],
)
def test_models_that_transformers_cannot_represent_are_not_written(tmp_path, vision, text, bias, message):
    of = config(vision, text, logit_bias=bias)
    with pytest.raises(WeightsError, match=message) as caught:
        write_transformers(
            tmp_path / "model", config=of, tensors={}, preprocess=Preprocess(image_size=32), tokenizer=TOKENIZER
        )
    assert "--format open_clip" in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_a_text_tower_with_ids_beyond_the_end_token_is_not_written(tmp_path):
    of, _ = MODELS["clip"]
    wider = replace(of, text=replace(of.text, vocab_size=600))
    with pytest.raises(WeightsError, match="id 519 in a vocabulary of 600"):
        write_transformers(
            tmp_path / "model", config=wider, tensors={}, preprocess=Preprocess(image_size=32), tokenizer=TOKENIZER
        )


def test_clip_tokenizer_files_agree_with_each_other(tmp_path):
    write_tokenizer(tmp_path, TOKENIZER, context_length=16)
    pair = BPETokenizer.from_files(tmp_path / "vocab.json", tmp_path / "merges.txt", 16)
    assert pair.fingerprint == BPETokenizer.load(tmp_path, 16).fingerprint == TOKENIZER.fingerprint
    special = json.loads((tmp_path / "special_tokens_map.json").read_text())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert special.items() <= settings.items()
    assert special["pad_token"] == special["eos_token"] == "<|endoftext|>"
    assert settings["model_max_length"] == 16


def test_siglip_tokenizer_files_have_no_attention_mask(tmp_path):
    write_tokenizer(tmp_path, padded(), context_length=8)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["model_input_names"] == ["input_ids"]
    assert [settings[f"{name}_token"] for name in ("eos", "pad", "unk")] == ["</s>", "</s>", "<unk>"]
    assert not (tmp_path / "vocab.json").exists()


@pytest.mark.parametrize("family", ["clap", "owlvit", "clip_vision_model", None, ["clip"]])
def test_other_model_types_are_refused_by_name(folder, family):
    edit(folder / "config.json", model_type=family)
    with pytest.raises(WeightsError) as caught:
        read_transformers(folder)
    assert repr(family) in str(caught.value)
    assert "zebra reads clip, metaclip_2, siglip, siglip2" in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "changes", "message"),
    [
        (
            ["text_config"],
            {"hidden_act": "relu"},
            r"hidden_act 'relu' is not supported.*quick_gelu, gelu, gelu_pytorch_tanh",
        ),
        (["vision_config"], {"hidden_act": ["gelu"]}, r"hidden_act \['gelu'\] is not supported"),
        (["text_config"], {"eos_token_id": 520}, r"text\.eos_id is 520; it must be an id below 520"),
        (["text_config"], {"eos_token_id": -1}, r"text\.eos_id is -1"),
        (["text_config"], {"eos_token_id": [519]}, r"text\.eos_id must be an integer"),
        (["vision_config"], {"num_channels": 1}, "num_channels is 1"),
        (["vision_config"], {"patch_size": 7}, "image_size .* multiple of vision.patch_size"),
        (["vision_config"], {"hidden_size": "wide"}, "vision.width must be an integer"),
        (["vision_config"], {"num_attention_heads": 3}, "width .* multiple of heads"),
        ([], {"text_config": 5}, "text_config must be a JSON object"),
        ([], {"projection_dim": "many"}, "embed_dim must be an integer"),
        (["vision_config"], {"image_size": 64}, "image size 32, but .* has 64"),
        (["text_config"], {"num_hidden_layers": 2}, "lacks the tensor text_model.encoder.layers.1"),
        (["vision_config"], {"num_hidden_layers": 1}, "has a tensor vision_model.encoder.layers.1"),
    ],
)
def test_unsupported_configs_are_refused(folder, keys, changes, message):
    edit(folder / "config.json", *keys, **changes)
    with pytest.raises(WeightsError, match=message):
        read_transformers(folder)


def test_a_naflex_model_that_no_other_layout_can_represent_is_sent_to_zebras(tmp_path):
    of = config("naflex", "causal")
    with pytest.raises(WeightsError, match=r"no model with a naflex image tower.* Use --format zebra\."):
        write_transformers(tmp_path / "out", config=of, tensors={}, preprocess=NAFLEX, tokenizer=TOKENIZER)


def test_a_naflex_model_needs_a_bpe_with_byte_fallback_because_transformers_expects_one(tmp_path):
    of, _ = MODELS["naflex"]
    with pytest.raises(WeightsError, match=r"BPE with byte fallback.* Use --format zebra"):
        write_transformers(tmp_path / "out", config=of, tensors=tensors(of), preprocess=NAFLEX, tokenizer=padded())
    assert not (tmp_path / "out").exists()


def test_the_number_of_patches_that_transformers_ignores_is_named(tmp_path):
    with pytest.warns(UserWarning, match="256 patches of 16 px. Pass it max_num_patches=64, patch_size=16"):
        write(tmp_path, "naflex", replace(NAFLEX, max_num_patches=64))
    assert read_transformers(tmp_path).preprocess.max_num_patches == 64


def test_an_image_tower_without_its_head_is_refused(tmp_path):
    edit(write(tmp_path, "siglip") / "config.json", "vision_config", vision_use_head=False)
    with pytest.raises(WeightsError, match="vision_use_head is false"):
        read_transformers(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_patches": 15}, "num_patches is 15, not a square"), ({"patch_size": 16}, "patches of 8 pixels, .* has 16")],
)
def test_a_naflex_model_without_a_square_grid_or_with_other_patches_is_refused(tmp_path, changes, message):
    write(tmp_path, "siglip")
    edit(tmp_path / "config.json", model_type="siglip2")
    edit(tmp_path / "config.json", "vision_config", **changes)
    processor_config = {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 16, "patch_size": 8}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor_config))
    with pytest.raises(WeightsError, match=message):
        read_transformers(tmp_path)


@pytest.mark.parametrize("junk", ["x", [], {}, -1, 0, 1.5, True, [1, 2], 10**30])
def test_invalid_values_in_a_config_raise_weights_error(tmp_path, kind, junk):
    """For every key of every file, an invalid value is refused, or ignored if nothing depends on it."""
    write(tmp_path, kind)
    for path in (tmp_path / "config.json", tmp_path / "preprocessor_config.json"):
        original = json.loads(path.read_text())
        places = [(key,) for key in original] + [
            (s, k) for s, part in original.items() if isinstance(part, dict) for k in part
        ]
        for place in places:
            changed = json.loads(json.dumps(original))
            (changed if len(place) == 1 else changed[place[0]])[place[-1]] = junk
            path.write_text(json.dumps(changed))
            try:
                read_transformers(tmp_path)
            except WeightsError as error:
                assert str(tmp_path) in str(error), place
        path.write_text(json.dumps(original))


def test_keys_of_early_configs_take_precedence(folder):
    raw = json.loads((folder / "config.json").read_text())
    raw["text_config_dict"], raw["text_config"] = raw["text_config"], {"hidden_size": 999}
    raw["vision_config_dict"] = None
    (folder / "config.json").write_text(json.dumps(raw))
    assert read_transformers(folder).config == MODELS["clip"][0]


def read_preprocess(folder, **settings):
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return read_transformers(folder).preprocess


@pytest.mark.parametrize(
    "settings",
    [
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32, "resample": 3},
        {"size": {"shortest_edge": 32, "longest_edge": None}, "crop_size": {"height": 32, "width": 32}},
        {"image_processor_type": "CLIPImageProcessorFast", "size": 32, "crop_size": [32, 32], "do_pad": None},
        {"image_processor_type": "CLIPImageProcessorPil", "size": 32, "crop_size": 32, "do_convert_rgb": None},
    ],
)
def test_every_notation_of_clips_preprocessing_is_read(folder, settings):
    expected = Preprocess(image_size=32, crop="floor", rgb="first", decode="reference")
    assert (expected.mean, expected.std) == (OPENAI_MEAN, OPENAI_STD)
    assert read_preprocess(folder, **settings) == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}},
        {"image_processor_type": "SiglipImageProcessorFast", "size": [32, 32]},
        {
            "size": 32,
            "default_to_square": True,
            "do_center_crop": False,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
    ],
)
def test_every_notation_of_siglips_preprocessing_is_read(folder, settings):
    half = (0.5, 0.5, 0.5)
    assert read_preprocess(folder, **settings) == Preprocess(
        image_size=32, resize="squash", crop="floor", rgb="first", mean=half, std=half, decode="reference"
    )


def test_images_without_normalization_keep_their_range(folder):
    preprocess = read_preprocess(folder, size=32, crop_size=32, do_normalize=False)
    assert (preprocess.mean, preprocess.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_processor_type": "PvtImageProcessor"}, "PvtImageProcessor is not supported for a clip model"),
        ({"image_processor_type": "Siglip2ImageProcessor"}, "Siglip2ImageProcessor for siglip2 only"),
        ({"do_resize": False}, "do_resize is False"),
        ({"do_rescale": False}, "do_rescale is False"),
        ({"do_pad": True}, "do_pad is True"),
        ({"rescale_factor": 1 / 127.5}, "supports only 1/255"),
        ({"resample": 1}, "resample is 1, but zebra supports only"),
        ({"size": 28}, "square crop of at most the size of the shorter side"),
        ({"do_center_crop": False}, "square crop of at most the size of the shorter side"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "square crop of at most the size of the shorter side"),
        ({"size": {"height": 32, "width": 48}}, "square crop of at most the size of the shorter side"),
        ({"size": 24, "crop_size": 24}, "image size 24, but .* has 32"),
        ({"image_mean": [0.5]}, "mean needs 3 values"),
        ({"image_std": [0.0, 1.0, 1.0]}, "must be positive"),
    ],
)
def test_unsupported_preprocessing_is_refused(folder, settings, message):
    with pytest.raises(WeightsError, match=message):
        read_preprocess(folder, **{"size": 32, "crop_size": 32, **settings})


def test_settings_in_processor_config_take_precedence(folder):
    nested = {"image_processor": {"size": 32, "crop_size": 32, "resample": 2}, "processor_class": "CLIPProcessor"}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    checkpoint = read_transformers(folder)
    assert checkpoint.preprocess.interpolation == "bilinear"
    assert checkpoint.files[1].name == "processor_config.json"


def test_without_an_image_processor_in_processor_config_the_older_file_is_read(folder):
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "CLIPProcessor"}))
    assert read_transformers(folder).files[1].name == "preprocessor_config.json"


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=name):
        read_transformers(folder)


def reshaped(weights, name, shape):
    weights[name] = torch.zeros(shape)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("visual_projection.weight"), "lacks the tensor visual_projection.weight"),
        (lambda w: w.pop("text_model.encoder.layers.0.self_attn.v_proj.bias"), r"lacks .*\.v_proj\.bias"),
        (lambda w: reshaped(w, "more", 3), "has a tensor more that config.json does not imply"),
        (lambda w: reshaped(w, "text_model.encoder.layers.0.self_attn.k_proj.weight", (8, 24)), "differ in shape"),
        (lambda w: reshaped(w, "text_projection.weight", 3), "wrong shape .3,."),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder, change, message):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        read_transformers(folder)


def test_position_ids_are_ignored(folder):
    weights = load_file(folder / "model.safetensors")
    for tower in ("text_model", "vision_model"):
        weights[f"{tower}.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(weights, folder / "model.safetensors")
    assert read_transformers(folder).tensors.keys() == tensors(MODELS["clip"][0]).keys()


def test_a_state_dict_of_plain_tensors_is_read(folder):
    expected = read_transformers(folder).tensors
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    checkpoint = read_transformers(folder)
    assert checkpoint.files[-1].name == "pytorch_model.bin"
    assert all(torch.equal(checkpoint.tensors[name], expected[name]) for name in expected)
