"""The code of the pages docs/coming-from-*.md runs, and both columns of their tables agree.

Reference: open_clip 3.3.0, transformers 5.24, CLIP_benchmark 1.6.2, and the reader and writer of clip-retrieval 2.45.0.
A small random model is written in the peer's own format; both sides open that folder. Blocks of a page run in order,
Python in one namespace and `zebra` commands in this process.
Tolerance: 1e-5, the order of sums differs; 1e-3 where vectors are stored as float16.
"""

import contextlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zebra.cli.main import VERBS, main

DOCS = Path(__file__).parents[2] / "docs"
PEERS = {
    "coming-from-open-clip": ("open_clip", "open_clip_train"),
    "coming-from-transformers": ("transformers",),
    "coming-from-clip-benchmark": ("clip_benchmark",),
    "coming-from-clip-retrieval": ("clip_retrieval",),
}
"""Page → packages whose names and flags it mentions."""
TOLERANCE = {"coming-from-clip-retrieval": 1e-3}
SAME = ("The same values", "Both ways")
"""Sections whose tables have expressions of one value in both columns."""
CLASSES = ["cat", "zebra", "horse", "tree", "bicycle", "snow"]


# --- pages


def read(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def blocks(page: str) -> list[tuple[str, str]]:
    """Return (language, code) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", read(page), re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """Return the cells of the tables in a text, without their headings."""
    tables = re.findall(r"^\|.*\|\n\|[-| ]+\|\n((?:\|.*\|\n?)+)", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def sections(page: str, titles: tuple[str, ...], *, inside: bool) -> str:
    """Return the sections that have one of the titles, or the others."""
    parts = re.split(r"^## ", read(page), flags=re.MULTILINE)
    return "\n".join(part for part in parts if (part.split("\n")[0] in titles) == inside)


def same_values(page: str) -> list[tuple[str, str]]:
    return [(left.strip("`"), right.strip("`")) for left, right in rows(sections(page, SAME, inside=True))]


def other_rows(page: str) -> list[list[str]]:
    return rows(sections(page, SAME, inside=False))


def flags(cell: str) -> list[str]:
    return re.findall(r"(?<![\w-])--([a-z][\w.-]*\w)", cell)


# --- models and images


@pytest.fixture(scope="module")
def torchvision() -> Iterator[None]:
    """Declare two operators that torchvision expects and a CPU build of torch does not have."""
    library = None
    if importlib.util.find_spec("torchvision"):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):  # another test module declared it
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library


def move(model: Any) -> Any:
    """Add noise to every parameter, so that none is 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("logit"):
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def write_open_clip_model(folder: Path) -> None:
    from open_clip import create_model
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    config = {
        "embed_dim": 40,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
    }
    folder.mkdir()
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = move(create_model(f"local-dir:{folder}"))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, file, config)


