"""open_clip and zebra compute the same function from the same folder, in both directions.

Reference: open_clip 3.3.0 with timm 1.0.31 on torch 2.13.0, models with random weights; gains and biases have noise, so
that no 0 or 1 hides a misplaced tensor. Folders are written by open_clip and read by zebra, or written by zebra and
opened by open_clip as `local-dir:`.
Tolerance: 1e-5 on components of unit vectors and 1e-4 on logits, both fp32: the order of sums differs (fused
attention, texts without padding), nothing else. Names, configs and the bits of the weights are equal exactly.
Depth: towers have one or two layers, except one RN50 and one ViT-B/32 of full size; widths, heads, patches and image
sizes are those of published models. timm's towers are shallow because its constructor gets a depth; the meaning of its
names and the shapes of the largest models are compared at full depth without weights.
"""

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pytest
import tokenizers
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from zebra.config.image_towers import ResNetConfig, SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import CocaTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.transformer import ACTIVATION_FUNCTIONS
from zebra.pretrained.open_clip import config as open_clip_config
from zebra.pretrained.open_clip import timm as open_clip_timm
from zebra.pretrained.open_clip import timm_vit as open_clip_timm_vit
from zebra.pretrained.open_clip.layout import convert_from_open_clip, read_open_clip, write_open_clip
from zebra.pretrained.weights import build_model, published_state_dict
from zebra.text import BPETokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.text.tokenizers import find_tokenizer

T = TypeVar("T", bound=nn.Module)

