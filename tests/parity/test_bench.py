"""`zebra bench` runs open_clip and transformers with the same weights."""

import pytest
import torch
from tests.tiny_model import NAFLEX_PREPROCESS, VISION_CONFIGS, build_siglip2_tokenizer, build_tiny_model

from zebra.bench.encoders import Encoder, open_precisions
from zebra.bench.inputs import draw_jpegs
from zebra.bench.peers import open_peers
from zebra.config.model import ModelConfig
from zebra.config.text_towers import SiglipTextConfig
from zebra.models import CLIP
from zebra.pretrained.bundle import Bundle

NOT_COMPARABLE = {"siglip2": ["open_clip"], "naflex": ["open_clip", "transformers"]}


def build_siglip2() -> Bundle:
    """Build a NaFlex model of transformers' type siglip2."""
    torch.manual_seed(0)
    tokenizer = build_siglip2_tokenizer(16)
    text = SiglipTextConfig(width=32, layers=1, heads=2, vocab_size=tokenizer.vocab_size, context_length=16)
    config = ModelConfig(embed_dim=32, image_size=64, vision=VISION_CONFIGS["naflex"], text=text, logit_bias=True)
    return Bundle(CLIP(config).eval(), tokenizer, NAFLEX_PREPROCESS)


@pytest.mark.parametrize("kind", ["vit", "siglip2", "naflex"])
def test_peers_give_the_vectors_of_zebra_or_say_why_they_cannot(kind, open_clip, transformers):
    bundle = build_siglip2() if kind == "siglip2" else build_tiny_model(kind)
    jpegs, texts = draw_jpegs(2), ["a cat", "two dogs"]
    fp32 = open_precisions(bundle)[0]
    assert isinstance(fp32, Encoder)
    with open_peers(bundle) as peers:
        refused = {peer.name: peer.reason for peer in peers if not isinstance(peer, Encoder)}
        assert list(refused) == NOT_COMPARABLE.get(kind, []), refused
        assert all(reason.startswith("not comparable") for reason in refused.values())
        for peer in peers:
            if isinstance(peer, Encoder):
                for own, other in (
                    (fp32.encode_images(fp32.preprocess(jpegs)), peer.encode_images(peer.preprocess(jpegs))),
                    (fp32.encode_texts(texts), peer.encode_texts(texts)),
                ):
                    assert float((own * other).sum(dim=1).min()) > 0.999, peer.name
