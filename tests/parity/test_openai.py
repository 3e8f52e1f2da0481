"""A file in OpenAI's layout gives the tensors that torch.jit reads and the vectors that its model computes.

Reference: OpenAI's CLIP as described by its paper (§2.4) and code, reimplemented here with torch's own layers
(`nn.MultiheadAttention`, layer norm in fp32, batch norm in evaluation mode), with random weights, saved by
`torch.jit.save` of torch 2.13 both traced and scripted, also with half-precision weights as published.
Tolerance: none for tensors; 1e-5 for unit vectors in fp32, because pooling and attention sum in another order
here (measured: no difference for the transformers, 6e-7 for the ResNets).
The published files are not used, because they need a network. The tests imitate what their archives contain besides
weights (three sizes as tensors, no byte order entry), and compare their digests with those in open_clip 3.3.
"""

import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from zebra.pretrained.openai.layout import OPENAI_SHA256, published_file_name, read_openai
from zebra.pretrained.weights import build_model

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean:torch.jit.TracerWarning"),
]

WIDTH, TEXT_WIDTH, EMBED, VOCABULARY, CONTEXT = 128, 64, 48, 300, 20


class LayerNorm(nn.Module):
    """Layer norm that computes in fp32 for every input type."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        width = [x.shape[-1]]
        return F.layer_norm(x.float(), width, self.weight, self.bias, 1e-5).to(x.dtype)


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width, heads, mask):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = LayerNorm(width), LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU())]
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * width, width))]))
        self.attn_mask = mask

    def forward(self, x):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.attn_mask)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, width, layers, mask):
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, width // 64, mask) for _ in range(layers)))

    def forward(self, x):
        return self.resblocks(x.transpose(0, 1)).transpose(0, 1)


class VisionTransformer(nn.Module):
    def __init__(self, width, patch, size):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = LayerNorm(width), LayerNorm(width)
        self.transformer = Transformer(width, 2, None)
        self.proj = nn.Parameter(torch.randn(width, EMBED) / 8)

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(x.shape[0], 1, x.shape[2])
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        return self.ln_post(self.transformer(x)[:, 0]) @ self.proj


class Bottleneck(nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3, self.bn3 = nn.Conv2d(channels, 4 * channels, 1, bias=False), nn.BatchNorm2d(4 * channels)
        self.downsample = None
        if stride > 1 or channels_in != 4 * channels:
            shortcut = nn.Conv2d(channels_in, 4 * channels, 1, bias=False)
            layers = [("-1", nn.AvgPool2d(stride)), ("0", shortcut), ("1", nn.BatchNorm2d(4 * channels))]
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(self.avgpool(torch.relu(self.bn2(self.conv2(y))))))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class AttentionPool(nn.Module):
    def __init__(self, grid, width):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, width) / 4)
        self.k_proj, self.q_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.c_proj = nn.Linear(width, width), nn.Linear(width, EMBED)
        self.heads = width // 64

    def forward(self, x):
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(dim=0, keepdim=True), x]) + self.positional_embedding[:, None]
        bias = torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias])
        pooled, _ = F.multi_head_attention_forward(
            x[:1],
            x,
            x,
            x.shape[2],
            self.heads,
            None,
            bias,
            None,
            None,
            False,
            0.0,
            self.c_proj.weight,
            self.c_proj.bias,
            training=False,
            need_weights=False,
            use_separate_proj_weight=True,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
        )
        return pooled[0]


class ModifiedResNet(nn.Module):
    def __init__(self, width, layers, size):
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = nn.Conv2d(3, half, 3, 2, 1, bias=False), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1, bias=False), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        channels = width
        for stage, blocks in enumerate(layers):
            stack = []
            for block in range(blocks):
                stack.append(Bottleneck(channels, width << stage, 2 if stage and not block else 1))
                channels = 4 * (width << stage)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*stack))
        self.attnpool = AttentionPool(size // 32, 32 * width)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = self.avgpool(torch.relu(self.bn3(self.conv3(x))))
        return self.attnpool(self.layer4(self.layer3(self.layer2(self.layer1(x)))))


class Reference(nn.Module):
    """Both towers, with the names in OpenAI's files."""

    def __init__(self, visual, size):
        super().__init__()
        self.visual = visual
        mask = torch.full((CONTEXT, CONTEXT), float("-inf")).triu_(1)
        self.transformer = Transformer(TEXT_WIDTH, 3, mask)
        self.token_embedding = nn.Embedding(VOCABULARY, TEXT_WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, TEXT_WIDTH))
        self.ln_final = LayerNorm(TEXT_WIDTH)
        self.text_projection = nn.Parameter(torch.randn(TEXT_WIDTH, EMBED) / 8)
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))
        sizes = {"input_resolution": size, "context_length": CONTEXT, "vocab_size": VOCABULARY}
        for name, value in sizes.items():
            self.register_buffer(name, torch.tensor(value))
        for name, value in self.state_dict().items():  # so that a misplaced scale, bias or statistic is detected
            if value.is_floating_point() and value.ndim == 1:
                value.copy_(torch.rand(value.shape) + (0.5 if name.endswith(("weight", "var")) else -0.5))
        for module in self.modules():  # so that biases do not dominate the input
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def encode_image(self, image):
        return self.visual(image)

    def encode_text(self, text):
        x = self.ln_final(self.transformer(self.token_embedding(text) + self.positional_embedding))
        return x[torch.arange(text.shape[0]), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image, text):
        return self.encode_image(image), self.encode_text(text)


