"""int8 weights give the products of fp32 within rounding; any other use of them is refused."""

import copy

import pytest
import torch
from torch.nn import functional as F

from zebra.models.transformer import ACTIVATION_FUNCTIONS, MLP
from zebra.pretrained import int8
from zebra.pretrained.int8 import Int8PatchEmbed, Int8Weight, has_packed_product, quantize, weight_quant_max
from zebra.pretrained.linear_layers import InferenceMLP

from ...tiny_model import build_tiny_model


def random_tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def integers(*shape, largest, seed=0):
    """Draw integers with the largest first in each row, which int8 with a scale of 1 represents exactly."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-largest, largest + 1, shape, generator=generator).float()
    numbers[..., 0] = largest
    return numbers


@pytest.fixture
def fresh_kernels():
    """No cached knowledge about the processor, before and after the test."""
    for function in (weight_quant_max, has_packed_product):
        function.cache_clear()
    yield
    for function in (weight_quant_max, has_packed_product):
        function.cache_clear()


@pytest.fixture(params=["packed", "plain"])
def levels(request, fresh_kernels, monkeypatch):
    """The largest integer of weights, with each of the two kernels of the product."""
    if request.param == "packed" and not has_packed_product():
        pytest.skip("this processor has no VNNI")
    monkeypatch.setattr(int8, "has_packed_product", lambda: request.param == "packed")
    return weight_quant_max()


def test_integers_in_the_range_of_int8_are_multiplied_exactly(levels):
    x, weight, bias = (integers(3, 5, 32, largest=127), integers(7, 32, largest=levels, seed=1), random_tensor(7))
    product = x.double() @ weight.double().T
    int8_weight = Int8Weight.from_float(weight)
    torch.testing.assert_close(F.linear(x, int8_weight, bias), (product + bias).float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(F.linear(x, int8_weight), product.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("outputs", "inputs"), [(1, 33), (100, 3), (65, 127), (17, 4)])
def test_shapes_that_are_no_multiples_of_a_register_are_multiplied(outputs, inputs, levels):
    """Rows of 1 to 70 tokens: oneDNN has other kernels for few of them."""
    weight = integers(outputs, inputs, largest=levels)
    int8_weight = Int8Weight.from_float(weight)
    for tokens in (1, 2, 16, 70):
        x = integers(tokens, inputs, largest=127, seed=tokens)
        torch.testing.assert_close(F.linear(x, int8_weight), x @ weight.T, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("activation", ACTIVATION_FUNCTIONS)
def test_an_mlp_in_blocks_is_near_that_of_fp32(activation, levels):
    """Also tokens whose hidden values are all small."""
    torch.manual_seed(0)
    mlp = MLP(32, 128, activation).requires_grad_(False)
    x = random_tensor(2, 5, 32) * torch.tensor([3.0, 1.0, 0.1, 1e-3, 10.0])[:, None]
    expected, actual = mlp(x), InferenceMLP(mlp, Int8Weight.from_float, block_size=4)(x)
    assert actual.shape == expected.shape
    assert ((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).max() < 0.03


def test_an_mlp_leaves_its_input_unchanged():
    x = random_tensor(6, 32)
    before = x.clone()
    InferenceMLP(MLP(32, 64, "gelu"), Int8Weight.from_float, block_size=4)(x)
    assert torch.equal(x, before)


def test_every_row_and_every_token_has_its_own_scale():
    """With values from 1e-6 to 1e6, errors are small relative to each row and token."""
    sizes = torch.logspace(-6, 6, 9)
    x, weight = random_tensor(9, 256) * sizes[:, None], random_tensor(9, 256, seed=1) * sizes.flip(0)[:, None]
    product = F.linear(x, Int8Weight.from_float(weight), torch.zeros(9))
    scale = x.norm(dim=1)[:, None] * weight.norm(dim=1)
    assert ((product - x @ weight.T).abs() / scale).max() < 2e-3


def test_a_token_of_zeros_gives_the_bias_and_nan_stays_nan():
    bias = random_tensor(4)
    x = torch.stack([torch.zeros(16), torch.full((16,), torch.nan)])
    zeros, unknown = F.linear(x, Int8Weight.from_float(random_tensor(4, 16)), bias)
    assert torch.equal(zeros, bias)
    assert unknown.isnan().all()


def test_a_row_of_zeros_gives_its_bias():
    weight = random_tensor(4, 16)
    weight[2] = 0
    assert F.linear(random_tensor(3, 16), Int8Weight.from_float(weight), torch.arange(4.0))[:, 2].tolist() == [2, 2, 2]


@pytest.mark.parametrize("use", [F.normalize, lambda m: torch.split(m, 2), lambda m: torch.ones(4, 4) @ m])
def test_any_other_use_of_a_weight_is_refused(use):
    with pytest.raises((TypeError, AttributeError)):
        use(Int8Weight.from_float(random_tensor(4, 4)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [(8, 12), (9, 14)])
def test_patches_are_cut_as_by_a_convolution(bias, size, levels):
    """Also if the image ends with half a patch."""
    conv = torch.nn.Conv2d(3, 5, 4, stride=4, bias=bias)
    with torch.no_grad():
        conv.weight.copy_(integers(5, 48, largest=levels).view(5, 3, 4, 4))
        pixels = integers(2, 3, *size, largest=127, seed=1)
        pixels[:, 0, ::4, ::4] = 127  # the first pixel of every patch
        # Sums of integers up to 10^6: a wrong one differs by at least 1, and the bias may be rounded either way.
        torch.testing.assert_close(Int8PatchEmbed(conv)(pixels), conv(pixels), rtol=1e-6, atol=0.05)


def test_weights_have_seven_bits_on_processors_that_would_overflow(monkeypatch, fresh_kernels):
    """Without VNNI, oneDNN adds two products in 16 bits; the test simulates its result."""
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(max=2**15))
    assert weight_quant_max() == 63
    assert not has_packed_product()
    assert int(Int8Weight.from_float(random_tensor(4, 16)).weight.abs().max()) == 63


@pytest.mark.parametrize("tower", ["visual", "text"])
def test_every_matrix_of_a_block_is_in_int8(tower):
    module = copy.deepcopy(getattr(build_tiny_model().model, tower))
    quantize(module)
    for block in module.transformer.blocks():
        for weight in (block.attn.in_proj_weight, block.attn.out_proj.weight, block.mlp.fc, block.mlp.proj):
            assert isinstance(weight, Int8Weight)
    assert tower == "text" or isinstance(module.conv1, Int8PatchEmbed)
