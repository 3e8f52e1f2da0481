"""The tokenizer that an open_clip_config.json names is read from the cache of huggingface_hub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zebra.text import HFTokenizer
from zebra.text.hub_tokenizer import find_named_tokenizer

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "zebra", "Zebra"]
COMMIT = "0" * 40
Fill = Callable[..., None]


@pytest.fixture
def fill_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Return a function that puts a vocab.txt and other files of a repository into an empty cache."""

    def fill(name: str, **files: str) -> None:
        repository = tmp_path / "cache" / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text(COMMIT)
        for file, content in {"vocab.txt": "\n".join(VOCAB), **files}.items():
            (snapshot / file).write_text(content)

    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return fill


def write_model(folder: Path, **text_cfg: object) -> Path:
    (folder / "model").mkdir()
    config = {"model_cfg": {"text_cfg": text_cfg}}
    (folder / "model/open_clip_config.json").write_text(json.dumps(config))
    return folder / "model"


@pytest.mark.parametrize("name", ["bert-base-cased", "google-bert/bert-base-cased"])
def test_the_named_tokenizer_is_found_under_its_old_and_new_name(fill_cache: Fill, tmp_path: Path, name: str) -> None:
    fill_cache(name, **{"tokenizer_config.json": '{"do_lower_case": false}'})
    model = write_model(tmp_path, hf_tokenizer_name="bert-base-cased", tokenizer_kwargs={"strip_sep_token": True})
    tokenizer = find_named_tokenizer(4, model)
    assert isinstance(tokenizer, HFTokenizer)
    assert tokenizer.encode(["Zebra"], truncate=False).ids.tolist() == [[2, 5, 0, 0]]


def test_a_snapshot_whose_settings_were_not_downloaded_is_not_used(fill_cache: Fill, tmp_path: Path) -> None:
    fill_cache("org/bert")
    model = write_model(tmp_path, hf_tokenizer_name="org/bert")
    assert find_named_tokenizer(4, model) is None
    known_to_be_missing = tmp_path / "cache/models--org--bert/.no_exist" / COMMIT / "tokenizer_config.json"
    known_to_be_missing.parent.mkdir(parents=True)
    known_to_be_missing.touch()
    assert find_named_tokenizer(4, model) is not None


@pytest.mark.parametrize("name", [None, "org/other", "in this folder", "/home/me/tokenizer"])
def test_a_tokenizer_that_is_not_in_the_cache_is_not_found(fill_cache: Fill, tmp_path: Path, name: str | None) -> None:
    fill_cache("org/bert", **{"tokenizer_config.json": "{}"})
    assert find_named_tokenizer(4, write_model(tmp_path, hf_tokenizer_name=name)) is None


def test_a_folder_of_another_layout_names_no_tokenizer(tmp_path: Path) -> None:
    assert find_named_tokenizer(4, tmp_path) is None
