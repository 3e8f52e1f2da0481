"""A model in transformers' layout computes the same function in both libraries, read or written by zebra.

Reference: transformers 5.24, `CLIPModel`, `SiglipModel`, their processors on the Pillow backend, and
the zero-shot pipeline. Models are random, with noise on every parameter: published weights need a network, and the
zero biases and unit gains of a new model would hide a misplaced tensor.
Tolerance: 1e-5 on unit vectors and 1e-4 on logits, since the kernels add in another order; none on bytes and weights.
"""

import json
import random

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Rust
from torch.nn import functional as F

from zebra.config.image_towers import NaflexVisionConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.transformers.layout import read_transformers, write_transformers
from zebra.pretrained.weights import build_model, published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer

from ..tiny_model import build_siglip2_tokenizer

VOCABULARY = ["horse", "striped", "zebra", "grass", "photo", "of", "a", "running", "café", "!", "12", "snow"]
IDS = 540
"""Size of the vocabulary, whose last two ids begin and end texts."""
CAPTIONS = ["a photo of a striped horse on the grass", "a zebra running in the snow, isn't it?"] * 5
LABELS = ["horse", "striped horse", "zebra in the snow", "grass"]
TEMPLATE = "This is a photo of {}."
SMALL = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
IMAGE_SETTINGS = {"image_size": 32, "patch_size": 8}
CLIPS = {
    "quick_gelu": {"hidden_act": "quick_gelu"},
    "gelu": {"hidden_act": "gelu"},
    "another epsilon": {"layer_norm_eps": 1e-3},
    "odd widths": {"hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 3, "num_hidden_layers": 1},
}


@pytest.fixture(scope="module")
def peer(transformers):
    """Return transformers without its progress bars and warnings."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(CAPTIONS, IDS, 77)


@pytest.fixture(scope="module")
def padded():
    """Return a SigLIP tokenizer: a Unigram vocabulary that ends and pads with "</s>"."""
    rust = Rust(models.Unigram())
    rust.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False)
    rust.train_from_iterator(CAPTIONS, trainer)
    return SiglipTokenizer(rust, 64, eos_token="</s>", pad_token="</s>", cleaning="siglip")


def texts(count=9):
    """Return texts of 0 to 100 words."""
    dice = random.Random(0)
    return [" ".join(dice.choices(VOCABULARY, k=round(100 * i / (count - 1)))) for i in range(count)]


def noisy(model):
    """Add noise to every parameter, so that none is zero or one."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def saved(peer, folder, model, kind="CLIP", size=32, **options):
    """Save a model of transformers with its image processor."""
    model.save_pretrained(folder, **options)
    processors = {
        "CLIP": lambda: peer.CLIPImageProcessorPil(size=size, crop_size=size),
        "Siglip": lambda: peer.SiglipImageProcessorPil(size={"height": size, "width": size}),
    }
    processors[kind]().save_pretrained(folder)
    return folder


def clip(peer, tower, text=None, vision=None, **settings):
    eos, kind = settings.pop("eos_token_id", IDS - 1), settings.pop("kind", "CLIP")
    ends = {"bos_token_id": IDS - 2, "eos_token_id": eos, "pad_token_id": IDS - 1}
    torch.manual_seed(0)
    config = getattr(peer, f"{kind}Config")(
        text_config={**SMALL, "vocab_size": IDS, **tower, **ends, **(text or {})},
        vision_config={**SMALL, **IMAGE_SETTINGS, **tower, **(vision or {})},
        projection_dim=24,
    )
    return noisy(getattr(peer, f"{kind}Model")(config))


def siglip(peer, text=None, vision=None, **tower):
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1}
    config = peer.SiglipConfig(
        text_config={**SMALL, "vocab_size": 100, **ends, **tower, **(text or {})},
        vision_config={**SMALL, **IMAGE_SETTINGS, **tower, **(vision or {})},
    )
    return noisy(peer.SiglipModel(config))


def opened(folder):
    """Return a folder's checkpoint and model as read by zebra."""
    checkpoint = read_transformers(folder)
    return checkpoint, build_model(checkpoint.config, checkpoint.tensors, str(folder)).eval()


@torch.no_grad()
def differences(theirs, ours, pixels, tokens):
    """Return the largest differences of unit vectors of images and texts, and of logits."""
    reference = theirs(input_ids=tokens, pixel_values=pixels)
    image_BE, text_BE, scale = ours(pixels, tokens)
    logits = scale * image_BE @ text_BE.T + (0 if ours.logit_bias is None else ours.logit_bias)
    assert reference.text_embeds.std(dim=0).max() > 0.01  # the vectors depend on the texts
    return [
        float((a - b).abs().max())
        for a, b in [
            (image_BE, reference.image_embeds),
            (text_BE, reference.text_embeds),
            (logits, reference.logits_per_image),
        ]
    ]