WORDS = ("zebra", "horse", "grass", "black", "white", "running", "photo", "two", "under", "tree", "the", "of", "and")
CAPTIONS = [
    " ".join(WORDS[(7 * word + word // 9) % len(WORDS)] for word in range(length)) for length in range(0, 101, 25)
]
IMAGES = 2
SHALLOW = 2
SMALL_TEXT = {"context_length": 77, "vocab_size": 514, "width": 64, "heads": 2, "layers": 2}
SIGLIP_TEXT = {
    "context_length": 64,
    "vocab_size": 600,
    "width": 64,
    "heads": 2,
    "layers": 2,
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}


@pytest.fixture(autouse=True)
def _tidy(tmp_path: Path) -> Iterator[None]:
    """Delete weights at once, because pytest would keep a gigabyte of them for each of its last three runs."""
    yield
    shutil.rmtree(tmp_path)


def noisy(model: T) -> T:
    """Add noise to parameters that are initialized with 0 or 1, and sharpen attention; matrices are random already."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1 and not name.startswith("logit"):
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            if name.endswith("running_var"):
                tensor.abs_().mul_(0.2)  # otherwise signals fade in an untrained ResNet
            if "attn" in name and tensor.ndim == 2:
                tensor.mul_(3)
    return model.eval()


def tokens(text_config: TextTowerConfig) -> torch.Tensor:
    """Return rows of ids as from open_clip's tokenizers: SOT … EOT and padding, or for SigLIP a text padded with 1."""
    vocab_size, context_length = text_config.vocab_size, text_config.context_length
    is_siglip = isinstance(text_config, SiglipTextConfig) and text_config.pooling == "last"
    eot = (text_config.eos_id if isinstance(text_config, TextConfig) else None) or vocab_size - 1
    generator = torch.Generator().manual_seed(1)
    rows = torch.full((len(CAPTIONS), context_length), 1 if is_siglip else 0)
    for row, caption in zip(rows, CAPTIONS, strict=True):
        length = min(len(caption.split()), context_length - 2)
        text = torch.randint(3, vocab_size - 2, (length,), generator=generator)
        if isinstance(text_config, CocaTextConfig):
            text[length // 2 : length // 2 + 2] = 0  # "!" has the id of the padding
        if not is_siglip:
            row[: length + 2] = torch.tensor([vocab_size - 2, *text.tolist(), eot])
        else:
            row[:length] = text
    return rows


def random_images(size: int) -> torch.Tensor:
    return torch.randn(IMAGES, 3, size, size, generator=torch.Generator().manual_seed(2))


def assert_equal_function(peer: nn.Module, own: CLIP) -> None:
    config = own.config
    images = random_images(config.image_size)
    rows = tokens(config.text)
    own.eval()
    with torch.inference_mode():
        image_BE, text_BE = own.encode_images(images), own.encode_texts(rows)
        peer_image_BE, peer_text_BE = peer.encode_image(images, True), peer.encode_text(rows, True)
        logits = peer.get_logits(images, rows)[0] if hasattr(peer, "get_logits") else None
        bias = own.logit_bias if own.logit_bias is not None else 0.0
        own_logits = own.logit_scale.exp() * image_BE @ text_BE.T + bias
    torch.testing.assert_close(image_BE, peer_image_BE, atol=1e-5, rtol=0)
    torch.testing.assert_close(text_BE, peer_text_BE, atol=1e-5, rtol=0)
    if logits is not None:
        torch.testing.assert_close(own_logits, logits, atol=1e-4, rtol=0)
    assert (peer_image_BE[0] - peer_image_BE[1]).abs().max() > 1e-3, "the vectors must depend on the images"
    assert (peer_text_BE[0] - peer_text_BE[-1]).abs().max() > 1e-3, "the texts must matter"


def peer_model(
    open_clip: ModuleType, folder: Path, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any] | None = None
) -> nn.Module:
    """Let open_clip build a config, add noise, and save the files of its `save_for_hf` except the tokenizer."""
    from open_clip.push_to_hf_hub import save_config_for_hf

    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg or {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = noisy(open_clip.create_model(f"local-dir:{folder}"))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", model_cfg)
    return model


def known(open_clip: ModuleType, name: str, layers: int | list[int] | None = None) -> dict[str, Any]:
    """Return the config that open_clip publishes under a name, with fewer layers and a small text tower."""
    cfg: dict[str, Any] = open_clip.get_model_config(name)
    if layers is not None:
        cfg["vision_cfg"]["layers"] = layers
        cfg["text_cfg"] |= {"layers": 1, "vocab_size": 1000}
    return cfg


def read(folder: Path) -> CLIP:
    checkpoint = read_open_clip(folder)
    return build_model(checkpoint.config, checkpoint.tensors, str(folder))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("RN50", None),
        ("RN50x4-quickgelu", [1, 2, 1, 1]),
        ("ViT-B-32-quickgelu", None),
        ("ViT-B-32", SHALLOW),
        ("ViT-B-16", SHALLOW),
        ("ViT-L-14-quickgelu", 1),
    ],
)
def test_a_clip_model_of_open_clip_gives_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, name: str, layers: int | list[int] | None
) -> None:
    peer = peer_model(open_clip, tmp_path, known(open_clip, name, layers))
    assert_equal_function(peer, read(tmp_path))


@pytest.mark.parametrize("name", ["RN50x64", "ViT-H-14", "ViT-g-14", "ViT-bigG-14", "ViT-gopt-16-SigLIP2-384"])
def test_the_largest_models_have_open_clips_shapes(open_clip: ModuleType, name: str) -> None:
    config, _ = open_clip_config.parse_open_clip_config({"model_cfg": open_clip.get_model_config(name)})
    with torch.device("meta"):
        peer = open_clip.create_model(name, device="meta")
        build_model(
            config, convert_from_open_clip(peer.state_dict(), config, Path(name)), name
        )  # compares names and shapes


@pytest.mark.parametrize(
    "changes",
    [
        {"vision_cfg": {"head_width": 24, "mlp_ratio": 2.7}},
        {"vision_cfg": {"norm_kwargs": {"eps": 1e-3}}, "text_cfg": {"norm_kwargs": {"eps": 1e-2}}},
        {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
        {"text_cfg": {"act_kwargs": {"approximate": "tanh"}, "mlp_ratio": 3.7362}},
        {"vision_cfg": {"patch_dropout": 0.5, "image_size": [64, 64]}},
        {"text_cfg": {"context_length": 16, "heads": 4}},
        {"custom_text": True},
        {"custom_text": True, "quick_gelu": True, "nonscalar_logit_scale": True, "init_logit_bias": -7.0},
        {"init_logit_scale": 1.5, "init_logit_bias": -10},
        {"text_cfg": SIGLIP_TEXT},
        {"text_cfg": SIGLIP_TEXT | {"proj_type": "none", "width": 40}},
        {"text_cfg": {"no_causal_mask": True, "pool_type": "last"}},
        {"text_cfg": {"no_causal_mask": True}},
        {"custom_text": True, "text_cfg": {"no_causal_mask": True, "proj_type": "none", "width": 40}},
        {"text_cfg": {"pool_type": "eos", "eos_id": 2}},
        {"custom_text": True, "text_cfg": {"embed_cls": True}},
        {"vision_cfg": {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}},
        {"vision_cfg": {"pos_embed_type": "sin_cos_2d", "final_ln_after_pool": True}},
        {"vision_cfg": {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 5}},
        {"embed_dim": 192, "vision_cfg": {"attentional_pool": True}},  # open_clip then stacks q, k and v
    ],
    ids=lambda changes: json.dumps(changes)[:60],
)
def test_every_supported_key_has_the_meaning_of_open_clip(
    open_clip: ModuleType, tmp_path: Path, changes: dict[str, Any]
) -> None:
    cfg: dict[str, Any] = {
        "embed_dim": 40,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 192, "patch_size": 16},
        "text_cfg": SMALL_TEXT,
    }
    for key, value in changes.items():
        cfg[key] = cfg[key] | value if isinstance(value, dict) else value
    peer = peer_model(open_clip, tmp_path, cfg)
    assert_equal_function(peer, read(tmp_path))


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch, open_clip: ModuleType) -> Callable[[int], None]:
    """Return a function that sets the depth of timm's towers and of zebra's table of them."""
    import timm

    def set_depth(depth: int) -> None:
        monkeypatch.setattr(timm, "create_model", functools.partial(timm.create_model, depth=depth))
        make_tables_shallow(monkeypatch, depth)

    return set_depth


