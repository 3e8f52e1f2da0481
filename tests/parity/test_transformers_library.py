"""Models whose towers transformers computes give the vectors of the library's own feature functions.

Reference: transformers 5.24, `get_image_features` and `get_text_features`, or the forward pass of a model without such
functions, and the image processors on the Pillow backend. Models are tiny and random, with noise on every parameter,
saved by the library's own `save_pretrained`: published weights need a network.
Tolerance: 1e-5 on unit vectors; 1e-6 on pixels in [-1, 1], as division and rescaling round differently.
"""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import zebra
from zebra.errors import ConfigError, WeightsError
from zebra.models.lora import apply_lora, get_adapters
from zebra.pretrained.load import build_bundle
from zebra.pretrained.onnx.graph import write_text_graph
from zebra.pretrained.transformers.layout import read_transformers
from zebra.text.bpe import BPETokenizer
from zebra.train.activation_checkpointing import apply_activation_checkpointing
from zebra.train.freeze import freeze
from zebra.train.optimizer import layer_depths

pytestmark = pytest.mark.filterwarnings("ignore:.* not read")  # parts of FLAVA and BLIP

IDS = 540
"""Size of the vocabularies; 539 is the end token of the causal text towers."""
CAPTIONS = ["a photo of a striped horse on the grass", "a zebra running in the snow", "grass"]
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**SMALL, "vocab_size": IDS}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
SQUARE = {"height": 32, "width": 32}
END = {"bos_token_id": IDS - 2, "eos_token_id": IDS - 1, "pad_token_id": 0}
CLIP_PROCESSOR = ("CLIPImageProcessorPil", {"size": 32, "crop_size": 32})
BLIP_TEXT = {**TEXT, "encoder_hidden_size": 32, "bos_token_id": 1, "sep_token_id": 2}


@dataclass(frozen=True)
class Family:
    """A class of the library, its settings and its image processor."""

    name: str
    settings: dict
    processor: tuple[str, dict]
    logit_scale: float
    pad_id: int | None = 0
    expected: dict = field(default_factory=dict)
    """What its processor does, where that is not the default of transformers."""