def agree(difference):
    image, text, logits = difference
    return image < 1e-5 and text < 1e-5 and logits < 1e-4


def pixels(size=32, seed=0, count=5):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tower", CLIPS)
def test_a_clip_model_is_the_same_function(peer, tokenizer, tmp_path, tower):
    theirs = clip(peer, CLIPS[tower])
    _, ours = opened(saved(peer, tmp_path, theirs))
    tokens = torch.from_numpy(tokenizer.encode(texts(), truncate=True).ids)
    assert agree(differences(theirs, ours, pixels(), tokens))


def test_towers_may_differ_in_everything(peer, tokenizer, tmp_path):
    theirs = clip(
        peer,
        {},
        text={"hidden_size": 48, "num_hidden_layers": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-4},
        vision={"num_hidden_layers": 3, "patch_size": 4, "num_attention_heads": 4, "intermediate_size": 70},
    )
    _, ours = opened(saved(peer, tmp_path, theirs))
    tokens = torch.from_numpy(tokenizer.encode(texts(), truncate=True).ids)
    assert agree(differences(theirs, ours, pixels(), tokens))


def test_the_padding_of_either_library_changes_no_vector(peer, tokenizer, tmp_path):
    """transformers pads with the end token, zebra with 0."""
    theirs = clip(peer, {})
    _, ours = opened(saved(peer, tmp_path, theirs))
    encoded = tokenizer.encode(texts(), truncate=True)
    rows = torch.from_numpy(encoded.ids)
    filled = rows.clone()
    for row, length in zip(filled, encoded.lengths, strict=True):
        row[length:] = tokenizer.eot_token_id
    with torch.no_grad():
        reference = theirs.get_text_features(input_ids=filled).pooler_output
        assert torch.allclose(ours.encode_texts(rows), F.normalize(reference, dim=-1), atol=1e-5)


def test_the_end_token_of_old_configs_means_the_largest_id(peer, tokenizer, tmp_path):
    """`eos_token_id` is 2 in OpenAI's repositories, although no text contains the id 2."""
    theirs = clip(peer, {}, eos_token_id=2)
    _, ours = opened(saved(peer, tmp_path, theirs))
    tokens = torch.from_numpy(tokenizer.encode(texts(), truncate=True).ids)
    assert agree(differences(theirs, ours, pixels(), tokens))


@pytest.mark.parametrize(("kind", "eos_id"), [("CLIP", 7), ("MetaClip2", 2), ("MetaClip2", IDS - 1)])
def test_texts_are_pooled_at_the_first_end_token_of_the_config(peer, tmp_path, kind, eos_id):
    """In MetaCLIP 2 the id 2 means itself. A text without the end token is pooled at its first token."""
    theirs = clip(peer, {}, eos_token_id=eos_id, kind=kind)
    _, ours = opened(saved(peer, tmp_path / "theirs", theirs))
    tokens = torch.randint(8, IDS - 1, (5, 77), generator=torch.Generator().manual_seed(0))
    tokens[1:, 30] = tokens[2:, 12] = tokens[3, 0] = eos_id
    assert agree(differences(theirs, ours, pixels(), tokens))


def test_a_metaclip_2_model_survives_a_round_trip(peer, tokenizer, tmp_path):
    theirs = clip(peer, {}, eos_token_id=2, kind="MetaClip2")
    checkpoint, _ = opened(saved(peer, tmp_path / "theirs", theirs))
    parts = {"config": checkpoint.config, "tensors": checkpoint.tensors, "preprocess": checkpoint.preprocess}
    write_transformers(tmp_path / "ours", tokenizer=tokenizer, **parts)
    again = peer.AutoModel.from_pretrained(tmp_path / "ours")
    assert type(again).__name__ == "MetaClip2Model"
    assert again.config.text_config.eos_token_id == 2
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in theirs.state_dict().items())
    assert read_transformers(tmp_path / "ours").config == checkpoint.config