def make_tables_shallow(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    for table in (open_clip_timm.TIMM_TOWERS, open_clip_timm_vit.TIMM_VITS):
        for name, (tower, size) in table.items():
            monkeypatch.setitem(table, name, (replace(tower, layers=depth), size))


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-B-32-SigLIP2-256", "ViT-SO400M-14-SigLIP-384"])
def test_a_siglip_model_of_open_clip_gives_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, shallow: Callable[[int], None], name: str
) -> None:
    shallow(1)
    cfg: dict[str, Any] = open_clip.get_model_config(name)
    cfg["text_cfg"] |= {"layers": 1, "vocab_size": 1000}
    squash = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    peer = peer_model(open_clip, tmp_path, cfg, squash)
    assert_equal_function(peer, read(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "vit_large_patch16_siglip_256",
        "vit_large_patch16_siglip_512",
        "vit_so400m_patch16_siglip_256",
        "vit_giantopt_patch16_siglip_256",
    ],
)
def test_the_other_shapes_of_timms_towers_give_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, shallow: Callable[[int], None], name: str
) -> None:
    tower, size = open_clip_timm.TIMM_TOWERS[name]
    shallow(1)
    cfg = {
        "embed_dim": tower.width,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": size, "timm_model_name": name, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": SIGLIP_TEXT | {"layers": 1},
    }
    peer = peer_model(open_clip, tmp_path, cfg)
    image = random_images(size)[:1]
    with torch.inference_mode():
        own_BE, peer_BE = read(tmp_path).eval().encode_images(image), peer.encode_image(image, True)
    torch.testing.assert_close(own_BE, peer_BE, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(open_clip_timm.TIMM_TOWERS))
