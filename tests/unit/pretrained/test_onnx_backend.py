"""onnxruntime gives the vectors of torch, from a cached graph that is verified at every load."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import torch

import zebra
from zebra.errors import ConfigError, MissingExtra, WeightsError
from zebra.pretrained.onnx import backend as onnx_backend
from zebra.pretrained.onnx.graph import write_image_graph

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import build_siglip_bundle, make_old, random_images

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

KINDS = {"vit": build_tiny_model, "resnet": lambda: build_tiny_model("resnet"), "siglip": build_siglip_bundle}


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    """A cache with the graph of `model`, an hour old, because digests of new files are not cached."""
    cache = tmp_path_factory.mktemp("caches") / "cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEBRA_CACHE", str(cache))
        zebra.load(model, backend="onnxruntime")
    [graph] = (cache / "graphs").iterdir()
    make_old(graph)
    return cache


@pytest.fixture
def cache(written, tmp_path, monkeypatch):
    """A copy of the cache `written`."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(written, tmp_path / "cache"))


@pytest.fixture
def writes(monkeypatch):
    """A list with an entry for every graph that is written."""
    written, write = [], onnx_backend.write_image_graph
    monkeypatch.setattr(onnx_backend, "write_image_graph", lambda *given: written.append(1) or write(*given))
    return written


@pytest.mark.parametrize("kind", KINDS)
def test_images_get_the_vectors_of_torch_within_1e_5(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    exact = KINDS[kind]()
    exact.fingerprint = kind
    clip = onnx_backend.to_onnxruntime(exact)
    for rows in (1, 5):
        vectors = clip.encode_images(random_images(rows))
        assert clip.backend == "onnxruntime"
        assert vectors.dtype == torch.float32
        assert (vectors - exact.encode_images(random_images(rows))).abs().max() < 1e-5


def test_images_are_not_encoded_by_torch(model, cache, monkeypatch):
    clip = zebra.load(model, backend="onnxruntime")
    monkeypatch.setattr(clip.model, "encode_images", None)
    assert clip.encode_images(random_images(2)).shape == (2, 32)


def test_texts_and_features_are_those_of_torch(model, cache):
    clip, exact = zebra.load(model, backend="onnxruntime"), zebra.load(model)
    assert torch.equal(clip.encode_texts(CAPTIONS[:3]), exact.encode_texts(CAPTIONS[:3]))
    images = clip.encode_images(random_images(2), projected=False)
    assert torch.equal(images, exact.encode_images(random_images(2), projected=False))
    assert (clip.precision, clip.fingerprint) == ("fp32", exact.fingerprint)


def test_a_graph_is_written_once(model, cache, writes):
    zebra.load(model, backend="onnxruntime")
    assert not writes


def test_a_damaged_graph_is_written_again(model, cache, writes):
    [graph] = (cache / "graphs").glob("*/vision_model.onnx")
    data = bytearray(graph.read_bytes())
    data[len(data) // 2] ^= 4
    graph.write_bytes(data)
    clip = zebra.load(model, backend="onnxruntime")
    assert writes == [1]
    assert (clip.encode_images(random_images(2)) - zebra.load(model).encode_images(random_images(2))).abs().max() < 1e-5


def test_the_least_recently_used_graphs_are_evicted(model, cache, writes):
    """Temporary folders of killed processes are evicted too."""
    graphs = cache / "graphs"
    os.utime(next(graphs.iterdir()), (1, 1))  # the test uses it, so it becomes the newest
    names = [f"{number}-0.1.0-torch2" for number in range(3)] + ["writing-abc"]
    for number, name in enumerate(names):
        (graphs / name).mkdir()
        os.utime(graphs / name, (1_000 * (9 - number),) * 2)
    zebra.load(model, backend="onnxruntime")
    remaining = {path.name for path in graphs.iterdir()}
    assert remaining - set(names[:3]) == remaining - set(names)
    assert set(names[:3]) < remaining
    assert len(remaining) == 4


def test_onnxruntime_has_as_many_threads_as_torch(model, cache):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        session = zebra.load(model, backend="onnxruntime")._image_encoder._session
        assert session.get_session_options().intra_op_num_threads == before + 1
    finally:
        torch.set_num_threads(before)


def test_without_onnxruntime_the_command_to_install_it_is_named(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=r'onnxruntime.*pip install "zebra-clip\[onnx\]"'):
        zebra.load(model, backend="onnxruntime")


def test_a_cache_that_cannot_be_written_is_named(model, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where a folder should be")
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be written to .*ZEBRA_CACHE"):
        zebra.load(model, backend="onnxruntime")


def test_a_tower_that_torch_cannot_export_is_refused_with_the_reason(tmp_path, monkeypatch):
    def fail(*_args, **_options):
        raise torch.onnx.OnnxExporterError("step 1 failed") from ValueError("no such operator\nand more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        ConfigError, match=r"tower of vision_model.onnx to ONNX: no such operator\. Use the backend torch"
    ):
        write_image_graph(build_tiny_model().model, tmp_path / "vision_model.onnx")