def halve(model):
    """Convert matrices and convolutions to half precision, as published by OpenAI, but not norms and embeddings."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.MultiheadAttention):
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.half()))
    model.text_projection = nn.Parameter(model.text_projection.half())
    if hasattr(model.visual, "proj"):
        model.visual.proj = nn.Parameter(model.visual.proj.half())


def inputs(size):
    generator = torch.Generator().manual_seed(1)
    texts = torch.zeros(5, CONTEXT, dtype=torch.int64)
    for row, length in enumerate([0, 1, 4, 9, CONTEXT - 2]):
        body = torch.randint(1, VOCABULARY - 2, (length,), generator=generator)
        texts[row, : length + 2] = torch.cat([torch.tensor([298]), body, torch.tensor([299])])
    return torch.randn(3, 3, size, size, generator=generator), texts


def save_scripted(model, path, size):
    torch.jit.save(torch.jit.script(model), path)


def save_traced(model, path, size):
    image, text = inputs(size)
    methods = {"encode_image": image, "encode_text": text, "forward": (image, text)}
    torch.jit.save(torch.jit.trace_module(model, methods, check_trace=False), path)


def without_byte_order(path):
    """Rewrite an archive as torch 1.7 did, without a byte order entry."""
    with zipfile.ZipFile(path) as file:
        entries = {info.filename: (file.read(info), info.compress_type) for info in file.infolist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, (content, compression) in entries.items():
            if not name.endswith("/byteorder"):
                file.writestr(name, content, compression)


CASES = {
    "vit": (lambda: VisionTransformer(WIDTH, 16, 48), 48, save_scripted, False),
    "vit traced": (lambda: VisionTransformer(WIDTH, 16, 48), 48, save_traced, False),
    "vit half": (lambda: VisionTransformer(WIDTH, 16, 48), 48, save_scripted, True),
    "resnet": (lambda: ModifiedResNet(16, (1, 2, 1, 1), 96), 96, save_traced, False),
    "resnet half": (lambda: ModifiedResNet(16, (2, 1, 1, 1), 64), 64, save_scripted, True),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    make, size, save, half = CASES[request.param]
    torch.manual_seed(0)
    model = Reference(make(), size).eval().requires_grad_(False)
    if half:
        halve(model)
    path = tmp_path_factory.mktemp("openai") / "model.pt"
    save(model, path, size)
    if request.param == "vit traced":
        without_byte_order(path)
    return path, model.float(), size


def test_tensors_have_the_bits_that_torch_jit_reads(case):
    path, _, _ = case
    expected = torch.jit.load(path).state_dict()
    read = read_openai(path).tensors
    assert expected.keys() - read.keys() == {"input_resolution", "context_length", "vocab_size"}
    assert read.keys() <= expected.keys()
    for name, value in read.items():
        assert value.dtype == expected[name].dtype, name
        assert torch.equal(value, expected[name]), name


@torch.inference_mode()
def test_vectors_are_those_of_the_reference(case):
    path, reference, size = case
    checkpoint = read_openai(path)
    model = build_model(checkpoint.config, checkpoint.tensors, str(path)).eval()
    images, texts = inputs(size)
    pairs = [
        (model.encode_images(images), reference.encode_image(images)),
        (model.encode_texts(texts), reference.encode_text(texts)),
    ]
    for ours, theirs in pairs:
        assert (ours - F.normalize(theirs, dim=-1)).abs().max() < 1e-5
        assert ours.std(dim=0).max() > 1e-2  # different inputs, different vectors
    assert float(model.logit_scale) == float(reference.logit_scale)


def test_a_plain_state_dict_gives_the_same_model(case, tmp_path):
    path, _, _ = case
    torch.save(torch.jit.load(path).state_dict(), tmp_path / "plain.pt")
    plain, archived = read_openai(tmp_path / "plain.pt"), read_openai(path)
    assert plain.config == archived.config
    assert plain.tensors.keys() == archived.tensors.keys()
    assert all(torch.equal(value, archived.tensors[name]) for name, value in plain.tensors.items())


def test_images_are_preprocessed_as_by_openai(case, open_clip):
    path, _, size = case
    transform = open_clip.image_transform(size, is_train=False)
    pixels = np.random.default_rng(0).integers(0, 256, (91, 140, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("P")
    preprocess = read_openai(path).preprocess
    ours = preprocess.normalize(torch.from_numpy(preprocess.resize_and_crop(image))[None])[0]
    assert preprocess.decode == "reference"
    assert (ours - transform(image)).abs().max() < 1e-6  # a rounding error, not one gray level (0.014)


def test_digests_are_those_in_open_clip(open_clip):
    for name, digest in OPENAI_SHA256.items():
        theirs = name.replace("/", "-").replace("@336px", "-336")
        *_, published_digest, file = open_clip.get_pretrained_url(theirs, "openai").split("/")
        assert (published_digest, file) == (digest, published_file_name(name))