def write_transformers_model(folder: Path) -> None:
    import transformers
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(tokens) - 2, "eos_token_id": len(tokens) - 1, "pad_token_id": len(tokens) - 1}
    config = transformers.CLIPConfig(
        text_config={**size, **ends, "vocab_size": len(tokens)},
        vision_config={**size, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    torch.manual_seed(0)
    move(transformers.CLIPModel(config)).save_pretrained(folder)
    images = transformers.CLIPImageProcessorPil(size=32, crop_size=32)
    transformers.CLIPProcessor(images, tokenizer).save_pretrained(folder)


def draw(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((56, 40), Image.Resampling.BILINEAR)


def write_benchmark(folder: Path) -> None:
    """Write 30 images of six classes in CLIP_benchmark's layout."""
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("\n".join(CLASSES))
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na drawing of a {c}.")
    (folder / "test" / "nshards.txt").write_text("1")
    with tarfile.open(folder / "test" / "0.tar", "w") as shard:
        for index in range(30):
            buffer = io.BytesIO()
            draw(index).save(buffer, "PNG")
            for suffix, data in (("png", buffer.getvalue()), ("cls", str(index % 6).encode())):
                member = tarfile.TarInfo(f"s{index:04d}.{suffix}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))


def peer_file(package: str, name: str) -> ModuleType:
    """Import one file of a package whose other files need packages that are not installed."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    file = importlib.util.spec_from_file_location(Path(name).stem, Path(spec.origin).parent / name)
    assert file is not None
    assert file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module


def write_embeddings(folder: Path) -> None:
    """Embed the folder `images` with the reader and the writer of clip-retrieval around the model of open_clip."""
    import open_clip

    get_image_dataset = peer_file("clip_retrieval", "clip_inference/reader.py").get_image_dataset
    OutputSink = peer_file("clip_retrieval", "clip_inference/writer.py").OutputSink
    model, _, transform = open_clip.create_model_and_transforms("local-dir:my-model")
    dataset = get_image_dataset()(transform, None, "images", enable_text=False)
    sink = OutputSink(str(folder), False, True, False, 0, 1)
    for item in dataset:
        with torch.no_grad():
            vector = model.eval().encode_image(item["image_tensor"][None], normalize=True)
        sink.add({"image_embs": vector.half().numpy(), "image_filename": [item["image_filename"]]})
    sink.flush()


# --- tests


@pytest.fixture(scope="module")
def worlds(torchvision: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Page → its folder and the names that its code left; filled by `world`."""
    return {}


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    worlds: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, Any]:
    """Run a page once and return the names that its code left; the page's folder is the working directory."""
    page: str = request.getfixturevalue("page")
    for package in ("timm", "open_clip", "torchvision", *PEERS[page]):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    if page not in worlds:
        folder = tmp_path_factory.mktemp(page)
        monkeypatch.chdir(folder)
        worlds[page] = folder, run(page)
    monkeypatch.chdir(worlds[page][0])
    return worlds[page][1]


def run(page: str) -> dict[str, Any]:
    (write_transformers_model if "transformers" in page else write_open_clip_model)(Path("my-model"))
    draw(100).save("cat.jpg")
    draw(101).save("zebra.png")
    if "benchmark" in page or "retrieval" in page:
        copy_vocabulary(Path("my-model"))
    if "benchmark" in page:
        write_benchmark(Path("animals"))
        # numpy 2.4 no longer turns an array of one number into a float, which CLIP_benchmark relies on.
        definitions: ModuleType = importlib.import_module("clip_benchmark.metrics.zeroshot_classification")
        definitions.float = lambda value: np.asarray(value).item()  # type: ignore[attr-defined]
    if "retrieval" in page:
        Path("images").mkdir()
        for index in range(7):
            draw(index).save(f"images/{index}.png")
        write_embeddings(Path("embeddings"))
    names: dict[str, Any] = {"__name__": "page", "np": np}
    with torch.inference_mode():
        for language, code in blocks(page):
            if language == "python":
                exec(compile(code, f"{page}.md", "exec"), names)
            for command in code.splitlines() if language == "sh" else ():
                words = shlex.split(command, comments=True)
                assert words[0] == "zebra"
                assert main(words[1:]) == 0, command
    return names


def copy_vocabulary(folder: Path) -> None:
    import open_clip

    name = "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(Path(open_clip.__file__).parent / name, folder / name)


@pytest.mark.parametrize(("page", "theirs", "ours"), [(page, *row) for page in PEERS for row in same_values(page)])
def test_both_columns_have_the_same_value(page: str, theirs: str, ours: str, world: dict[str, Any]) -> None:
    with torch.inference_mode():
        expected, value = eval(theirs, world), eval(ours, world)
    if isinstance(expected, list) and isinstance(expected[0], str):
        assert value == expected
        return
    expected, value = (np.asarray(x, dtype=np.float64) for x in (expected, value))
    assert value.shape == expected.shape
    assert np.isfinite(value).all()
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=TOLERANCE.get(page, 1e-5))


@pytest.fixture(scope="module")
def helps() -> str:
    """Return the help of every verb."""
    texts = io.StringIO()
    with contextlib.redirect_stdout(texts):
        for verb in VERBS:
            main([verb, "--help"])
    return texts.getvalue()


@pytest.mark.parametrize("page", PEERS)
def test_every_flag_of_zebra_exists(page: str, helps: str) -> None:
    mentioned = {flag for *_, ours in (row[:2] for row in other_rows(page)) for flag in flags(ours)}
    assert mentioned <= set(flags(helps))


@pytest.mark.parametrize("page", PEERS)
def test_every_flag_of_the_peer_exists(page: str) -> None:
    mentioned = {flag.replace("-", "_") for theirs, *_ in other_rows(page) for flag in flags(theirs)}
    source = ""
    for package in PEERS[page]:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            pytest.skip(f"{package} is not installed")
        if mentioned:
            files = Path(spec.origin).parent.rglob("*.py")
            source += "".join(file.read_text(encoding="utf-8").replace("-", "_") for file in files)
    missing = {flag for flag in mentioned if not re.search(rf"\b_*{flag}\b", source)}
    assert missing == set()