FAMILIES = {
    "tipsv2": Family(
        "Tipsv2Model",
        {"text_config": TEXT, "vision_config": {**VISION, "mlp_ratio": 2}, "temperature_init_value": 0.02},
        ("Tipsv2ImageProcessor", {"size": SQUARE}),
        50.0,
        expected={"interpolation": "bilinear", "mean": (0, 0, 0), "std": (1, 1, 1)},
    ),
    "tipsv2 with a gated MLP": Family(
        "Tipsv2Model",
        {"text_config": TEXT, "vision_config": {**VISION, "use_swiglu_ffn": True, "num_register_tokens": 2}},
        ("Tipsv2ImageProcessor", {"size": SQUARE}),
        1 / 0.005065968260169029,
        expected={"interpolation": "bilinear", "mean": (0, 0, 0), "std": (1, 1, 1)},
    ),
    "align": Family(
        "AlignModel",
        {
            "text_config": TEXT,
            "vision_config": {"width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 64},
            "projection_dim": 64,
            "temperature_init_value": 0.1,
        },
        (
            "EfficientNetImageProcessorPil",
            {
                "size": {"height": 40, "width": 40}, "crop_size": SQUARE, "do_center_crop": True, "resample": 2,
                "rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False, "include_top": False,
            },
        ),
        10.0,
        expected={"interpolation": "bilinear", "resize_size": 40, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    ),
    "aimv2": Family(
        "Aimv2Model",
        {"text_config": {**TEXT, **END}, "vision_config": VISION, "projection_dim": 24},
        CLIP_PROCESSOR,
        14.285,
        pad_id=None,
    ),
    "groupvit": Family(
        "GroupViTModel",
        {
            "text_config": {**TEXT, **END},
            "vision_config": {
                **VISION, "depths": [1, 1, 1], "num_hidden_layers": 3,
                "num_group_tokens": [4, 2, 0], "num_output_groups": [4, 2, 0],
            },
            "projection_dim": 24,
            "projection_intermediate_dim": 40,
        },
        CLIP_PROCESSOR,
        14.285,
        pad_id=None,
    ),
    "flava": Family(
        "FlavaModel",
        {"text_config": TEXT, "image_config": VISION, "multimodal_config": SMALL, "projection_dim": 24},
        ("FlavaImageProcessorPil", {"size": SQUARE, "crop_size": SQUARE}),
        14.285,
    ),
    "flava for pre-training": Family(
        "FlavaForPreTraining",
        {
            "text_config": TEXT, "image_config": VISION, "multimodal_config": SMALL, "projection_dim": 24,
            "image_codebook_config": {"hidden_size": 8, "num_groups": 1, "num_blocks_per_group": 1, "vocab_size": 8},
            "hidden_size": 32,
        },
        ("FlavaImageProcessorPil", {"size": SQUARE, "crop_size": SQUARE}),
        14.285,
    ),
    "blip": Family(
        "BlipModel",
        {"text_config": BLIP_TEXT, "vision_config": VISION, "projection_dim": 24},
        ("BlipImageProcessorPil", {"size": SQUARE}),
        14.285,
    ),
    "blip for retrieval": Family(
        "BlipForImageTextRetrieval",
        {"text_config": BLIP_TEXT, "vision_config": VISION, "image_text_hidden_size": 24},
        ("BlipImageProcessorPil", {"size": SQUARE}),
        1.0,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def peer(transformers):
    """Return transformers without its progress bars and warnings."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def models(peer, tmp_path_factory):
    """Return a function that builds a family's model, saves it once and returns it with its folder."""
    saved = {}

    def build(name):
        if name not in saved:
            folder = tmp_path_factory.mktemp("models") / name.replace(" ", "-")
            saved[name] = (build_model(peer, FAMILIES[name], folder), folder)
        return saved[name]

    return build


def build_model(peer, family, folder):
    torch.manual_seed(0)
    model_class = getattr(peer, family.name)
    model = model_class(model_class.config_class(**family.settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in ("logit_scale", "temperature", "flava.logit_scale"):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):  # small variances, so that the signal survives
                buffer.copy_(0.02 * torch.rand(buffer.shape, generator=generator) + 1e-3)
    model.save_pretrained(folder)
    processor, settings = family.processor
    getattr(peer, processor)(**settings).save_pretrained(folder)
    return model.eval()


def padded_ids(pad_id):
    """Return texts of different lengths, with the end token of causal towers last, padded with 0."""
    rng = np.random.default_rng(0)
    rows = [[*rng.integers(3, IDS - 3, length), IDS - 1] for length in (3, 9, 1, 5)]
    return torch.tensor([row + [0] * (10 - len(row)) for row in rows])


@torch.no_grad()
def reference_vectors(model, family, pixels, ids):
    """Return the unit vectors of the library."""
    mask = (ids != 0).long()
    if family.name == "BlipForImageTextRetrieval":
        image = model.vision_proj(model.vision_model(pixel_values=pixels).last_hidden_state[:, 0])
        text = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        text = model.text_proj(text[:, 0])
    else:
        model = getattr(model, "flava", model)
        image = model.get_image_features(pixel_values=pixels).pooler_output
        text = model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        image, text = (x[:, 0] if x.ndim == 3 else x for x in (image, text))  # FLAVA projects every token
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def random_pixels(size=32, count=4):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", FAMILIES)
def test_vectors_equal_those_of_the_library(models, name):
    model, folder = models(name)
    family = FAMILIES[name]
    bundle = build_bundle(read_transformers(folder), folder)
    pixels, ids = random_pixels(), padded_ids(family.pad_id)
    expected = reference_vectors(model, family, pixels, ids)
    with torch.no_grad():
        image, text, scale = bundle.model(pixels, ids)
    assert float(scale) == pytest.approx(family.logit_scale, rel=1e-3)
    assert bundle.model.config.text.pad_id == family.pad_id
    for actual, reference in zip((image, text), expected, strict=True):
        assert reference.std(dim=0).max() > 0.01  # the vectors depend on the input
        assert float((actual - reference).abs().max()) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_pixels_equal_those_of_the_image_processor(peer, models, name):
    _, folder = models(name)
    family = FAMILIES[name]
    preprocess = read_transformers(folder).preprocess
    for setting, value in family.expected.items():
        assert getattr(preprocess, setting) == value
    processor = getattr(peer, family.processor[0]).from_pretrained(folder)
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (47, 61, 3), dtype=np.uint8))
    expected = torch.as_tensor(np.asarray(processor(images=image, return_tensors="pt")["pixel_values"][0]))
    actual = preprocess.normalize(torch.from_numpy(preprocess.resize_and_crop(image))[None])[0]
    # TIPSv2's processor has no Pillow backend; torchvision may round a value in another way.
    tolerance = 1.01 / 255 if name.startswith("tipsv2") else 2e-6
    assert float((actual - expected).abs().max()) < tolerance


@pytest.mark.parametrize("name", ["tipsv2", "aimv2", "flava"])
def test_a_vector_does_not_depend_on_the_other_texts(models, name):
    _, folder = models(name)
    tower = build_bundle(read_transformers(folder), folder).model
    ids = padded_ids(FAMILIES[name].pad_id)
    with torch.no_grad():
        together = tower.encode_texts(ids)
        alone = torch.cat([tower.encode_texts(row[None, : 1 + int(row.nonzero().max())]) for row in ids])
    assert float((together - alone).abs().max()) < 1e-5
    batches = tower.text.inference_batches(ids.numpy())
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3]


def write_tokenizer(folder, family):
    """Give a model CLIP's tokenizer if its text tower is causal, else BERT's, which pads with id 0."""
    if family.pad_id is None:
        BPETokenizer.train(CAPTIONS * 5, IDS, 77).save(folder / "tokenizer.json")
        return
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *words]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@pytest.fixture
def with_tokenizer(models, tmp_path):
    """Return a function that copies a family's folder, adds a tokenizer and returns the folder."""

    def copy(name):
        _, folder = models(name)
        target = rewrite_config(folder, tmp_path)
        write_tokenizer(target, FAMILIES[name])
        return target

    return copy


@pytest.mark.parametrize("name", ["align", "aimv2", "groupvit", "blip for retrieval"])
def test_texts_are_encoded_with_the_tokenizer_of_the_folder(models, with_tokenizer, name):
    model, _ = models(name)
    bundle = zebra.load(with_tokenizer(name))
    encoded = bundle.tokenizer.encode(CAPTIONS, truncate=True)
    ids = torch.from_numpy(encoded.ids)
    _, expected = reference_vectors(model, FAMILIES[name], random_pixels(), ids)
    assert float((bundle.encode_texts(CAPTIONS) - expected).abs().max()) < 1e-5


def test_the_scale_of_aimv2_is_limited_as_in_its_forward_pass(models, peer, tmp_path):
    _, folder = models("aimv2")
    tensors = load_file(folder / "model.safetensors") | {"logit_scale": torch.tensor(6.0)}
    target = rewrite_config(folder, tmp_path)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    assert build_bundle(read_transformers(target), target).logit_scale == pytest.approx(100.0)


@pytest.mark.parametrize("name", ["flava", "groupvit"])
def test_a_folder_of_zebra_gives_the_same_vectors(models, with_tokenizer, tmp_path, name):
    bundle = zebra.load(with_tokenizer(name))
    bundle.save(tmp_path / "saved")
    again = zebra.load(tmp_path / "saved")  # compares golden vectors
    assert again.fingerprint == bundle.fingerprint != ""
    assert torch.equal(again.encode_texts(CAPTIONS), bundle.encode_texts(CAPTIONS))
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(again.encode_pixels(pixels), bundle.encode_pixels(pixels))


@pytest.mark.parametrize(
    ("name", "precision"), [("tipsv2", "bf16"), ("tipsv2", "int8"), ("aimv2", "int8"), ("align", "bf16")]
)
def test_smaller_precisions_stay_close(models, name, precision):
    _, folder = models(name)
    bundle = build_bundle(read_transformers(folder), folder)
    small = bundle.to_precision(precision)
    pixels, ids = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), padded_ids(FAMILIES[name].pad_id)
    with torch.inference_mode():
        pairs = [
            (small.encode_pixels(pixels), bundle.encode_pixels(pixels)),
            (small.model.encode_texts(ids), bundle.model.encode_texts(ids)),
        ]
    # Normalization without a batch makes the random ALIGN sensitive to rounding.
    assert all(float((a * b).sum(dim=1).min()) > (0.98 if name == "align" else 0.999) for a, b in pairs)


