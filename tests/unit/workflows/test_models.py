"""`zebra models` lists known models, filtered and ordered by task, in 120 columns; the pages say the same."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from zebra.cli.main import main
from zebra.config.models import ModelsConfig
from zebra.pretrained.known_models import SOURCES, list_known_models
from zebra.pretrained.open_clip.tags import read_tags
from zebra.workflows import models

DOCS = Path(__file__).parents[3] / "docs"


def load_tables():
    spec = importlib.util.spec_from_file_location("model_tables", DOCS / "model_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_tags_and_repositories_are_listed_once_those_that_open_first():
    listed = models.run(ModelsConfig())
    names = [model.name for model in listed]
    assert len(names) == len(set(names))
    assert set(read_tags()) < set(names)
    assert [bool(model.refused) for model in listed] == sorted(bool(model.refused) for model in listed)
    assert all(bool(model.refused) != bool(model.libraries) for model in listed)


@pytest.mark.parametrize(
    ("task", "expected", "absent"),
    [
        ("classify", "ViT-B-32/openai", "hf:patrickjohncyh/fashion-clip"),
        ("search", "ViT-B-32/openai", "ViT-bigG-14/metaclip_fullcc"),
        ("multilingual", "ViT-B-16-SigLIP2-256/webli", "ViT-B-32/openai"),
        ("small", "ViT-B-32/openai", "ViT-B-16/openai"),
    ],
)
def test_a_task_lists_only_models_that_open_and_suit_it(task, expected, absent):
    listed = models.run(ModelsConfig(task=task))
    names = [model.name for model in listed]
    assert expected in names
    assert absent not in names
    assert not any(model.refused for model in listed)
    scores = [(model.coco if task == "search" else model.imagenet) or 0 for model in listed]
    assert scores == sorted(scores, reverse=True)


def test_compute_is_relative_to_vit_b_32():
    compute = {model.name: model.compute for model in list_known_models()}
    assert compute["ViT-B-32/openai"] == 1
    assert compute["ViT-B-16/openai"] == 4
    assert compute["MobileCLIP2-S0/dfndr2b"] == 0.5
    assert compute["hf:google/siglip2-base-patch16-naflex"] is None


def test_every_score_has_a_source_and_is_a_percentage():
    for model in list_known_models():
        scores = [score for score in (model.imagenet, model.coco) if score is not None]
        assert bool(scores) == (model.source in SOURCES.values())
        assert all(1 < score < 100 for score in scores)


def test_the_table_fits_120_columns_and_gives_reasons(capsys):
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    names = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert {model.name for model in list_known_models()} < names
    refused = [model for model in list_known_models() if model.refused]
    assert sum(line.startswith("    ") and line.strip()[:20] in refused[0].refused for line in lines) >= 1


def test_json_has_the_sources_and_licenses(capsys):
    assert main(["models", "--task", "small", "--json"]) == 0
    listed = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert listed["ViT-B-32/datacomp_xl_s13b_b90k"] | {"source": "", "gflops": 0} == {
        "name": "ViT-B-32/datacomp_xl_s13b_b90k",
        "repository": "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "reader": "open_clip",
        "image_size": 224,
        "mparams": pytest.approx(151.2, abs=0.2),
        "embed_dim": 512,
        "languages": "en",
        "license": "mit",
        "imagenet": 69.2,
        "coco": 45.3,
        "source": "",
        "gflops": 0,
        "libraries": ["zebra"],
        "refused": "",
        "note": "",
        "compute": 1.0,
    }


def test_the_pages_state_which_models_open():
    tables = load_tables()
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.update(text) == text, "run: python docs/model_tables.py"
        assert tables.format_counts() in text
    layouts = (DOCS / "layouts.md").read_text(encoding="utf-8")
    assert all(model.repository in layouts for model in list_known_models() if model.name.startswith("hf:"))
    assert all(tables.find_family(name) for name in read_tags())


def test_the_list_is_the_same_without_the_optional_libraries(monkeypatch):
    expected = {model.name: (model.libraries, model.refused) for model in models.run(ModelsConfig())}
    list_known_models.cache_clear()
    with monkeypatch.context() as patch:
        for library in ("transformers", "timm"):
            patch.setitem(sys.modules, library, None)
        actual = {model.name: (model.libraries, model.refused) for model in models.run(ModelsConfig())}
    list_known_models.cache_clear()
    assert actual == expected
