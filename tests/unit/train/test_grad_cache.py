"""Gradient caching: a step in chunks is the step of the whole batch, in the memory of one chunk."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from zebra.config.model import ModelConfig, ResNetConfig, TextConfig, VisionTransformerConfig
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.losses import info_nce
from zebra.models import CLIP
from zebra.train.grad_cache import embed_in_chunks
from zebra.train.loop import BatchPreprocessor, train_loop
from zebra.train.precision import autocast
from zebra.train.step import train_step
from zebra.values import Batch

TEXT = TextConfig(width=64, layers=1, heads=1, vocab_size=300, context_length=8)
VIT = ModelConfig(
    embed_dim=32,
    image_size=32,
    vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16),
    text=TEXT,
)
RESNET = ModelConfig(
    embed_dim=32, image_size=64, vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4), text=TEXT
)
NUM_PAIRS = 7


class DropImages(nn.Module):
    """Silences whole images by one number each, so that chunks draw the numbers of the whole batch in its order."""

    def forward(self, x_BE):
        return x_BE * (torch.rand(len(x_BE), 1) < 0.7) + 0.1


def build(config=VIT, dtype=torch.float64):
    torch.manual_seed(0)
    model = CLIP(config).to(dtype).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Residual branches start closed: nothing in them would have a gradient.
            nn.init.ones_(module.weight)
    return model


def with_dropout(model):
    """Put randomness into both towers."""
    model.visual.ln_pre = nn.Sequential(model.visual.ln_pre, nn.Dropout(0.3))
    model.text.ln_final = nn.Sequential(model.text.ln_final, nn.Dropout(0.3))
    return model


def pairs(model, num_pairs=NUM_PAIRS):
    """Draw pixels, and texts of 3 to 8 tokens."""
    generator = torch.Generator().manual_seed(1)
    size = model.config.image_size
    images = torch.randn(num_pairs, 3, size, size, generator=generator).to(model.logit_scale.dtype)
    tokens = torch.randint(1, 290, (num_pairs, 8), generator=generator)
    for row in range(num_pairs):
        tokens[row, 2 + row % 6] = 299
    return images, tokens


def step(model, chunk_size, **options):
    """Take a step of plain gradient descent from a fixed random state; leave the gradients in `model`."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    settings = {"lr": 0.1, "grad_clip_norm": 0.0, "precision": "fp32"} | options
    return train_step(model, optimizer, *pairs(model), chunk_size=chunk_size, **settings)


def in_one_graph(model, num_chunks, precision="fp32"):
    """Return the loss of a batch whose chunks pass once and all stay in memory; leave the gradients in `model`."""
    torch.manual_seed(3)
    parts = []
    for images, tokens in zip(*(side.tensor_split(num_chunks) for side in pairs(model)), strict=True):
        with autocast(precision, images.device):
            parts.append(model(images, tokens))
    image_parts, text_parts, scales = zip(*parts, strict=True)
    loss = info_nce(torch.cat(image_parts), torch.cat(text_parts), scales[0])
    loss.backward()
    return loss.item()


def assert_same_gradients(model, other, rel=1e-6):
    for name, parameter in model.named_parameters():
        expected = other.get_parameter(name).grad
        assert float(expected.norm()) > 0, name
        assert float((parameter.grad - expected).norm() / expected.norm()) <= rel, name


def count_calls(module):
    calls = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


chunk_sizes = pytest.mark.parametrize("chunk_size", [1, 2, 3, 6])


@chunk_sizes
def test_the_figures_are_those_of_the_whole_batch(chunk_size):
    whole, chunked = step(build(), None), step(build(), chunk_size)
    assert chunked.loss == pytest.approx(whole.loss, rel=1e-6)
    assert chunked.grad_norm == pytest.approx(whole.grad_norm, rel=1e-6)
    assert chunked.logit_scale == pytest.approx(whole.logit_scale, rel=1e-6)
    assert chunked.batch_accuracy == pytest.approx(whole.batch_accuracy)


@chunk_sizes
def test_every_gradient_is_that_of_the_whole_batch(chunk_size):
    whole, chunked = build(), build()
    step(whole, None)
    step(chunked, chunk_size)
    assert_same_gradients(chunked, whole)


@chunk_sizes
def test_the_temperature_moves_as_with_the_whole_batch(chunk_size):
    """Peers add its gradient up once per chunk."""
    start, whole, chunked = build(), build(), build()
    step(whole, None)
    step(chunked, chunk_size)
    moved = float((whole.logit_scale - start.logit_scale).detach())
    assert abs(moved) > 1e-4
    assert float((chunked.logit_scale - start.logit_scale).detach()) == pytest.approx(moved, rel=1e-6)


def test_clipping_sees_the_gradient_of_the_whole_batch():
    whole, chunked = build(), build()
    assert step(whole, None, grad_clip_norm=1e-3).grad_norm > 1e-3
    step(chunked, 3, grad_clip_norm=1e-3)
    assert_same_gradients(chunked, whole)


@chunk_sizes
def test_a_tower_that_draws_numbers_gets_the_gradients_of_the_whole_batch(chunk_size):
    whole, chunked = build(), build()
    for model in (whole, chunked):
        model.visual = nn.Sequential(model.visual, DropImages())
    assert step(chunked, chunk_size).loss == pytest.approx(step(whole, None).loss, rel=1e-6)
    assert_same_gradients(chunked, whole)


