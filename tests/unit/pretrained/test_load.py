"""zebra.load and zebra doctor: all layouts give the same vectors; errors name the cause."""

import json
import os
import shutil
import stat
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import zebra
from zebra.config.export import ExportConfig
from zebra.errors import ConfigError, WeightsError
from zebra.pretrained import golden
from zebra.pretrained.locate import detect_layout
from zebra.pretrained.weights import published_state_dict
from zebra.workflows import doctor, export

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import make_old, random_images

LAYOUTS = [("vit", "zebra"), ("vit", "transformers"), ("vit", "open_clip"), ("resnet", "open_clip")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A ViT and a ResNet in zebra's layout."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("vit", "resnet"):
        build_tiny_model(kind).save(root / kind)
    return root


def exported(models, tmp_path, kind, layout):
    out = tmp_path / layout
    return export.run(ExportConfig(model=str(models / kind), format=layout, out=str(out)))


@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
def test_a_model_written_in_any_layout_opens_with_the_same_vectors(models, tmp_path, kind, layout):
    """The crop of these images has an even margin, because layouts round odd ones differently."""
    folder = exported(models, tmp_path, kind, layout)
    assert detect_layout(folder) == layout
    before, after = zebra.load(models / kind), zebra.load(folder)
    torch.testing.assert_close(after.encode_images(random_images(1)), before.encode_images(random_images(1)))
    torch.testing.assert_close(after.encode_texts(CAPTIONS[:3]), before.encode_texts(CAPTIONS[:3]))
    assert after.logit_scale == before.logit_scale


@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
def test_the_weights_survive_every_layout_bit_for_bit(models, tmp_path, kind, layout):
    before = zebra.load(models / kind).model.state_dict()
    after = zebra.load(exported(models, tmp_path, kind, layout)).model.state_dict()
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


@pytest.fixture
def umask():
    """Return `os.umask`; the mask is restored after the test."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
@pytest.mark.parametrize(("kind", "layout"), LAYOUTS)
def test_every_written_file_has_the_permissions_of_a_new_file(models, tmp_path, umask, kind, layout, mask, mode):
    umask(mask)
    folder = exported(models, tmp_path, kind, layout)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        path.name: mode for path in folder.iterdir()
    }


def test_transformers_cannot_represent_a_resnet(models, tmp_path):
    with pytest.raises(WeightsError, match="open_clip"):
        exported(models, tmp_path, "resnet", "transformers")


def test_nothing_is_written_into_a_folder_that_is_not_empty(models, tmp_path):
    (tmp_path / "zebra").mkdir()
    (tmp_path / "zebra" / "other.txt").write_text("")
    with pytest.raises(ConfigError, match="not empty"):
        exported(models, tmp_path, "vit", "zebra")


def test_of_two_configs_open_clips_is_read_with_a_warning(models, tmp_path):
    folder = exported(models, tmp_path, "vit", "open_clip")
    shutil.copy(exported(models, tmp_path, "vit", "transformers") / "config.json", folder)
    with pytest.warns(UserWarning, match=r"open_clip_config\.json and config\.json; config\.json is ignored"):
        assert zebra.load(folder).embed_dim == 32


def test_the_fingerprint_of_a_foreign_folder_names_its_weights(models, tmp_path):
    folder = exported(models, tmp_path, "vit", "transformers")
    first = zebra.load(folder).fingerprint
    assert first == zebra.load(folder).fingerprint != ""
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = weights["logit_scale"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert zebra.load(folder).fingerprint != first


def test_a_model_without_tokenizer_encodes_images_only(models, tmp_path):
    folder = exported(models, tmp_path, "vit", "transformers")
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / name).rename(tmp_path / name)
    clip = zebra.load(folder)
    assert clip.encode_images(random_images(1)).shape == (1, 32)
    with pytest.raises(WeightsError, match="tokenizer=PATH"):
        clip.encode_texts(["a horse"])
    assert zebra.load(folder, tokenizer=tmp_path / "tokenizer.json").encode_texts(["a horse"]).shape == (1, 32)


def test_another_image_size_interpolates_the_positions(models):
    clip = zebra.load(models / "vit", image_size=96)
    assert clip.image_size == 96 and clip.encode_images(random_images(2)).shape == (2, 32)


@pytest.mark.parametrize("holds", [[], ["model.safetensors"], ["README.md"]])
def test_a_folder_that_is_no_model_is_refused(tmp_path, holds):
    for name in holds:
        (tmp_path / name).write_text("")
    with pytest.raises(WeightsError, match="no model folder"):
        zebra.load(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
def test_for_a_file_of_a_model_folder_the_message_names_the_folder(models, name):
    with pytest.raises(WeightsError, match=f"{name} is a single file.*Name its folder.*vit"):
        zebra.load(models / "vit" / name)


def test_the_doctor_reports_that_no_digest_is_recorded(models, tmp_path):
    numbers = {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(published_state_dict(zebra.load(models / "vit").model) | numbers, tmp_path / "own.pt")
    details = {finding.name: finding.detail for finding in doctor.inspect_model(str(tmp_path / "own.pt"))}
    assert details["sha256"] == "no sha256 is recorded"


def test_a_state_dict_of_another_trainer_is_loaded_with_its_architecture(models, tmp_path):
    own = zebra.load(models / "vit")
    torch.save(published_state_dict(own.model), tmp_path / "own.pt")
    with pytest.raises(WeightsError, match="activation"):
        zebra.load(tmp_path / "own.pt")
    vision, text = own.model.config.vision, own.model.config.text
    loaded = zebra.load(tmp_path / "own.pt", activation=text.activation, heads=(vision.heads, text.heads))
    assert loaded.model.config == own.model.config
    other = zebra.load(tmp_path / "own.pt", activation="gelu", heads=(vision.heads, text.heads))
    assert other.fingerprint != loaded.fingerprint
    with pytest.raises(ConfigError, match="contains its architecture"):
        zebra.load(models / "vit", activation="gelu")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_state_dict_in_any_format_is_refused_with_the_command_that_writes_a_folder(models, tmp_path, suffix):
    own = zebra.load(models / "vit")
    path = tmp_path / f"RemoteCLIP{suffix}"
    tensors = published_state_dict(own.model)
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    shutil.copy(models / "vit" / "tokenizer.json", tmp_path)
    with pytest.raises(WeightsError, match="does not contain the activation") as caught:
        zebra.load(path)
    code = str(caught.value).partition('python -c "')[2].partition('"')[0]
    folder = tmp_path / "folder"
    code = code.replace("IMAGE_HEADS, TEXT_HEADS", "1, 1").replace("FOLDER", str(folder))
    exec(code, {})
    expected = zebra.load(path, activation="gelu", heads=(1, 1))
    torch.testing.assert_close(zebra.load(folder).encode_texts(CAPTIONS[:3]), expected.encode_texts(CAPTIONS[:3]))


@pytest.mark.parametrize("name", ["model.onnx", "model.gguf", "model"])
def test_a_single_file_of_another_format_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(WeightsError, match=f"{name} is a single file.*a state dict of CLIP"):
        zebra.load(tmp_path / name)


def test_a_single_file_of_another_library_is_refused_by_the_name_of_a_tensor(tmp_path):
    save_file({"text_model.embeddings.position_ids": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(WeightsError, match=r"text_model\..*from their folders"):
        zebra.load(tmp_path / "clip.safetensors", activation="gelu")


@pytest.mark.parametrize("model_type", ["jina_clip", "fgclip2", None])
def test_code_of_a_repository_is_named_and_never_run(tmp_path, model_type):
    auto_map = {"AutoConfig": "configuration_clip.Config", "AutoModel": "jinaai/code--modeling_clip.JinaCLIPModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": auto_map}))
    (tmp_path / "modeling_clip.py").write_text("raise SystemExit")
    with pytest.raises(WeightsError, match=r"modeling_clip\.JinaCLIPModel' is code.*never runs.*zebra reads clip, "):
        zebra.load(tmp_path)


@pytest.mark.parametrize("auto_map", [1, [], {}, {"AutoModel": None}, {"AutoTokenizer": ["slow", "fast"]}])
@pytest.mark.parametrize("model_type", ["a-new-type", {}, None])
def test_another_model_type_is_refused_with_the_list_of_those_that_are_read(tmp_path, model_type, auto_map):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": auto_map}))
    with pytest.raises(WeightsError, match=r"is not supported\. From transformers, zebra reads clip, .*siglip"):
        zebra.load(tmp_path)


def test_half_precision_weights_are_converted_to_fp32(models, tmp_path):
    folder = exported(models, tmp_path, "vit", "transformers")
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    clip = zebra.load(folder)
    assert {parameter.dtype for parameter in clip.model.parameters()} == {torch.float32}
    wide = zebra.load(models / "vit").encode_images(random_images(1))
    torch.testing.assert_close(clip.encode_images(random_images(1)), wide, atol=2e-3, rtol=0)


def test_loaded_weights_can_be_trained(models):
    clip = zebra.load(models / "vit")
    clip.model.train()
    images, texts, scale = clip.model(torch.randn(2, 3, 64, 64), torch.ones(2, 5, dtype=torch.int64))
    (images @ texts.T * scale).sum().backward()
    assert all(parameter.grad is not None for parameter in clip.model.parameters())


def test_the_golden_check_runs_once_for_unchanged_files(models, tmp_path, monkeypatch):
    folder = shutil.copytree(models / "vit", tmp_path / "model")
    make_old(folder)
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    runs = []
    real = golden.verify_golden
    monkeypatch.setattr("zebra.pretrained.load.verify_golden", lambda *a: (runs.append(a), real(*a)))
    zebra.load(folder)
    zebra.load(folder)
    assert len(runs) == 1
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt", "touched": "yes"})
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        zebra.load(folder)


def test_verify_false_reads_no_digest_and_no_golden_vector(models, tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("zebra.pretrained.load.verify_golden", refuse)
    monkeypatch.setattr("zebra.pretrained.load.verify_files", refuse)
    assert zebra.load(models / "vit", verify=False).embed_dim == 32


@pytest.mark.parametrize("layout", ["zebra", "transformers", "open_clip"])
def test_the_doctor_finds_no_problem_in_a_valid_model(models, tmp_path, layout):
    findings = doctor.inspect_model(str(exported(models, tmp_path, "vit", layout)))
    assert [finding.name for finding in findings if not finding.is_ok] == []
    assert {"layout", "weights", "image tower", "text tower", "tokenizer", "fingerprint"} <= {
        finding.name for finding in findings
    }


def test_the_doctor_repeats_checks_that_passed_before(models, tmp_path, monkeypatch):
    folder = shutil.copytree(models / "vit", tmp_path / "model")
    make_old(folder)
    zebra.load(folder)
    state = (folder / "model.safetensors").stat()
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    os.utime(folder / "model.safetensors", ns=(state.st_atime_ns, state.st_mtime_ns))
    findings = doctor.inspect_model(str(folder))
    assert any(not finding.is_ok and "sha256" in finding.detail for finding in findings)


def test_the_doctor_describes_the_installation():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "packages" in {finding.name for finding in doctor.inspect_installation()}