def test_the_table_has_the_tower_that_timm_builds_for_every_name(open_clip: ModuleType, name: str) -> None:
    import timm

    tower, size = open_clip_timm.TIMM_TOWERS[name]
    config = ModelConfig(
        embed_dim=tower.width, image_size=size, vision=tower, text=SiglipTextConfig(width=64, layers=1, heads=1)
    )
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=0, global_pool="map")
        own = CLIP(config).visual.state_dict()
    theirs = {f"visual.trunk.{key}": tensor for key, tensor in trunk.state_dict().items()}
    mapped = open_clip_timm.convert_from_timm(theirs, tower.layers)
    assert {key: tensor.shape for key, tensor in mapped.items()} == {
        f"visual.{key}": tensor.shape for key, tensor in own.items()
    }
    assert trunk.blocks[0].attn.num_heads == trunk.attn_pool.num_heads == tower.heads
    assert trunk.patch_embed.img_size == (size, size)
    norms = (trunk.norm, trunk.blocks[0].norm1, trunk.attn_pool.norm)
    assert {norm.eps for norm in norms} == {tower.norm_eps}
    x = torch.linspace(-4, 4, 50)
    expected = ACTIVATION_FUNCTIONS[tower.activation](x)
    assert torch.equal(trunk.blocks[0].mlp.act(x), expected)
    assert torch.equal(trunk.attn_pool.mlp.act(x), expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"timm_model_name": "vit_large_patch14_clip_224", "timm_pool": "token", "timm_proj": None},
        {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear"},
        {"timm_model_name": "vit_small_patch32_224", "timm_pool": "token", "timm_proj": ""},
        {
            "timm_model_name": "vit_base_patch32_clip_quickgelu_224",
            "timm_pool": "token",
            "timm_proj": "linear",
            "timm_proj_bias": True,
        },
    ],
    ids=lambda settings: settings["timm_model_name"],
)
def test_a_plain_vit_of_timm_gives_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, shallow: Callable[[int], None], settings: dict[str, Any]
) -> None:
    shallow(1)
    cfg = {"embed_dim": 24, "vision_cfg": settings, "text_cfg": SMALL_TEXT | {"layers": 1}}
    assert_equal_function(peer_model(open_clip, tmp_path, cfg), read(tmp_path))


ONE_VIT_PER_KIND = {replace(tower, patch_size=16): name for name, (tower, _) in open_clip_timm_vit.TIMM_VITS.items()}
"""Names by everything but the sizes of patches and images."""


def test_every_plain_vit_of_the_table_has_the_image_size_of_timm(open_clip: ModuleType) -> None:
    import timm

    sizes = {name: timm.get_pretrained_cfg(name).input_size for name in open_clip_timm_vit.TIMM_VITS}
    assert sizes == {name: (3, size, size) for name, (_, size) in open_clip_timm_vit.TIMM_VITS.items()}


@pytest.mark.parametrize("name", ONE_VIT_PER_KIND.values())
def test_the_table_has_the_plain_vit_that_timm_builds_for_every_name(open_clip: ModuleType, name: str) -> None:
    import timm

    tower, size = open_clip_timm_vit.TIMM_VITS[name]
    config = ModelConfig(embed_dim=24, image_size=size, vision=replace(tower, projection_bias=True), text=TINY_TEXT)
    with torch.device("meta"):
        trunk = timm.create_model(name, num_classes=24)
        own = CLIP(config).visual.state_dict()
    theirs = {f"visual.trunk.{key}": tensor for key, tensor in trunk.state_dict().items()}
    mapped = open_clip_timm_vit.convert_vit_from_timm(theirs, tower.layers)
    assert {key: tensor.shape for key, tensor in mapped.items()} == {
        f"visual.{key}": tensor.shape for key, tensor in own.items()
    }
    assert trunk.global_pool == "token"
    assert trunk.blocks[0].attn.num_heads == tower.heads
    assert trunk.patch_embed.img_size == (size, size)
    assert {trunk.norm.eps, trunk.blocks[0].norm1.eps} == {tower.norm_eps}
    x = torch.linspace(-4, 4, 50)
    torch.testing.assert_close(trunk.blocks[0].mlp.act(x), ACTIVATION_FUNCTIONS[tower.activation](x))