@chunk_sizes
def test_dropout_in_both_towers_drops_the_same_in_the_second_pass(chunk_size):
    """Otherwise the gradient would belong to embeddings that the loss has not seen."""
    graph, chunked = with_dropout(build()), with_dropout(build())
    loss = in_one_graph(graph, num_chunks=-(-NUM_PAIRS // chunk_size))
    assert step(chunked, chunk_size).loss == pytest.approx(loss, rel=1e-6)
    assert_same_gradients(chunked, graph)


def test_random_numbers_continue_after_the_step_as_after_one_pass():
    in_one_graph(with_dropout(build()), num_chunks=3)
    expected = torch.rand(5)
    step(with_dropout(build()), 3)
    assert torch.equal(torch.rand(5), expected)


def test_bf16_chunks_pass_twice_in_the_same_arithmetic():
    """Bit for bit the same embeddings, else the cached gradients are those of others."""
    model = with_dropout(build(dtype=torch.float32))
    outputs = []
    model.visual.register_forward_hook(
        lambda _module, _inputs, output: outputs.append(output.detach().clone())
    )
    step(model, 3, precision="bf16")
    first, second, _last, second_again, first_again = outputs
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)


def test_gradients_of_bf16_chunks_are_summed_in_fp32():
    """Autocast keeps one bf16 copy of a weight per context: shared by the chunks, it would sum theirs in bf16."""
    graph, chunked = build(dtype=torch.float32), build(dtype=torch.float32)
    in_one_graph(graph, NUM_PAIRS, precision="bf16")
    step(chunked, 1, precision="bf16")
    assert_same_gradients(chunked, graph, rel=1e-5)


def test_batch_norm_learns_from_chunks_as_in_one_graph_of_the_same_chunks():
    graph, chunked = build(RESNET), build(RESNET)
    assert step(chunked, 3).loss == pytest.approx(in_one_graph(graph, num_chunks=3), rel=1e-6)
    assert_same_gradients(chunked, graph)


def test_running_statistics_take_each_chunk_once_and_in_order():
    graph, chunked = build(RESNET), build(RESNET)
    in_one_graph(graph, num_chunks=3)
    step(chunked, 3)
    for name, buffer in chunked.named_buffers():
        torch.testing.assert_close(buffer, graph.get_buffer(name), rtol=1e-9, atol=0, msg=name)


def test_only_the_last_chunk_passes_once():
    model = build()
    images, texts = count_calls(model.visual), count_calls(model.text)
    step(model, 3)
    assert (len(images), len(texts)) == (5, 5)


@pytest.mark.parametrize("chunk_size", [None, NUM_PAIRS, 1000])
def test_a_chunk_as_large_as_the_batch_passes_once(chunk_size):
    model = build()
    images, texts = count_calls(model.visual), count_calls(model.text)
    step(model, chunk_size)
    assert (len(images), len(texts)) == (1, 1)


@pytest.mark.parametrize(
    ("chunk_size", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 2, 2]), (6, [4, 3])]
)
def test_a_batch_is_divided_evenly_into_chunks_no_larger_than_asked(chunk_size, sizes):
    model = build()
    seen = []
    model.visual.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    embed_in_chunks(model, model, pairs(model), chunk_size=chunk_size, precision="fp32")
    assert seen == sizes


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_activations_of_one_chunk_at_a_time_are_in_memory(tower):
    """What the MLP's first layer returns is kept for the backward pass, until its chunk is done with."""
    model = build()
    kept, most = [], [0]

    def count_kept(_module, _inputs, output):
        kept.append(StorageWeakRef(output.untyped_storage()))
        most[0] = max(most[0], sum(not storage.expired() for storage in kept))

    layer = next(getattr(model, tower).transformer.blocks()).mlp.c_fc
    layer.register_forward_hook(count_kept)
    step(model, 1)
    assert len(kept) == 2 * NUM_PAIRS - 1
    assert most == [1]


def test_embeddings_stay_in_the_order_of_the_batch():
    model = build().eval()
    images, tokens = pairs(model)
    image_BE, text_BE, scale = embed_in_chunks(model, model, (images, tokens), chunk_size=2, precision="fp32")
    torch.testing.assert_close(image_BE, model.encode_images(images))
    torch.testing.assert_close(text_BE, model.encode_texts(tokens))
    assert float(scale.detach()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("chunk_size", [0, -8])
def test_a_chunk_of_no_pairs_is_refused(chunk_size):
    with pytest.raises(ConfigError, match=f"chunk_size is {chunk_size}; it must be positive"):
        TrainConfig(data="d", out="o", steps=1, chunk_size=chunk_size)


def test_training_takes_the_chunk_size_of_its_config():
    model = build(dtype=torch.float32)
    images, tokens = pairs(model)
    calls = count_calls(model.visual)
    train_loop(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        iter([Batch(images=images, captions=("",) * NUM_PAIRS, ids=("",) * NUM_PAIRS)]),
        BatchPreprocessor(normalize=lambda pixels: pixels, tokenize=lambda _captions: tokens),
        TrainConfig(data="d", out="o", steps=1, precision="fp32", chunk_size=3),
        start_step=0,
        samples_seen=0,
        total_steps=1,
        callback=lambda _report: True,
    )
    assert len(calls) == 5
