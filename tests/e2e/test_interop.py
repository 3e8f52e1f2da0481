"""Import and export of models on the command line; tests/parity compares every layout with its library."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from .conftest import draw_shape
from .test_own_data import SMALL, as_csv

VIT = (
    "--steps", 4, "--batch-size", 16, "--workers", 0, "--model", "tiny-vit", "--model.image-size", 32,
    "--model.vision.width", 64, "--model.vision.heads", 1, "--model.vision.layers", 1, "--model.text.layers", 1,
)  # fmt: skip
LABELS = ("--labels", "red circle,blue square")


@pytest.fixture(scope="module")
def trained(zebra, pairs, tmp_path_factory):
    """A ViT and a ResNet trained by zebra with a small vocabulary, and an image."""
    root = tmp_path_factory.mktemp("trained")
    data = as_csv(root, pairs)
    zebra("train", "--data", data, "--out", "vit", *VIT, cwd=root)
    zebra("train", "--data", data, "--out", "resnet", *SMALL, "--steps", 4, cwd=root)
    draw_shape("red", "circle", 7, (64, 64)).save(root / "photo.png")
    return root


def scores(zebra, model, cwd):
    process = zebra("classify", model, "photo.png", *LABELS, "--json", cwd=cwd)
    return {entry["label"]: entry["score"] for entry in json.loads(process.stdout)[0]["scores"]}


@pytest.mark.parametrize(
    ("kind", "layout"), [("vit", "transformers"), ("vit", "open_clip"), ("resnet", "open_clip"), ("vit", "zebra")]
)
def test_export_and_classify_again_gives_the_same_scores(zebra, trained, tmp_path, kind, layout):
    out = tmp_path / "exported"
    output = zebra("export", f"{kind}/model", "--format", layout, "--out", out, cwd=trained).stdout
    assert str(out) in output
    before, after = scores(zebra, f"{kind}/model", trained), scores(zebra, out, trained)
    assert after == pytest.approx(before, abs=1e-5)


def test_a_resnet_is_not_exported_to_transformers_and_the_message_names_another_layout(cli, trained, tmp_path):
    args = ("export", "resnet/model", "--format", "transformers", "--out", tmp_path / "x")
    assert "open_clip" in cli(*args, cwd=trained, code=1).err


def test_a_model_of_the_hub_is_loaded_from_the_cache_without_a_network(
    trained, installed, environment, zebra, tmp_path
):
    """`zebra classify hf:openai/clip-vit-base-patch32 cat.jpg --labels "cat,dog"`, from the cache of the hub."""
    zebra("export", "vit/model", "--format", "transformers", "--out", tmp_path / "x", cwd=trained)
    repo = tmp_path / "hub" / "models--openai--clip-vit-base-patch32"
    commit = "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(tmp_path / "x", repo / "snapshots" / commit)
    Image.open(trained / "photo.png").save(tmp_path / "cat.jpg")
    args = ["classify", "hf:openai/clip-vit-base-patch32", "cat.jpg", "--labels", "cat,dog", "--json"]
    process = subprocess.run(
        [sys.executable, str(installed / "bin" / "zebra"), *args],
        cwd=tmp_path,
        env=environment | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert {entry["label"] for entry in json.loads(process.stdout)[0]["scores"]} == {"cat", "dog"}


def test_for_a_model_that_is_not_cached_the_message_names_the_download_command(installed, environment, tmp_path):
    process = subprocess.run(
        [sys.executable, str(installed / "bin" / "zebra"), "doctor", "hf:openai/clip-vit-base-patch16"],
        env=environment | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "hf download openai/clip-vit-base-patch16" in process.stdout + process.stderr


def test_doctor_describes_a_valid_model_and_detects_one_flipped_bit(cli, trained, tmp_path):
    output = cli("doctor", "vit/model", cwd=trained).out
    assert "golden vectors" in output and "BAD" not in output
    broken = shutil.copytree(trained / "vit" / "model", tmp_path / "model")
    weights = broken / "model.safetensors"
    state = weights.stat()
    data = bytearray(weights.read_bytes())
    data[-3] ^= 16
    weights.write_bytes(data)
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert "BAD sha256" in cli("doctor", broken, cwd=trained, code=1).out
