"""Folders of sentence-transformers: what is read, and what is refused by name."""

import json
import shutil

import pytest
import torch

import zebra
from zebra.errors import WeightsError
from zebra.pretrained.sentence_transformers.layout import write_sentence_transformers
from zebra.pretrained.weights import published_state_dict

from ...tiny_model import CAPTIONS, build_tiny_model
from .bundles import random_images

PACKAGE = "sentence_transformers.models"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a tiny model and its folder."""
    bundle = build_tiny_model("vit")
    folder = tmp_path_factory.mktemp("written")
    write_sentence_transformers(
        folder,
        config=bundle.model.config,
        tensors=published_state_dict(bundle.model),
        preprocess=bundle.preprocess,
        tokenizer=bundle.tokenizer,
    )
    return bundle, folder


@pytest.fixture
def folder(written, tmp_path):
    """Return a copy of the folder, to be changed."""
    return shutil.copytree(written[1], tmp_path / "model")


def write_modules(folder, *modules):
    entries = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))


def write_settings(folder, **settings):
    path = folder / "0_CLIPModel" / "sentence_bert_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_written_folder_has_the_same_vectors(written):
    bundle, folder = written
    loaded = zebra.load(folder)
    torch.testing.assert_close(loaded.encode_texts(CAPTIONS[:3]), bundle.encode_texts(CAPTIONS[:3]))
    # The even margin of this image is cropped alike in all layouts.
    torch.testing.assert_close(loaded.encode_images(random_images(1)), bundle.encode_images(random_images(1)))


@pytest.mark.parametrize(
    "kind", [f"{PACKAGE}.Transformer", "sentence_transformers.base.modules.transformer.Transformer"]
)
def test_a_clip_model_in_the_folder_itself_is_read(folder, kind):
    for file in (folder / "0_CLIPModel").iterdir():
        file.rename(folder / file.name)
    write_modules(folder, (kind, ""))
    assert zebra.load(folder).embed_dim == 32


def test_any_supported_model_type_is_read(folder):
    (folder / "0_CLIPModel" / "config.json").write_text(json.dumps({"model_type": "chinese_clip", "text_config": {}}))
    with pytest.raises(WeightsError, match=r"has the image size 64, but config\.json has 224"):
        zebra.load(folder)


def test_settings_are_optional_as_in_the_first_published_models(folder):
    (folder / "0_CLIPModel" / "sentence_bert_config.json").unlink()
    (folder / "config_sentence_transformers.json").write_text('{"__version__": {"sentence_transformers": "2.0.0"}}')
    assert zebra.load(folder).embed_dim == 32


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([("Pooling", "1_Pooling"), ("CLIPModel", "0_CLIPModel")], "modules Pooling, CLIPModel"),
        ([("CLIPModel", "0_CLIPModel"), ("CLIPModel", "0_CLIPModel")], "modules CLIPModel, CLIPModel"),
        ([("CLIPModel", "0_CLIPModel"), ("Dense", "1_Dense")], "modules CLIPModel, Dense"),
        ([("Transformer", ""), ("Pooling", "1_Pooling")], r"is a text model .*zebra\.load\(IMAGE_MODEL, text="),
        ([("Normalize", "0_Normalize")], "has the modules none"),
        ([("LSTM", "0_LSTM")], r"sentence_transformers\.models\.LSTM is not supported"),
        ([("CLIPModel", "../other")], "outside the model"),
        ([("CLIPModel", "/etc")], "outside the model"),
        ([("CLIPModel", "0_Other")], r"0_Other.config\.json"),
    ],
)
def test_other_modules_are_refused_by_name(folder, modules, message):
    write_modules(folder, *((f"{PACKAGE}.{kind}", path) for kind, path in modules))
    with pytest.raises(WeightsError, match=message):
        zebra.load(folder)


def test_code_in_the_repository_is_never_run(folder):
    write_modules(folder, ("custom_st.Transformer", "0_CLIPModel"))
    (folder / "custom_st.py").write_text("raise SystemExit")
    with pytest.raises(WeightsError, match=r"custom_st\.Transformer is code in the repository"):
        zebra.load(folder)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", '[{"path": ""}]', '[{"type": 1, "path": ""}]'])
def test_a_damaged_list_of_modules_is_refused(folder, content):
    (folder / "modules.json").write_text(content)
    with pytest.raises(WeightsError, match=r"modules\.json"):
        zebra.load(folder)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"modality_config": {"text": {"method": "forward", "method_output_name": "logits"}}}, "modality_config"),
        ({"module_output_name": "token_embeddings"}, "module_output_name"),
        ({"do_lower_case": True}, "do_lower_case"),
        ({"max_seq_length": 12}, "max_seq_length is 12, but the model reads 16 tokens"),
        ({"max_seq_length": "12"}, "max_seq_length is '12'"),
        ({"model_kwargs": {"dtype": "float16"}}, "model_kwargs"),
        ({"query_length": 3}, "query_length"),
        ({"processing_kwargs": {"text": {"max_length": 4}}}, "processing_kwargs"),
        ({"processing_kwargs": {"image": {"do_resize": False}}}, "processing_kwargs"),
        ({"processing_kwargs": {"common": {"padding": False}}}, "processing_kwargs"),
        ({"processing_kwargs": [1]}, "processing_kwargs"),
    ],
)
def test_settings_that_change_vectors_are_refused_by_key(folder, settings, key):
    write_settings(folder, **settings)
    with pytest.raises(WeightsError, match=key):
        zebra.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "SparseEncoder"}, "SparseEncoder"),
        ({"prompts": {"query": "search: "}, "default_prompt_name": "query"}, "'search: ' before each text"),
    ],
)
def test_another_type_of_model_and_a_default_prompt_are_refused(folder, config, message):
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        zebra.load(folder)


def test_prompts_that_are_not_the_default_do_not_matter(folder):
    prompts = {"prompts": {"query": "search: "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    assert zebra.load(folder).embed_dim == 32
