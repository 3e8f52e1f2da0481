"""`--device` of every verb that uses a model."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from zebra.cli.main import VERBS
from zebra.config.embed import EmbedConfig
from zebra.config.train import TrainConfig
from zebra.distributed import ProcessGroup
from zebra.errors import ConfigError
from zebra.pretrained.device import use_device
from zebra.workflows.train import _use_train_device

VERBS_WITHOUT_MODEL = {
    "menagerie",
    "queries",
    "dedup",
    "outliers",
    "columns",
    "compare",
    "study",
    "human",
    "models",
    "export",  # copies weights, on the CPU
    "push",  # the same
}


@pytest.fixture(scope="module")
def world(tmp_path_factory, model) -> Path:
    """A folder with captioned images in `images`, two classes in `classes`, and their store."""
    from zebra.workflows import embed

    root = tmp_path_factory.mktemp("device")
    for name in ("cat", "dog"):
        (root / "classes" / name).mkdir(parents=True)
        (root / "images").mkdir(exist_ok=True)
        for index in range(2):
            image = Image.new("RGB", (64, 64), (90 * index, 200, 40 if name == "cat" else 200))
            image.save(root / "classes" / name / f"{index}.png")
            image.save(root / "images" / f"{name}{index}.png")
            (root / "images" / f"{name}{index}.txt").write_text(f"a {name}")
    embed.run(EmbedConfig(model=str(model), data=str(root / "images"), out=str(root / "store")))
    return root


COMMANDS = {
    "demo": ["--samples", "4", "--steps", "1"],
    "curate": ["images", "--out", "curated", "--model", "MODEL", "--score.min-alignment", "0.1"],
    "score": ["images", "--model", "MODEL", "--out", "scores.parquet"],
    "train": ["--data", "images", "--out", "run", "--from", "MODEL"],
    "sweep": ["tiny", "--over", "lr=1e-3,1e-4", "--data", "images", "--out", "sweep"],
    "classify": ["MODEL", "images/cat0.png", "--labels", "cat,dog"],
    "probe": ["MODEL", "classes", "--out", "clf"],
    "embed": ["MODEL", "images", "--out", "store2"],
    "search": ["store", "a cat"],
    "clusters": ["store", "--words", "images/cat0.txt"],
    "serve": ["--store", "store", "--port", "0"],
    "explain": ["MODEL", "images/cat0.png", "a cat", "--out", "map.html"],
    "evaluate": ["MODEL", "classes", "--out", "evaluation"],
    "overlap": ["MODEL", "images", "classes", "--out", "overlap"],
    "doctor": ["MODEL"],
    "bench": ["MODEL", "--seconds", "0"],
}


def test_every_verb_with_a_model_is_tried():
    assert COMMANDS.keys() | VERBS_WITHOUT_MODEL == VERBS.keys()


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_missing_device_is_refused_by_name(verb, cli, world, model):
    args = [model if arg == "MODEL" else arg for arg in COMMANDS[verb]]
    output = cli(verb, *args, "--device", "cuda:64", cwd=world, code=1)
    assert "device 'cuda:64' is not available. Use one of: cpu" in output.out + output.err


def test_the_cpu_can_be_chosen(cli, world, model):
    cli("embed", model, "images", "--out", "on-cpu", "--device", "cpu", cwd=world)
    assert "cat" in cli("search", "on-cpu", "a cat", "--device", "cpu", cwd=world).out


def test_one_of_several_gpus_becomes_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    current = []
    monkeypatch.setattr(torch.cuda, "_exchange_device", lambda index: current.append(index) or 0)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", lambda index: current.append(index) or 1)
    with use_device("cuda:1") as device:
        assert str(device) == "cuda:1"
        assert current == [1]
    assert current == [1, 0]
    with use_device("cuda") as device:
        assert str(device) == "cuda"
    assert current == [1, 0]


def test_several_processes_cannot_share_a_named_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.device.__enter__", lambda _self: None)
    monkeypatch.setattr("torch.cuda.device.__exit__", lambda *_args: None)
    with (
        pytest.raises(ConfigError, match=r"device is cuda:1, but each of the 2 processes uses a GPU of its own"),
        _use_train_device("cuda:1", ProcessGroup(0, 2)),
    ):
        pass


def test_ray_assigns_the_gpus_of_its_workers():
    with pytest.raises(ConfigError, match="Ray gives each worker its GPU"):
        EmbedConfig(model="m", data="d", out="s", engine="ray", device="cuda:0")
    assert EmbedConfig(model="m", data="d", out="s", engine="ray", device="cuda").device == "cuda"


def test_the_device_may_change_when_a_run_resumes():
    from zebra.train.run_spec import numerics_settings

    settings = [numerics_settings(TrainConfig(data="d", out="o", steps=1, device=name)) for name in ("auto", "cuda:1")]
    assert settings[0] == settings[1]