def test_a_coca_model_gives_the_vectors_of_open_clip_without_its_decoder(open_clip: ModuleType, tmp_path: Path) -> None:
    cfg: dict[str, Any] = open_clip.get_model_config("coca_ViT-B-32")
    cfg["vision_cfg"] |= {"layers": 1, "image_size": 64}
    cfg["text_cfg"] |= {"layers": 2, "vocab_size": 600}
    cfg["multimodal_cfg"] |= {"layers": 1, "vocab_size": 600}
    peer = peer_model(open_clip, tmp_path, cfg)
    assert_equal_function(peer, read(tmp_path))
    assert "decoder of captions" in read_open_clip(tmp_path).unused
    own = read(tmp_path).eval()
    rows = tokens(own.config.text)
    with torch.inference_mode():
        expected_BE = peer.encode_text(rows, True)
        without_padding_BE = own.encode_texts(rows[:1, : int((rows[0] != 0).sum())])
        with_some_BE = own.encode_texts(rows[:2, :40])
    torch.testing.assert_close(without_padding_BE, expected_BE[:1], atol=1e-5, rtol=0)
    torch.testing.assert_close(with_some_BE, expected_BE[:2], atol=1e-5, rtol=0)


def test_short_rows_of_a_bidirectional_tower_are_padded_as_by_clips_tokenizer(
    open_clip: ModuleType, tmp_path: Path
) -> None:
    cfg = {
        "embed_dim": 40,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": SMALL_TEXT | {"no_causal_mask": True},
    }
    peer, own = peer_model(open_clip, tmp_path, cfg), read(tmp_path).eval()
    rows = tokens(own.config.text)[:1]
    with torch.inference_mode():
        short_BE = own.encode_texts(rows[:, : int((rows != 0).sum())])
        torch.testing.assert_close(short_BE, peer.encode_text(rows, True), atol=1e-5, rtol=0)


def test_half_precision_and_pickled_shards_are_read(open_clip: ModuleType, tmp_path: Path) -> None:
    cfg = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": SMALL_TEXT | {"layers": 1},
    }
    peer = peer_model(open_clip, tmp_path, cfg)
    (tmp_path / "open_clip_model.safetensors").unlink()
    halves = {name: tensor.half() for name, tensor in peer.state_dict().items()}
    names = sorted(halves)
    shards = {"a.bin": names[::2], "b.bin": names[1::2]}
    for shard, held in shards.items():
        torch.save({name: halves[name] for name in held}, tmp_path / shard)
    index = {"weight_map": {name: shard for shard, held in shards.items() for name in held}}
    (tmp_path / "open_clip_pytorch_model.bin.index.json").write_text(json.dumps(index))
    peer.load_state_dict(halves)
    assert read_open_clip(tmp_path).tensors["visual.proj"].dtype == torch.float16
    assert_equal_function(peer, read(tmp_path))


# --- writing ---

