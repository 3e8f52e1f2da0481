"""int8 weights give the products of fp32 within rounding; any other use of them is refused."""

import copy

import pytest
import torch
from torch.nn import functional as F

from zebra.pretrained.int8 import Int8PatchEmbed, Int8Weight, quantize, weight_quant_max

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
def levels():
    weight_quant_max.cache_clear()
    yield weight_quant_max()
    weight_quant_max.cache_clear()


def test_integers_in_the_range_of_int8_are_multiplied_exactly(levels):
    x, weight, bias = (integers(3, 5, 32, largest=127), integers(7, 32, largest=levels, seed=1), random_tensor(7))
    expected = (x.double() @ weight.double().T + bias).float()
    torch.testing.assert_close(F.linear(x, Int8Weight.from_float(weight), bias), expected, rtol=1e-6, atol=0)


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


def test_weights_have_seven_bits_on_processors_that_would_overflow(monkeypatch):
    """Without VNNI, oneDNN adds two products in 16 bits; the test simulates its result."""
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: (a.int() @ b.int()).clamp(max=2**15))
    weight_quant_max.cache_clear()
    assert weight_quant_max() == 63
    assert int(Int8Weight.from_float(random_tensor(4, 16)).weight_IO.abs().max()) == 63
    weight_quant_max.cache_clear()


@pytest.mark.parametrize(
    "part", ["attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"]
)
def test_every_matrix_of_a_block_is_in_int8(part):
    tower = copy.deepcopy(build_tiny_model().model.visual)
    quantize(tower)
    for block in tower.transformer.blocks():
        *path, name = part.split(".")
        module = block
        for step in path:
            module = getattr(module, step)
        assert isinstance(getattr(module, name), Int8Weight)
    assert isinstance(tower.conv1, Int8PatchEmbed)
