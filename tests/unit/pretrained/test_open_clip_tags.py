"""open_clip's names of pretrained models: what they resolve to, and what is said about wrong ones."""

import json
import warnings

import pytest
from PIL import Image
from tests.tiny_model import build_tiny_model

import zebra
from zebra.errors import WeightsError, ZebraError
from zebra.pretrained import locate
from zebra.pretrained.open_clip import config as open_clip_config
from zebra.pretrained.open_clip import tags
from zebra.pretrained.open_clip.layout import write_open_clip
from zebra.pretrained.weights import published_state_dict

TINY = "ViT-B-32/laion400m_e32"
"""A tag that was trained with QuickGELU, of an architecture without it."""


@pytest.fixture
def snapshot(tmp_path, monkeypatch):
    """The "download" of a tiny model in open_clip's layout; the architecture ViT-B-32 has its config."""
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))
    bundle = build_tiny_model()
    folder = tmp_path / "hub" / "0123456789abcdef"
    write_open_clip(
        folder,
        config=bundle.model.config,
        tensors=published_state_dict(bundle.model),
        preprocess=bundle.preprocess,
        tokenizer=bundle.tokenizer,
    )
    model_cfg = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    tiny = tags.Architecture(
        image_mparams=0.1,
        text_mparams=0.1,
        image_gflops=0.1,
        model_cfg={key: value for key, value in model_cfg.items() if key != "quick_gelu"},
    )
    monkeypatch.setattr(tags, "read_architectures", lambda: {"ViT-B-32": tiny})
    downloads = []

    def download(name, weight_names):
        assert weight_names[0] == "open_clip_model.safetensors"
        downloads.append(name)
        return folder

    monkeypatch.setattr(locate, "download_model", download)
    return folder, downloads


def test_a_name_of_open_clip_loads_the_repository_of_its_tag(snapshot):
    folder, downloads = snapshot
    images = [folder / "image.png"]
    Image.new("RGB", (80, 70), "teal").save(images[0])
    named = zebra.load(TINY)
    assert downloads == ["hf:timm/vit_base_patch32_clip_224.laion400m_e32"]
    assert (named.encode_images(images) == zebra.load(folder).encode_images(images)).all()
    assert (named.encode_texts(["a horse"]) == zebra.load(folder).encode_texts(["a horse"])).all()


@pytest.mark.parametrize("name", ["ViT-B-32-quickgelu/laion400m_e32", "ViT-B-32/LAION400M-E32"])
def test_the_spellings_of_a_tag_that_open_clip_accepts_give_the_same_folder(snapshot, name):
    assert locate.resolve_model_path(name) == locate.resolve_model_path(TINY)


def test_a_repository_without_a_config_gets_that_of_the_architecture(snapshot):
    folder, _ = snapshot
    (folder / "open_clip_config.json").unlink()
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "model.ViTaminCLIP"}}))
    assert locate.detect_layout(locate.resolve_model_path(TINY)) == "open_clip"
    assert zebra.load(TINY).model.config.vision.activation == "quick_gelu"


def test_another_config_in_the_repository_is_named_in_a_warning_and_not_used(snapshot):
    folder, _ = snapshot
    raw = json.loads((folder / "open_clip_config.json").read_text())
    del raw["model_cfg"]["quick_gelu"]
    raw["preprocess_cfg"]["resize_mode"] = "squash"
    (folder / "open_clip_config.json").write_text(json.dumps(raw))
    with pytest.warns(UserWarning, match=r"resize .* of timm/vit_base_patch32_clip_224.laion400m_e32") as caught:
        path = locate.resolve_model_path(TINY)
    assert "quick_gelu" in str(caught[0].message)
    config, preprocess = open_clip_config.parse_open_clip_config(json.loads((path / tags.CONFIG_FILE).read_text()))
    assert (config.vision.activation, preprocess.resize) == ("quick_gelu", "shortest")


def test_an_equal_config_in_the_repository_gives_no_warning(snapshot):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locate.resolve_model_path(TINY)


def test_resolving_again_replaces_links_whose_files_are_gone(snapshot, tmp_path):
    folder, _ = snapshot
    path = locate.resolve_model_path(TINY)
    link = path / "open_clip_model.safetensors"
    link.unlink()
    link.symlink_to(tmp_path / "gone")
    locate.resolve_model_path(TINY)
    assert link.resolve() == (folder / "open_clip_model.safetensors").resolve()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ViT-B/32", "timm/vit_base_patch32_clip_224.openai"),
        ("ViT-L/14@336px", "timm/vit_large_patch14_clip_336.openai"),
        ("RN50", "timm/resnet50_clip.openai"),
        ("ViTamin-S/datacomp1b", "jienengchen/ViTamin-S"),
        ("hf:laion/CLIP-ViT-H-14-laion2B-s32B-b79K@main", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        ("runs/demo/model", None),
        ("", None),
    ],
)
def test_names_have_these_repositories(name, expected):
    assert locate.hub_repository(name) == expected
    assert locate.is_hub_model(name) == (expected is not None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ViT-B-32/laion2b_s34b_b97k", "Did you mean 'laion2b_s34b_b79k'"),
        ("ViT-B-32", "no tag is given. Write ViT-B-32/TAG"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "unknown tag 'laion2b_s34b_b79k'"),
        ("vit-b-32/openai", "Did you mean 'ViT-B-32/openai'"),
        ("ViT-SO400M-SigLIP2-384/webli", "Did you mean 'ViT-SO400M-1"),
        ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "Did you mean 'hf:laion/CLIP-ViT-H-14-laion2B-s32B-b79K'"),
        ("openai/clip-vit-base-patch32", "Did you mean 'hf:openai/clip-vit-base-patch32'"),
        ("hf-hub:openai/clip-vit-base-patch32", "Did you mean 'hf:openai/clip-vit-base-patch32'"),
        ("someone/model", 'models of the hub are named "hf:org/name"'),
        ("ViT-B-32/\udcff\0", "unknown tag"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest_names(name, message):
    with pytest.raises(ZebraError) as caught:
        locate.resolve_model_path(name)
    assert message in str(caught.value)


def test_a_local_folder_hides_a_name_of_open_clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ViT-B-32" / "openai").mkdir(parents=True)
    assert not locate.is_hub_model("ViT-B-32/openai")
    with pytest.raises(WeightsError, match="is no model folder"):
        zebra.load("ViT-B-32/openai")


def test_the_config_of_each_tag_is_readable_json_with_its_own_activation():
    for tag in tags.read_tags().values():
        config = json.loads(json.dumps(tag.open_clip_config()))
        assert config["model_cfg"].get("quick_gelu", False) or not tag.quick_gelu
        assert set(config["preprocess_cfg"]) == {"mean", "std", "interpolation", "resize_mode"}