def test_int8_is_refused_for_convolutions(models):
    _, folder = models("align")
    with pytest.raises(ConfigError, match="image tower is made of convolutions"):
        build_bundle(read_transformers(folder), folder).to_precision("int8")


def test_texts_of_any_length_are_exported_to_onnx(with_tokenizer, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    bundle, path = zebra.load(with_tokenizer("tipsv2")), tmp_path / "text_model.onnx"
    write_text_graph(bundle.model, path)
    session = onnxruntime.InferenceSession(path)
    for ids in (padded_ids(0), padded_ids(0)[:, :4]):
        (actual,) = session.run(None, {"input_ids": ids.numpy()})
        assert np.abs(actual - bundle.model.encode_texts(ids).detach().numpy()).max() < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_is_trained_and_checkpointing_changes_no_gradient(models, name):
    _, folder = models(name)
    family = FAMILIES[name]
    pixels, ids = random_pixels(), padded_ids(family.pad_id)

    def gradients(is_checkpointed):
        model = build_bundle(read_transformers(folder), folder).model.train()
        freeze(model, "all")  # fixes the statistics of batch norm, as fine-tuning does
        if is_checkpointed:
            apply_activation_checkpointing(model)
        torch.manual_seed(0)  # GroupViT draws noise in training
        image, text, scale = model(pixels, ids)
        F.cross_entropy(scale * image @ text.T, torch.arange(len(image))).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    plain, checkpointed = gradients(False), gradients(True)
    assert [name for name, gradient in plain.items() if gradient is None] == []
    for name in plain:
        torch.testing.assert_close(checkpointed[name], plain[name])


@pytest.mark.parametrize("name", ["align", "aimv2", "groupvit"])
def test_layers_have_depths_and_adapters(models, name):
    _, folder = models(name)
    model = build_bundle(read_transformers(folder), folder).model
    depths = layer_depths(model)
    assert depths.keys() == {name for name, _ in model.named_parameters()}
    blocks = {"align": 7, "aimv2": 2, "groupvit": 3}[name]
    stem = next(depth for parameter, depth in depths.items() if parameter.startswith("visual.trunk.embeddings."))
    assert stem == blocks + 1 == max(depth for parameter, depth in depths.items() if parameter.startswith("visual."))
    target_modules = ["query" if name == "align" else "q_proj"]
    apply_lora(model, ["text"], rank=2, alpha=4.0, target_modules=target_modules)
    assert len(get_adapters(model)) == 2
    assert sum(parameter.requires_grad for parameter in model.text.parameters()) == 4


def test_parts_that_are_not_read_are_named(models):
    _, folder = models("blip for retrieval")
    with pytest.warns(UserWarning, match="not read: BLIP's cross-attention of texts to images and its matching head"):
        build_bundle(read_transformers(folder), folder)


def rewrite_config(folder, target, **settings):
    """Copy a model's folder with other settings; None deletes a setting."""
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    raw = json.loads((target / "config.json").read_text()) | settings
    (target / "config.json").write_text(json.dumps({k: v for k, v in raw.items() if v is not None}))
    return target


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("blip", {"model_type": "blip-2"}, "an image has no single embedding"),
        ("blip", {"architectures": ["BlipForConditionalGeneration"]}, "zebra reads BlipModel, BlipForImageTextRet"),
        ("blip", {"architectures": ["BlipForImageTextRetrieval"]}, "lacks the tensor|has a tensor"),
        ("aimv2", {"vision_config": {**VISION, "is_native": True}}, "is_native is True"),
        ("aimv2", {"text_config": {**TEXT, "eos_token_id": 7}}, "end at the largest id"),
        ("tipsv2", {"text_config": {**TEXT, "num_hidden_layers": 10**9}}, "the limit is 256"),
        ("tipsv2", {"text_config": {**TEXT, "hidden_size": "wide"}}, "refuses the config"),
        ("tipsv2", {"text_config": {**TEXT, "hidden_size": 48, "num_attention_heads": 5}}, "refuses the config"),
        ("tipsv2", {"text_config": {**TEXT, "vocab_size": 99}}, "shape"),
        ("flava", {"text_config": {**TEXT, "num_hidden_layers": 200}}, "too few"),
        ("flava", {"image_config": {**VISION, "image_size": 64}}, "image size 32, but .* has 64"),
        ("flava", {"projection_dim": 30}, "shape"),
        ("groupvit", {"model_type": "grupvit"}, "model_type 'grupvit' is not supported"),
    ],
)
def test_a_config_that_does_not_suit_is_refused(models, tmp_path, name, settings, message):
    _, folder = models(name)
    target = rewrite_config(folder, tmp_path, **settings)
    with pytest.raises(WeightsError, match=message):
        build_bundle(read_transformers(target), target)