TINY_TEXT = TextConfig(width=64, layers=2, heads=2, vocab_size=600, context_length=32)
TINY_BIDIRECTIONAL = SiglipTextConfig(width=64, layers=2, heads=2, vocab_size=600, context_length=16)
TINY_VIT = VisionTransformerConfig(width=96, layers=2, heads=3, patch_size=8)
OUTWARD = {
    "vit": ModelConfig(embed_dim=40, image_size=32, vision=TINY_VIT, text=TINY_TEXT),
    "vit of odd proportions": ModelConfig(
        embed_dim=40,
        image_size=32,
        vision=replace(TINY_VIT, heads=2, mlp_width=259, activation="gelu", norm_eps=1e-6),
        text=replace(TINY_TEXT, mlp_width=101, activation="gelu_tanh"),
        logit_bias=True,
    ),
    "clipa": ModelConfig(
        embed_dim=40,
        image_size=32,
        vision=replace(TINY_VIT, pre_norm=False, pooling="mean"),
        text=replace(TINY_BIDIRECTIONAL, activation="quick_gelu", projection_bias=False),
    ),
    "coca": ModelConfig(
        embed_dim=40,
        image_size=32,
        vision=replace(TINY_VIT, pooling="attention"),
        text=CocaTextConfig(width=64, layers=2, heads=2, vocab_size=600, context_length=32),
    ),
    "mobileclip texts without projection": ModelConfig(
        embed_dim=64,
        image_size=32,
        vision=replace(TINY_VIT, activation="gelu"),
        text=replace(TINY_BIDIRECTIONAL, activation="gelu", norm_eps=1e-5, pooling="argmax", projection="none"),
    ),
    "pooled at eos": ModelConfig(embed_dim=40, image_size=32, vision=TINY_VIT, text=replace(TINY_TEXT, eos_id=2)),
    "plain vit of timm": ModelConfig(
        embed_dim=40,
        image_size=224,
        vision=replace(open_clip_timm_vit.TIMM_VITS["vit_tiny_patch16_224"][0], layers=SHALLOW, projection_bias=True),
        text=TINY_TEXT,
    ),
    "resnet": ModelConfig(
        embed_dim=40, image_size=64, vision=ResNetConfig(width=16, layers=(1, 2, 1, 1), heads=16), text=TINY_TEXT
    ),
    "siglip": ModelConfig(
        embed_dim=768,
        image_size=224,
        vision=SiglipVisionConfig(width=768, layers=2, heads=12, patch_size=16, activation="gelu"),
        text=SiglipTextConfig(width=64, layers=2, heads=2, vocab_size=600, context_length=16),
        logit_bias=True,
    ),
    "siglip tower with causal texts": ModelConfig(
        embed_dim=768,
        image_size=256,
        vision=SiglipVisionConfig(width=768, layers=2, heads=12, patch_size=32),
        text=TINY_TEXT,
    ),
}


@pytest.fixture(scope="module")
def small_tokenizer() -> BPETokenizer:
    return BPETokenizer.train([*CAPTIONS, "a photo of a café", "it's 12 o'clock"] * 2, 600, context_length=32)


