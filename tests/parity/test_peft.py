"""An adapter that a run of zebra leaves is, on the model it started from, zebra's own model: by transformers and peft.

Reference: peft 0.21 on transformers 5.24, `PeftModel` around `CLIPModel` or `SiglipModel`. The start is random, saved
as `zebra export --format transformers` saves it, and fine-tuned a few steps.
Tolerance: 1e-5 on unit vectors, since the kernels add in another order.
"""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Rust
from torch.nn import functional as F

import zebra
from zebra.config.export import ExportConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.model import (
    ModelConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VisionTransformerConfig,
)
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.transformers import write_adapter, write_transformers
from zebra.pretrained.weights import published_state_dict
from zebra.text.bpe import BPETokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.workflows import export, train

SIZES = {"width": 32, "layers": 2, "heads": 2}
CAPTIONS = [f"a striped horse on the grass, number {number}" for number in range(24)]
EVERY = ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj")


@pytest.fixture(scope="module")
def peft(transformers):
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return pytest.importorskip("peft")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("peft")
    (root / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for number, caption in enumerate(CAPTIONS):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(root / f"pictures/{number}.png")
        (root / f"pictures/{number}.txt").write_text(caption)
    torch.manual_seed(0)
    words = BPETokenizer.train(CAPTIONS, 560, 16)
    text = TextConfig(**SIZES, vocab_size=words.vocab_size, context_length=16)
    vision = VisionTransformerConfig(**SIZES, patch_size=8)
    model = noisy(CLIP(ModelConfig(embed_dim=24, image_size=32, vision=vision, text=text)))
    Bundle(model, words, Preprocess(image_size=32)).save(root / "start")
    export.run(ExportConfig(model=str(root / "start"), format="transformers", out=str(root / "base")))
    return root


@pytest.fixture
def favoured(monkeypatch):
    """Whatever has learned counts as better than the start."""

    def judged(self, clip):
        return float(any(low_rank.B.any() for low_rank in get_adapters(clip.model).values()))

    monkeypatch.setattr(RetrievalValidator, "__call__", judged)


def noisy(model):
    """Move every parameter, so that no bias is zero and no gain one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def adapted(peft, base, folder):
    """Put an adapter on a model of transformers; peft warns of what is missing, left over or unknown."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings(
            "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning
        )  # peft asks for it
        return peft.PeftModel.from_pretrained(base, folder).eval()


@torch.no_grad()
def features(theirs, pixels, tokens):
    return [
        F.normalize(theirs.get_image_features(pixel_values=pixels).pooler_output, dim=-1),
        F.normalize(theirs.get_text_features(input_ids=tokens).pooler_output, dim=-1),
    ]


def apart(some, others):
    return [float((a - b).abs().max()) for a, b in zip(some, others, strict=True)]


@pytest.mark.parametrize("layers", [("q_proj", "v_proj"), EVERY])
@pytest.mark.parametrize("learns", ["all", "text", "image"])
def test_the_adapter_of_a_run_makes_its_start_the_trained_model(
    peft, transformers, world, tmp_path, favoured, layers, learns
):
    told = TrainConfig(
        data=str(world / "pictures"),
        out=str(tmp_path / "run"),
        model=zebra.load(world / "base").model.config,
        steps=6,
        batch_size=8,
        lr=3e-2,
        precision="fp32",
        workers=0,
        eval_every=6,
        optimizer=OptimizerConfig(warmup_steps=0),
        finetune=FineTuneConfig(
            init_from=str(world / "base"),
            train_towers=learns,
            lora_rank=3,
            lora_alpha=6.0,
            lora_target_modules=layers,
        ),
    )
    train.run(told)
    ours, before = zebra.load(tmp_path / "run/model"), zebra.load(world / "start")
    theirs = adapted(peft, transformers.CLIPModel.from_pretrained(world / "base"), tmp_path / "run/adapter")
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.from_numpy(ours.require_tokenizer().encode(CAPTIONS[:5], truncate=True).ids)
    found = features(theirs, pixels, tokens)
    with torch.no_grad():
        now, was = (
            [clip.model.encode_images(pixels), clip.model.encode_texts(tokens)] for clip in (ours, before)
        )
    assert max(apart(found, now)) < 1e-5
    moved = [distance > 1e-3 for distance in apart(now, was)]
    assert moved == {"all": [True, True], "text": [False, True], "image": [True, False]}[learns]


def test_the_merged_model_of_peft_is_that_of_zebra(peft, transformers, world, tmp_path):
    model = zebra.load(world / "start").model
    apply_lora(model, ("visual", "text"), rank=4, alpha=16, target_modules=EVERY)
    for low_rank in get_adapters(model).values():
        torch.nn.init.normal_(low_rank.B, std=0.1)
    write_adapter(tmp_path, config=model.config, adapters=get_adapters(model), alpha=16, base=None)
    base = transformers.CLIPModel.from_pretrained(world / "base")
    theirs = adapted(peft, base, tmp_path).merge_and_unload().state_dict()
    write_transformers(
        tmp_path / "merged",
        config=model.config,
        tensors=published_state_dict(merge_adapters(model)),
        preprocess=Preprocess(image_size=32),
        tokenizer=zebra.load(world / "start").require_tokenizer(),
    )
    ours = transformers.CLIPModel.from_pretrained(tmp_path / "merged").state_dict()
    for name, value in ours.items():
        assert torch.allclose(theirs[name], value, atol=1e-6), name


def test_siglip_s_pooling_head_has_layers_of_the_same_names_and_gets_no_adapter(peft, transformers, tmp_path):
    rust = Rust(models.Unigram())
    rust.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    rust.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    rust.train_from_iterator(CAPTIONS, trainer)
    words = SiglipTokenizer(rust, 16, eos_token="</s>", pad_token="</s>", cleaning="siglip")
    torch.manual_seed(0)
    config = ModelConfig(
        embed_dim=32,
        image_size=32,
        vision=SiglipVisionConfig(**SIZES, patch_size=8),
        text=SiglipTextConfig(**SIZES, vocab_size=words.vocab_size, context_length=16),
        logit_bias=True,
    )
    model = noisy(CLIP(config)).eval()
    write_transformers(
        tmp_path / "base",
        config=config,
        tensors=published_state_dict(model),
        preprocess=Preprocess(image_size=32, resize="squash"),
        tokenizer=words,
    )
    apply_lora(model, ("visual", "text"), rank=4, alpha=16, target_modules=EVERY)
    for low_rank in get_adapters(model).values():
        torch.nn.init.normal_(low_rank.B, std=0.1)
    write_adapter(tmp_path / "adapter", config=config, adapters=get_adapters(model), alpha=16, base=None)
    base = transformers.SiglipModel.from_pretrained(tmp_path / "base")
    theirs = adapted(peft, base, tmp_path / "adapter")
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.from_numpy(words.encode(CAPTIONS[:5], truncate=True).ids)
    with torch.no_grad():
        ours = [model.encode_images(pixels), model.encode_texts(tokens)]
    assert max(apart(features(theirs, pixels, tokens), ours)) < 1e-5
