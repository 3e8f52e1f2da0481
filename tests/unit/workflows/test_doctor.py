"""`zebra doctor` tells models from datasets and inspects each with the config's tokenizer."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from zebra.config.doctor import DoctorConfig
from zebra.config.presets import get_preset
from zebra.config.train import TrainConfig
from zebra.data import inspection
from zebra.errors import DataError
from zebra.text.bpe import BPETokenizer
from zebra.workflows import doctor


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """The config to train on two captioned images; loading is measured briefly, in this process."""
    monkeypatch.setattr(inspection, "THROUGHPUT_SECONDS", 0.02)
    monkeypatch.setattr(inspection, "worker_counts", lambda cores: [0])
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, caption in (("a", "zebra"), ("b", "zebra " * 40)):
        Image.new("RGB", (20, 20)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)
    return TrainConfig(data=str(folder), out="", steps=1, batch_size=2, model=get_preset("tiny-resnet"))


def inspect(config: TrainConfig) -> inspection.DataReport:
    report = doctor.run(DoctorConfig(target=config.data, train=config))
    assert isinstance(report, inspection.DataReport)
    return report


def test_a_tokenizer_file_counts_without_a_context_limit(photos: TrainConfig, tmp_path: Path) -> None:
    BPETokenizer.train(["zebra " * 4], 600).save(tmp_path / "tokenizer.json")
    config = replace(photos, tokenizer=str(tmp_path / "tokenizer.json"))
    captions = inspect(config).captions
    assert (captions.tokenizer, captions.tokens.max, captions.num_truncated) == (config.tokenizer, 42, 1)


def test_a_path_with_neither_data_nor_a_model_says_both(tmp_path: Path) -> None:
    config = TrainConfig(data=str(tmp_path / "nothing"), out="", steps=1)
    with pytest.raises(DataError, match=r"there is nothing at .*nor is it a model"):
        inspect(config)


@pytest.mark.parametrize("name", ["config.json", "open_clip_config.json", "modules.json", "MANIFEST.json"])
def test_a_folder_with_a_file_that_only_models_have_is_a_model(name: str, tmp_path: Path) -> None:
    assert not doctor.is_model_path(str(tmp_path))
    (tmp_path / name).write_text("{}")
    assert doctor.is_model_path(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "model"),
    [("hf:openai/clip", True), ("ViT-B-32.pt", True), ("captions.csv", False), ("shards/{000..003}.tar", False)],
)
def test_names_alone_tell_models_from_data(name: str, model: bool) -> None:
    assert doctor.is_model_path(name) is model
