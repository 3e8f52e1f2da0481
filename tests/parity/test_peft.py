"""Parity of LoRA adapters: peft on the initial model gives the embeddings of zebra's trained model.

Reference: peft 0.21 on transformers 5.24, `PeftModel` around `CLIPModel` or `SiglipModel`. The initial model has random
weights, is saved by `zebra export --format transformers`, and is fine-tuned for a few steps.
Tolerance: 1e-5 on unit vectors, because the kernels sum in another order.
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
from zebra.config.image_towers import SiglipVisionConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig, TextConfig
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.evaluators.validation import RetrievalValidator
from zebra.images.preprocess import Preprocess
from zebra.models import CLIP
from zebra.models.lora import apply_lora, get_adapters, merge_adapters
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.transformers.adapter import write_adapter
from zebra.pretrained.transformers.layout import write_transformers
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
def assets(tmp_path_factory):
    root = tmp_path_factory.mktemp("peft")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for number, caption in enumerate(CAPTIONS):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(root / f"images/{number}.png")
        (root / f"images/{number}.txt").write_text(caption)
    torch.manual_seed(0)
    tokenizer = BPETokenizer.train(CAPTIONS, 560, 16)
    text = TextConfig(**SIZES, vocab_size=tokenizer.vocab_size, context_length=16)
    vision = VisionTransformerConfig(**SIZES, patch_size=8)
    model = add_noise(CLIP(ModelConfig(embed_dim=24, image_size=32, vision=vision, text=text)))
    Bundle(model, tokenizer, Preprocess(image_size=32)).save(root / "start")
    export.run(ExportConfig(model=str(root / "start"), format="transformers", out=str(root / "base")))
    return root


@pytest.fixture
def prefer_trained(monkeypatch):
    """Score every trained model higher than the initial one."""

    def is_trained(self, clip):
        return {"held-out MRR": float(any(low_rank.B.any() for low_rank in get_adapters(clip.model).values()))}

    monkeypatch.setattr(RetrievalValidator, "__call__", is_trained)


def add_noise(model):
    """Add noise to every parameter, so that no bias is zero and no gain is one."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def load_adapter(peft, base, folder):
    """Load an adapter into a model of transformers; warnings of missing or unexpected weights are errors."""
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


def max_differences(first, second):
    return [float((a - b).abs().max()) for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("layers", [("q_proj", "v_proj"), EVERY])
@pytest.mark.parametrize("train_towers", ["all", "text", "image"])
def test_the_initial_model_with_the_adapter_equals_the_trained_model(
    peft, transformers, assets, tmp_path, prefer_trained, layers, train_towers
):
    train_config = TrainConfig(
        data=str(assets / "images"),
        out=str(tmp_path / "run"),
        model=zebra.load(assets / "base").model.config,
        steps=6,
        batch_size=8,
        lr=3e-2,
        precision="fp32",
        workers=0,
        eval_every=6,
        optimizer=OptimizerConfig(warmup_steps=0),
        finetune=FineTuneConfig(
            init_from=str(assets / "base"),
            train_towers=train_towers,
            lora_rank=3,
            lora_alpha=6.0,
            lora_target_modules=layers,
        ),
    )
    train.run(train_config)
    ours, before = zebra.load(tmp_path / "run/model"), zebra.load(assets / "start")
    theirs = load_adapter(peft, transformers.CLIPModel.from_pretrained(assets / "base"), tmp_path / "run/adapter")
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.from_numpy(ours.require_tokenizer().encode(CAPTIONS[:5], truncate=True).ids)
    peft_features = features(theirs, pixels, tokens)
    with torch.no_grad():
        trained_features, initial_features = (
            [clip.model.encode_images(pixels), clip.model.encode_texts(tokens)] for clip in (ours, before)
        )
    assert max(max_differences(peft_features, trained_features)) < 1e-5
    changed = [distance > 1e-3 for distance in max_differences(trained_features, initial_features)]
    assert changed == {"all": [True, True], "text": [False, True], "image": [True, False]}[train_towers]


def test_merging_with_peft_equals_merging_with_zebra(peft, transformers, assets, tmp_path):
    model = zebra.load(assets / "start").model
    apply_lora(model, ("visual", "text"), rank=4, alpha=16, target_modules=EVERY)
    for low_rank in get_adapters(model).values():
        torch.nn.init.normal_(low_rank.B, std=0.1)
    write_adapter(tmp_path, config=model.config, adapters=get_adapters(model), alpha=16, base=None)
    base = transformers.CLIPModel.from_pretrained(assets / "base")
    theirs = load_adapter(peft, base, tmp_path).merge_and_unload().state_dict()
    write_transformers(
        tmp_path / "merged",
        config=model.config,
        tensors=published_state_dict(merge_adapters(model)),
        preprocess=Preprocess(image_size=32),
        tokenizer=zebra.load(assets / "start").require_tokenizer(),
    )
    ours = transformers.CLIPModel.from_pretrained(tmp_path / "merged").state_dict()
    for name, value in ours.items():
        assert torch.allclose(theirs[name], value, atol=1e-6), name


def test_siglips_pooling_head_gets_no_adapter_although_its_layers_have_the_same_names(peft, transformers, tmp_path):
    inner = Rust(models.Unigram())
    inner.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=special, unk_token="<unk>", show_progress=False)
    inner.train_from_iterator(CAPTIONS, trainer)
    tokenizer = SiglipTokenizer(inner, 16, eos_token="</s>", pad_token="</s>", cleaning="siglip")
    torch.manual_seed(0)
    config = ModelConfig(
        embed_dim=32,
        image_size=32,
        vision=SiglipVisionConfig(**SIZES, patch_size=8),
        text=SiglipTextConfig(**SIZES, vocab_size=tokenizer.vocab_size, context_length=16),
        logit_bias=True,
    )
    model = add_noise(CLIP(config)).eval()
    write_transformers(
        tmp_path / "base",
        config=config,
        tensors=published_state_dict(model),
        preprocess=Preprocess(image_size=32, resize="squash"),
        tokenizer=tokenizer,
    )
    apply_lora(model, ("visual", "text"), rank=4, alpha=16, target_modules=EVERY)
    for low_rank in get_adapters(model).values():
        torch.nn.init.normal_(low_rank.B, std=0.1)
    write_adapter(tmp_path / "adapter", config=config, adapters=get_adapters(model), alpha=16, base=None)
    base = transformers.SiglipModel.from_pretrained(tmp_path / "base")
    theirs = load_adapter(peft, base, tmp_path / "adapter")
    pixels = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    tokens = torch.from_numpy(tokenizer.encode(CAPTIONS[:5], truncate=True).ids)
    with torch.no_grad():
        ours = [model.encode_images(pixels), model.encode_texts(tokens)]
    assert max(max_differences(features(theirs, pixels, tokens), ours)) < 1e-5