def test_a_vit_b_32_of_full_size_is_the_same_function(peer, tmp_path):
    """transformers' defaults are those of ViT-B/32, so config.json contains almost nothing."""
    torch.manual_seed(0)
    theirs = noisy(peer.CLIPModel(peer.CLIPConfig()))
    _, ours = opened(saved(peer, tmp_path, theirs, size=224))
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    for row, length in zip(tokens, (2, 12), strict=True):
        row[0], row[1 : length - 1], row[length - 1] = 49_406, torch.arange(320, 318 + length), 49_407
    difference = differences(theirs, ours, pixels(224, count=2), tokens)
    (tmp_path / "model.safetensors").unlink()  # 600 MB that pytest would keep
    assert agree(difference)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"hidden_act": "gelu", "layer_norm_eps": 1e-3},
        {"hidden_size": 36, "intermediate_size": 50, "num_attention_heads": 3, "num_hidden_layers": 1},
        {"vision": {"image_size": 35}},  # three pixels at the edge are no complete patch
        {"text": {"hidden_size": 48, "projection_size": 32}},
    ],
    ids=["small", "gelu", "odd widths", "odd size", "projected text"],
)
def test_a_siglip_model_is_the_same_function(peer, padded, tmp_path, settings):
    theirs = siglip(peer, **settings)
    size = settings.get("vision", {}).get("image_size", 32)
    _, ours = opened(saved(peer, tmp_path, theirs, "Siglip", size))
    tokens = torch.from_numpy(padded.encode(texts(), truncate=True).ids)
    assert agree(differences(theirs, ours, pixels(size), tokens))


def test_shards_give_the_weights_of_one_file(peer, tmp_path):
    theirs = clip(peer, {})
    single = read_transformers(saved(peer, tmp_path / "single", theirs))
    shards = read_transformers(saved(peer, tmp_path / "shards", theirs, max_shard_size="40KB"))
    assert len(shards.files) > 4
    assert single.tensors.keys() == shards.tensors.keys()
    assert all(torch.equal(single.tensors[name], shards.tensors[name]) for name in single.tensors)


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_are_read_as_such_and_give_the_vectors_of_fp32(peer, tokenizer, tmp_path, precision):
    theirs = clip(peer, {}).to(precision)
    checkpoint, ours = opened(saved(peer, tmp_path, theirs))
    assert {tensor.dtype for tensor in checkpoint.tensors.values()} == {precision}
    tokens = torch.from_numpy(tokenizer.encode(texts(), truncate=True).ids)
    assert agree(differences(theirs.float(), ours, pixels(), tokens))


