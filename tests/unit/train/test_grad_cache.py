"""Gradient caching: a step in chunks equals the step on the full batch, in the memory of one chunk."""

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from zebra.config.image_towers import ResNetConfig, VisionTransformerConfig
from zebra.config.model import ModelConfig
from zebra.config.text_towers import TextConfig
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
    embed_dim=32, image_size=32, vision=VisionTransformerConfig(width=64, layers=1, heads=1, patch_size=16), text=TEXT
)
RESNET = ModelConfig(embed_dim=32, image_size=64, vision=ResNetConfig(width=8, layers=(1, 1, 1, 1), heads=4), text=TEXT)
NUM_PAIRS = 7


class DropImages(nn.Module):
    """Drops whole images by one random number each, so chunks draw the same numbers in order as the full batch."""

    def forward(self, x_BE):
        return x_BE * (torch.rand(len(x_BE), 1) < 0.7) + 0.1


def build_model(config=VIT, dtype=torch.float64):
    torch.manual_seed(0)
    model = CLIP(config).to(dtype).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Zero gains would leave the residual branches without a gradient.
            nn.init.ones_(module.weight)
    return model


def add_dropout(model):
    """Add dropout to both towers."""
    model.visual.ln_pre = nn.Sequential(model.visual.ln_pre, nn.Dropout(0.3))
    model.text.ln_final = nn.Sequential(model.text.ln_final, nn.Dropout(0.3))
    return model


def make_pairs(model, num_pairs=NUM_PAIRS):
    """Return random pixels, and texts of 3 to 8 tokens."""
    generator = torch.Generator().manual_seed(1)
    size = model.config.image_size
    images = torch.randn(num_pairs, 3, size, size, generator=generator).to(model.logit_scale.dtype)
    tokens = torch.randint(1, 290, (num_pairs, 8), generator=generator)
    for row in range(num_pairs):
        tokens[row, 2 + row % 6] = 299
    return images, tokens