def photo() -> Image.Image:
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (75, 130, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", OUTWARD)
def test_open_clip_opens_what_zebra_writes_with_the_same_vectors(
    open_clip: ModuleType, tmp_path: Path, shallow: Callable[[int], None], small_tokenizer: BPETokenizer, name: str
) -> None:
    pytest.importorskip("transformers")
    shallow(SHALLOW)
    config = OUTWARD[name]
    causal = isinstance(config.text, TextConfig)
    if causal:
        config = replace(config, text=replace(config.text, vocab_size=small_tokenizer.vocab_size))
    own = noisy(CLIP(config))
    preprocess = Preprocess(
        image_size=config.image_size,
        resize="shortest" if causal else "squash",
        interpolation="bilinear" if causal else "bicubic",
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
    )
    folder = tmp_path / "out"
    write_open_clip(
        folder,
        config=config,
        tensors=published_state_dict(own),
        preprocess=preprocess,
        tokenizer=small_tokenizer if causal else None,
    )
    peer, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    assert_equal_function(peer.eval(), own)
    pixels = preprocess.normalize(torch.from_numpy(preprocess.resize_and_crop(photo()))[None])
    torch.testing.assert_close(transform(photo())[None], pixels, atol=1e-6, rtol=0)
    with torch.inference_mode():  # before normalization
        torch.testing.assert_close(own.visual(pixels), peer.encode_image(pixels), atol=1e-4, rtol=1e-4)
    if causal:
        texts = [*CAPTIONS, "A  Photo of a CAF&Eacute; &amp; a zebra's  tree ", "unseen words: 1234567890 🦓 !"]
        rows = torch.from_numpy(small_tokenizer.encode(texts, truncate=True).ids)
        theirs = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
        assert theirs.shape[1] == 32
        with torch.inference_mode():
            torch.testing.assert_close(peer.encode_text(theirs, True), own.encode_texts(rows), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OUTWARD)
def test_a_round_trip_gives_equal_configs_and_equal_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    make_tables_shallow(monkeypatch, SHALLOW)
    config = OUTWARD[name]
    own = noisy(CLIP(config))
    before = published_state_dict(own)
    preprocess = Preprocess(image_size=config.image_size, resize="squash", decode="reference")
    write_open_clip(tmp_path, config=config, tensors=before, preprocess=preprocess, tokenizer=None)
    checkpoint = read_open_clip(tmp_path)
    assert checkpoint.config == config
    assert checkpoint.preprocess == preprocess
    assert checkpoint.tensors.keys() == before.keys()
    assert all(torch.equal(before[key], checkpoint.tensors[key]) for key in before)
    assert all(before[key].dtype == checkpoint.tensors[key].dtype for key in before)


def test_siglips_tokenizer_is_written_with_its_rules(open_clip: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    rust = tokenizers.Tokenizer(tokenizers.models.Unigram())
    rust.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    rust.train_from_iterator([*CAPTIONS, "a picture of it's cafe 12345 σας"], trainer)
    tokenizer = SiglipTokenizer(rust, 16, eos_token="</s>", pad_token="</s>", cleaning="canonicalize")
    text = SiglipTextConfig(width=16, layers=1, heads=1, vocab_size=tokenizer.vocab_size, context_length=16)
    config = replace(OUTWARD["vit"], vision=replace(TINY_VIT, activation="gelu"), text=text)
    write_open_clip(
        tmp_path,
        config=config,
        tensors=published_state_dict(CLIP(config)),
        preprocess=Preprocess(image_size=32),
        tokenizer=tokenizer,
    )
    texts = [*CAPTIONS, "A  Picture, of the Zebra's tree!", "under_the tree &amp; grass", "ΣΑΣ"]
    expected = torch.from_numpy(tokenizer.encode(texts, truncate=True).ids)
    assert torch.equal(open_clip.get_tokenizer(f"local-dir:{tmp_path}")(texts), expected)
    again = find_tokenizer(tmp_path, 16)
    assert again is not None
    assert torch.equal(torch.from_numpy(again.encode(texts, truncate=True).ids), expected)


def test_openais_vocabulary_needs_no_tokenizer_in_the_folder(open_clip: ModuleType, tmp_path: Path) -> None:
    tokenizer = BPETokenizer.from_merges(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", 20)
    config = replace(
        OUTWARD["vit"], text=replace(TINY_TEXT, vocab_size=tokenizer.vocab_size, width=16, context_length=20)
    )
    tensors = published_state_dict(CLIP(config))
    write_open_clip(tmp_path, config=config, tensors=tensors, preprocess=Preprocess(image_size=32), tokenizer=tokenizer)
    open_clip_tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path}")
    assert isinstance(open_clip_tokenizer, open_clip.SimpleTokenizer)
    ids = torch.from_numpy(tokenizer.encode(CAPTIONS, truncate=True).ids)
    assert torch.equal(open_clip_tokenizer(CAPTIONS)[:, : ids.shape[1]], ids)


def test_without_a_tokenizer_open_clip_builds_none(open_clip: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    config = OUTWARD["vit"]
    tensors = published_state_dict(CLIP(config))
    write_open_clip(tmp_path, config=config, tensors=tensors, preprocess=Preprocess(image_size=32), tokenizer=None)
    with pytest.raises((OSError, ValueError)):
        open_clip.get_tokenizer(f"local-dir:{tmp_path}")


def test_every_config_that_open_clip_ships_is_read_or_refused_by_name(open_clip: ModuleType) -> None:
    """A refusal names the key."""
    read_names, refused = set(), {}
    for name in open_clip.list_models():
        try:
            open_clip_config.parse_open_clip_config({"model_cfg": open_clip.get_model_config(name)})
        except ValueError as error:
            refused[name] = str(error)
        else:
            read_names.add(name)
    assert all("model_cfg." in message for message in refused.values())
    assert {"RN50x64", "ViT-L-14-336-quickgelu", "ViT-e-14", "ViT-SO400M-14-SigLIP-384"} <= read_names
    assert {
        "coca_ViT-L-14", "ViT-bigG-14-CLIPA-336", "ViT-L-14-worldwide", "ViT-H-14-worldwide-378", "MobileCLIP2-L-14",
        "ViT-SO400M-16-SigLIP-i18n-256",
    } <= read_names  # fmt: skip
    assert "vision_cfg.ls_init_value" in refused["ViT-M-16-alt"]