@pytest.mark.parametrize("model_type", ["clip", "siglip"])
def test_missing_keys_have_the_defaults_of_transformers(peer, tmp_path, model_type):
    """A minimal config.json fits the default model of transformers: names, shapes, activation and epsilon."""
    kind = {"clip": "CLIP", "siglip": "Siglip"}[model_type]
    default = getattr(peer, f"{kind}Config")()
    default.text_config.num_hidden_layers = default.vision_config.num_hidden_layers = 1
    with torch.device("meta"):
        theirs = getattr(peer, f"{kind}Model")(default)
    bare = {
        "model_type": model_type,
        "text_config": {"num_hidden_layers": 1},
        "vision_config": {"num_hidden_layers": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(bare))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    empty = {name: torch.empty(value.shape, dtype=torch.bfloat16) for name, value in theirs.state_dict().items()}
    torch.save(empty, tmp_path / "pytorch_model.bin")
    checkpoint, _ = opened(tmp_path)
    for ours, other in [
        (checkpoint.config.vision, default.vision_config),
        (checkpoint.config.text, default.text_config),
    ]:
        assert (ours.heads, ours.norm_eps) == (other.num_attention_heads, other.layer_norm_eps)
        assert ours.activation == {"gelu_pytorch_tanh": "gelu_tanh"}.get(other.hidden_act, other.hidden_act)
    processor = getattr(peer, f"{kind}ImageProcessorPil")()
    assert checkpoint.preprocess.mean == pytest.approx(processor.image_mean)
    assert checkpoint.preprocess.std == pytest.approx(processor.image_std)


def random_image(width, height, mode="RGB"):
    y, x = np.mgrid[0:height, 0:width]
    waves = [128 + 90 * np.sin(x / 3.0 + i) + 30 * np.cos(y / (2.0 + i)) for i in range(4)]
    image = Image.fromarray(np.stack(waves, axis=-1).clip(0, 255).astype(np.uint8), "RGBA")
    return image.convert(mode)


@pytest.mark.parametrize("kind", ["CLIP", "Siglip"])
@pytest.mark.parametrize("resample", [2, 3])
def test_images_are_preprocessed_byte_for_byte(peer, tmp_path, kind, resample):
    make = getattr(peer, f"{kind}ImageProcessorPil")
    theirs = (
        make(resample=resample, size=30, crop_size=30)
        if kind == "CLIP"
        else make(resample=resample, size={"height": 30, "width": 30})
    )
    sides = {"CLIP": clip, "Siglip": siglip}[kind](
        peer, vision={"image_size": 30, "patch_size": 6}, **({"tower": {}} if kind == "CLIP" else {})
    )
    sides.save_pretrained(tmp_path)
    theirs.save_pretrained(tmp_path)
    ours = read_transformers(tmp_path).preprocess
    for width, height in [(31, 64), (65, 33), (200, 90), (30, 30), (17, 23), (97, 96)]:
        for mode in ("RGB", "L", "RGBA", "P", "LA", "CMYK", "1"):
            image = random_image(width, height, mode)
            plain = theirs(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
            assert np.array_equal(plain, ours.resize_and_crop(image)), (width, height, mode)
            ready = torch.from_numpy(theirs(image)["pixel_values"][0])
            made = ours.normalize(torch.from_numpy(ours.resize_and_crop(image))[None])[0]
            assert torch.allclose(ready, made, atol=1e-5), (width, height, mode)


def bundle(tokenizer, text, vision, *, siglip=False, resize="shortest"):
    """Return a model of zebra."""
    torch.manual_seed(0)
    config = ModelConfig(embed_dim=32, image_size=32, vision=vision, text=text, logit_bias=siglip)
    preprocess = Preprocess(image_size=32, resize=resize, crop="floor", rgb="first", decode="reference")
    made = Bundle(noisy(CLIP(config)), tokenizer, preprocess)
    with torch.no_grad():
        made.model.logit_scale.fill_(3.0)  # so that scores differ clearly
        if siglip:
            made.model.logit_bias.fill_(-1.0)
    return made


def own(tokenizer, **preprocess):
    return bundle(
        tokenizer,
        TextConfig(width=64, layers=2, heads=2, vocab_size=tokenizer.vocab_size, context_length=77),
        VisionTransformerConfig(width=48, layers=2, heads=3, patch_size=8, mlp_width=100, activation="gelu"),
        **preprocess,
    )


def own_siglip(padded):
    return bundle(
        padded,
        SiglipTextConfig(width=48, layers=2, heads=2, vocab_size=padded.vocab_size),
        SiglipVisionConfig(width=32, layers=2, heads=2, patch_size=8),
        siglip=True,
        resize="squash",
    )


def exported(made, folder):
    write_transformers(
        folder,
        config=made.model.config,
        tensors=published_state_dict(made.model),
        preprocess=made.preprocess,
        tokenizer=made.tokenizer,
    )
    return folder


def ranks(answers):
    return {answer["label"]: answer["score"] for answer in answers}


@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_the_pipeline_gives_the_scores_of_classify(peer, tokenizer, tmp_path, resize):
    """Padding a small vocabulary with its end token does not change the pooling."""
    made = own(tokenizer, resize=resize)
    folder = exported(made, tmp_path / "model")
    processor = peer.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pipeline = peer.pipeline(
        "zero-shot-image-classification", model=str(folder), image_processor=processor, device="cpu"
    )
    for image in (random_image(90, 61), random_image(32, 32), random_image(40, 77, "L")):
        theirs = ranks(pipeline(image, candidate_labels=LABELS, hypothesis_template=TEMPLATE))
        (ours,) = made.classify([image], LABELS, [TEMPLATE])
        assert theirs == pytest.approx({prediction.label: prediction.score for prediction in ours}, abs=1e-5)
        assert max(theirs.values()) - min(theirs.values()) > 0.01


def test_the_pipeline_gives_the_scores_of_a_siglip_model(peer, padded, tmp_path):
    made = own_siglip(padded)
    folder = exported(made, tmp_path / "model")
    pipeline = peer.pipeline("zero-shot-image-classification", model=str(folder), device="cpu")
    theirs = ranks(pipeline(random_image(32, 32), candidate_labels=LABELS, hypothesis_template=TEMPLATE))
    (ours,) = made.classify([random_image(32, 32)], LABELS, [TEMPLATE])
    assert theirs == pytest.approx({prediction.label: prediction.score for prediction in ours}, abs=1e-5)
    assert max(theirs.values()) - min(theirs.values()) > 1e-3


def test_the_pipeline_opens_a_folder_without_a_warning(peer, tokenizer, tmp_path):
    made = own(tokenizer)
    pipeline = peer.pipeline("zero-shot-image-classification", model=str(exported(made, tmp_path / "model")))
    theirs = ranks(pipeline(random_image(32, 32), candidate_labels=LABELS, hypothesis_template=TEMPLATE))
    (ours,) = made.classify([random_image(32, 32)], LABELS, [TEMPLATE])
    assert theirs == pytest.approx({prediction.label: prediction.score for prediction in ours}, abs=1e-5)


def test_every_part_opens_by_its_automatic_class(peer, tokenizer, tmp_path):
    folder = exported(own(tokenizer), tmp_path / "model")
    model = peer.AutoModel.from_pretrained(folder)
    assert type(model).__name__ == "CLIPModel"
    assert model.dtype == torch.float32
    assert type(peer.AutoProcessor.from_pretrained(folder)).__name__ == "CLIPProcessor"
    assert type(peer.CLIPProcessor.from_pretrained(folder)).__name__ == "CLIPProcessor"
    assert type(peer.AutoTokenizer.from_pretrained(folder)).__name__ == "CLIPTokenizer"


@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json merges.txt"])
def test_texts_get_the_same_ids(peer, tokenizer, tmp_path, files):
    """Both libraries read tokenizer.json, and the older pair of files."""
    folder = exported(own(tokenizer), tmp_path / "model")
    for name in {"tokenizer.json", "vocab.json", "merges.txt"} - set(files.split()):
        (folder / name).unlink()
    theirs = peer.AutoTokenizer.from_pretrained(folder)
    for text in [*texts(), "It's  12 ZEBRAS & horses!!!", "東京 🦓"]:
        row = tokenizer.encode([text], truncate=True).ids[0].tolist()
        assert theirs(text, truncation=True)["input_ids"] == row
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (IDS - 2, IDS - 1, IDS - 1)
    assert theirs.model_max_length == 77


def test_siglip_texts_get_the_same_ids_without_a_mask(peer, padded, tmp_path):
    theirs = peer.AutoTokenizer.from_pretrained(exported(own_siglip(padded), tmp_path / "model"))
    rows = theirs(texts(), padding="max_length", max_length=64, truncation=True)
    assert rows["input_ids"] == padded.encode(texts(), truncate=True).ids.tolist()
    assert set(rows) == {"input_ids"}


@pytest.mark.filterwarnings("ignore:transformers' AutoProcessor gives every siglip2 model 256 patches")
def test_an_exported_naflex_model_is_the_same_function(peer, tmp_path):
    torch.manual_seed(0)
    tokenizer = build_siglip2_tokenizer()
    config = ModelConfig(
        embed_dim=32,
        image_size=32,
        vision=NaflexVisionConfig(width=32, layers=2, heads=2, patch_size=8, mlp_width=50),
        text=SiglipTextConfig(width=48, layers=2, heads=2, vocab_size=tokenizer.vocab_size),
        logit_bias=True,
    )
    preprocess = Preprocess(
        image_size=32, resize="naflex", patch_size=8, max_num_patches=20, interpolation="bilinear", rgb="first"
    )
    made = Bundle(noisy(CLIP(config)), tokenizer, preprocess)
    folder = exported(made, tmp_path / "model")
    model, report = peer.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert type(model).__name__ == "Siglip2Model"
    assert not any(report.values()), report
    processor = peer.AutoProcessor.from_pretrained(folder)
    assert type(processor).__name__ == "Siglip2Processor"
    assert processor(text=texts())["input_ids"] == tokenizer.encode(texts(), truncate=True).ids.tolist()
    images = [random_image(90, 30), random_image(20, 100), random_image(64, 64)]
    inputs = peer.AutoImageProcessor.from_pretrained(folder, backend="pil")(images, return_tensors="pt")
    with torch.no_grad():
        reference = F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1)
    assert torch.allclose(made.encode_images(images), reference, atol=1e-5)
    read = read_transformers(folder)
    assert (read.config, read.preprocess.max_num_patches) == (config, 20)
    assert all(torch.equal(value, read.tensors[name]) for name, value in published_state_dict(made.model).items())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_transformers_reads_every_weight_that_was_written(peer, tokenizer, padded, tmp_path, kind):
    made = own(tokenizer) if kind == "clip" else own_siglip(padded)
    folder = exported(made, tmp_path / "model")
    model, report = peer.AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    words = made.tokenizer.encode(texts(), truncate=True).ids
    assert agree(differences(model, made.model.eval(), pixels(), torch.from_numpy(words)))
