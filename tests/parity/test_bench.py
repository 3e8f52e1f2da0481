"""`zebra bench` runs open_clip and transformers with the same weights."""

import pytest
from tests.tiny_model import build_tiny_model

from zebra.bench.encoders import Encoder, open_precisions
from zebra.bench.inputs import draw_jpegs
from zebra.bench.peers import open_peers


@pytest.mark.parametrize("kind", ["vit", "naflex"])
def test_peers_give_the_vectors_of_zebra_or_say_why_they_cannot(kind, open_clip, transformers):
    bundle = build_tiny_model(kind)
    jpegs, texts = draw_jpegs(2), ["a photo of a horse", "two dogs"]
    fp32 = open_precisions(bundle)[0]
    assert isinstance(fp32, Encoder)
    with open_peers(bundle) as peers:
        if kind == "naflex":
            assert all(peer.reason.startswith("not comparable") for peer in peers)
            return
        assert [peer.name for peer in peers if "bf16" not in peer.name] == ["open_clip", "transformers"]
        for peer in peers:
            for own, other in (
                (fp32.encode_images(fp32.preprocess(jpegs)), peer.encode_images(peer.preprocess(jpegs))),
                (fp32.encode_texts(texts), peer.encode_texts(texts)),
            ):
                assert float((own * other).sum(dim=1).min()) > 0.9999