def step(model, chunk_size, **options):
    """Take a step of plain gradient descent from a fixed random state; the gradients stay in `model`."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    settings = {"lr": 0.1, "grad_clip_norm": 0.0, "precision": "fp32"} | options
    return train_step(model, optimizer, *make_pairs(model), chunk_size=chunk_size, **settings)


def loss_in_one_graph(model, num_chunks, precision="fp32"):
    """Return the loss of a batch in chunks without gradient caching; the gradients stay in `model`."""
    torch.manual_seed(3)
    parts = []
    for images, tokens in zip(*(side.tensor_split(num_chunks) for side in make_pairs(model)), strict=True):
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
def test_the_metrics_equal_those_of_the_full_batch(chunk_size):
    full, chunked = step(build_model(), None), step(build_model(), chunk_size)
    assert chunked.loss == pytest.approx(full.loss, rel=1e-6)
    assert chunked.grad_norm == pytest.approx(full.grad_norm, rel=1e-6)
    assert chunked.logit_scale == pytest.approx(full.logit_scale, rel=1e-6)
    assert chunked.batch_accuracy == pytest.approx(full.batch_accuracy)


@chunk_sizes
def test_every_gradient_equals_that_of_the_full_batch(chunk_size):
    full, chunked = build_model(), build_model()
    step(full, None)
    step(chunked, chunk_size)
    assert_same_gradients(chunked, full)


@chunk_sizes
def test_the_temperature_changes_as_with_the_full_batch(chunk_size):
    """A wrong implementation adds its gradient once per chunk."""
    initial, full, chunked = build_model(), build_model(), build_model()
    step(full, None)
    step(chunked, chunk_size)
    change = float((full.logit_scale - initial.logit_scale).detach())
    assert abs(change) > 1e-4
    assert float((chunked.logit_scale - initial.logit_scale).detach()) == pytest.approx(change, rel=1e-6)


def test_clipping_uses_the_gradient_of_the_full_batch():
    full, chunked = build_model(), build_model()
    assert step(full, None, grad_clip_norm=1e-3).grad_norm > 1e-3
    step(chunked, 3, grad_clip_norm=1e-3)
    assert_same_gradients(chunked, full)


@chunk_sizes
def test_a_random_tower_gets_the_gradients_of_the_full_batch(chunk_size):
    full, chunked = build_model(), build_model()
    for model in (full, chunked):
        model.visual = nn.Sequential(model.visual, DropImages())
    assert step(chunked, chunk_size).loss == pytest.approx(step(full, None).loss, rel=1e-6)
    assert_same_gradients(chunked, full)


@chunk_sizes
def test_dropout_repeats_in_the_second_pass(chunk_size):
    """Otherwise the gradient would belong to other embeddings than those in the loss."""
    graph, chunked = add_dropout(build_model()), add_dropout(build_model())
    loss = loss_in_one_graph(graph, num_chunks=-(-NUM_PAIRS // chunk_size))
    assert step(chunked, chunk_size).loss == pytest.approx(loss, rel=1e-6)
    assert_same_gradients(chunked, graph)


def test_generators_continue_after_the_step_as_after_one_pass():
    loss_in_one_graph(add_dropout(build_model()), num_chunks=3)
    expected = torch.rand(5)
    step(add_dropout(build_model()), 3)
    assert torch.equal(torch.rand(5), expected)


def test_both_passes_of_bf16_chunks_are_bit_identical():
    """Otherwise the cached gradients would belong to other embeddings."""
    model = add_dropout(build_model(dtype=torch.float32))
    outputs = []
    model.visual.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach().clone()))
    step(model, 3, precision="bf16")
    first, second, _last, second_again, first_again = outputs
    assert {output.dtype for output in outputs} == {torch.bfloat16}
    assert torch.equal(first, first_again)
    assert torch.equal(second, second_again)


def test_gradients_of_bf16_chunks_are_summed_in_fp32():
    """Autocast caches one bf16 copy of a weight per context; a shared context would sum all gradients in bf16."""
    graph, chunked = build_model(dtype=torch.float32), build_model(dtype=torch.float32)
    loss_in_one_graph(graph, NUM_PAIRS, precision="bf16")
    step(chunked, 1, precision="bf16")
    assert_same_gradients(chunked, graph, rel=1e-5)


def test_batch_norm_gets_the_gradients_of_the_same_chunks_without_caching():
    graph, chunked = build_model(RESNET), build_model(RESNET)
    assert step(chunked, 3).loss == pytest.approx(loss_in_one_graph(graph, num_chunks=3), rel=1e-6)
    assert_same_gradients(chunked, graph)


def test_running_statistics_are_updated_once_per_chunk_in_order():
    graph, chunked = build_model(RESNET), build_model(RESNET)
    loss_in_one_graph(graph, num_chunks=3)
    step(chunked, 3)
    for name, buffer in chunked.named_buffers():
        torch.testing.assert_close(buffer, graph.get_buffer(name), rtol=1e-9, atol=0, msg=name)


def test_only_the_last_chunk_passes_once():
    model = build_model()
    images, texts = count_calls(model.visual), count_calls(model.text)
    step(model, 3)
    assert (len(images), len(texts)) == (5, 5)


@pytest.mark.parametrize("chunk_size", [None, NUM_PAIRS, 1000])
def test_a_chunk_as_large_as_the_batch_passes_once(chunk_size):
    model = build_model()
    images, texts = count_calls(model.visual), count_calls(model.text)
    step(model, chunk_size)
    assert (len(images), len(texts)) == (1, 1)


@pytest.mark.parametrize(("chunk_size", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (3, [3, 2, 2]), (6, [4, 3])])
def test_chunks_are_even_and_at_most_as_large_as_configured(chunk_size, sizes):
    model = build_model()
    sizes_seen = []
    model.visual.register_forward_pre_hook(lambda _module, inputs: sizes_seen.append(len(inputs[0])))
    embed_in_chunks(model, model, make_pairs(model), chunk_size=chunk_size, precision="fp32")
    assert sizes_seen == sizes


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_only_the_activations_of_one_chunk_are_in_memory(tower):
    """The outputs of the MLP's first layer are stored for the backward pass until their chunk is finished."""
    model = build_model()
    stored, max_stored = [], [0]

    def count_stored(_module, _inputs, output):
        stored.append(StorageWeakRef(output.untyped_storage()))
        max_stored[0] = max(max_stored[0], sum(not storage.expired() for storage in stored))

    layer = next(getattr(model, tower).transformer.blocks()).mlp.c_fc
    layer.register_forward_hook(count_stored)
    step(model, 1)
    assert len(stored) == 2 * NUM_PAIRS - 1
    assert max_stored == [1]


def test_embeddings_are_in_the_order_of_the_batch():
    model = build_model().eval()
    images, tokens = make_pairs(model)
    image_BE, text_BE, scale = embed_in_chunks(model, model, (images, tokens), chunk_size=2, precision="fp32")
    torch.testing.assert_close(image_BE, model.encode_images(images))
    torch.testing.assert_close(text_BE, model.encode_texts(tokens))
    assert float(scale.detach()) == pytest.approx(1 / 0.07)


@pytest.mark.parametrize("chunk_size", [0, -8])
def test_a_chunk_size_that_is_not_positive_is_refused(chunk_size):
    with pytest.raises(ConfigError, match=f"chunk_size is {chunk_size}; it must be positive"):
        TrainConfig(data="d", out="o", steps=1, chunk_size=chunk_size)


def test_training_uses_the_chunk_size_of_its_config():
    model = build_model(dtype=torch.float32)
    images, tokens = make_pairs(model)
    calls = count_calls(model.visual)
    train_loop(
        model,
        torch.optim.SGD(model.parameters(), lr=0.0),
        iter([Batch(images=images, captions=("",) * NUM_PAIRS, ids=("",) * NUM_PAIRS, groups=(None,) * NUM_PAIRS)]),
        BatchPreprocessor(normalize=lambda pixels: pixels, tokenize=lambda _captions: tokens),
        TrainConfig(data="d", out="o", steps=1, precision="fp32", chunk_size=3),
        start_step=0,
        samples_seen=0,
        total_steps=1,
        callback=lambda _report: True,
    )
    assert len(calls) == 5
