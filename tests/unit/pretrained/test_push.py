"""Models that are pushed to a hub on localhost by huggingface_hub's own client, and opened again."""

import json
import shutil
import warnings

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard, constants

import zebra
from zebra.config.push import PushConfig
from zebra.errors import ConfigError, UploadError, WeightsError
from zebra.evaluators.results_io import ResultRecord, append_results
from zebra.pretrained.hub_card import render_hub_card
from zebra.values import Score
from zebra.workflows import push

from ...fake_hub import TOKEN, Repo, serve_hub
from ...tiny_model import save_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside huggingface_hub
FILES = {
    "config.json", "model.safetensors", "tokenizer.json", "preprocess.json", "golden.safetensors", "templates.json",
    "MANIFEST.json", "README.md",
}  # fmt: skip


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with serve_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def copied_model(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


def push_model(model, repo="zoo/horse", **options):
    return push.run(PushConfig(model=str(model), repo=repo, **options))


def front_matter(repo):
    return yaml.safe_load(repo.files["README.md"].decode().split("---\n")[1])


def test_a_pushed_model_opens_by_its_name_with_the_same_vectors(hub, model, clip):
    result = push_model(model, license="mit")
    assert (result.repo, result.layout, result.is_uploaded, result.has_license) == ("zoo/horse", "zebra", True, True)
    assert set(hub.repos["zoo/horse"].files) == set(result.files) == FILES
    opened = zebra.load("hf:zoo/horse")
    assert opened.fingerprint == clip.fingerprint
    np.testing.assert_array_equal(opened.encode_texts(["a horse"]), clip.encode_texts(["a horse"]))


def test_only_files_of_the_model_are_uploaded(hub, copied_model):
    for name in (".env", "notes.txt", "optimizer.pt", "log.jsonl", "secret.key"):
        (copied_model / name).write_text("private")
    (copied_model / "checkpoints").mkdir()
    (copied_model / "checkpoints" / "model.safetensors").write_text("private")
    push_model(copied_model)
    assert set(hub.repos["zoo/horse"].files) == FILES


def test_a_second_push_uploads_nothing_and_a_new_card_only_itself(hub, model):
    push_model(model)
    again = push_model(model)
    assert not again.is_uploaded
    assert hub.repos["zoo/horse"].num_commits == 1
    assert push_model(model, license="apache-2.0").is_uploaded
    assert front_matter(hub.repos["zoo/horse"])["license"] == "apache-2.0"
    zebra.load("hf:zoo/horse")


def test_an_interrupted_push_continues(hub, model):
    push_model(model)
    del hub.repos["zoo/horse"].files["model.safetensors"], hub.repos["zoo/horse"].files["README.md"]
    assert push_model(model).is_uploaded
    assert set(hub.repos["zoo/horse"].files) == FILES


def test_another_model_is_replaced_only_on_request_and_leaves_no_file_behind(hub, model, tmp_path):
    old = Repo(files={"config.json": b"{}", "pytorch_model.bin": b"old", "onnx/config.json": b"{}", "photo.png": b"x"})
    hub.repos["zoo/horse"] = old
    before = dict(old.files)
    with pytest.raises(UploadError, match=r"another model: config\.json, pytorch_model\.bin differ.*--replace"):
        push_model(model)
    assert old.files == before
    push_model(model, replace=True)
    assert set(old.files) == FILES | {"onnx/config.json", "photo.png"}
    retrained = save_tiny_model(tmp_path / "retrained", seed=1)
    with pytest.raises(UploadError, match=r"model\.safetensors"):
        push_model(retrained)
    push_model(retrained, replace=True)
    assert zebra.load("hf:zoo/horse").fingerprint == zebra.load(retrained).fingerprint


def test_the_card_keeps_the_readme_and_adds_license_scores_and_code(hub, copied_model, clip, tmp_path):
    text = "---\nlicense: cc-by-4.0\ndatasets: [zoo/photos]\n---\n# My horses\n\n- training: 10 steps\n"
    (copied_model / "README.md").write_text(text)
    for fingerprint, value in ((clip.fingerprint, 0.9), ("f" * 16, 0.1)):
        score = Score(value, 0.85, 0.95, 1200)
        record = ResultRecord(f"zoo-{value}", "zero-shot", "top1", score, "d", provenance={"fingerprint": fingerprint})
        append_results(tmp_path / "results.jsonl", [record])
    push_model(copied_model, scores=(str(tmp_path),))
    card = hub.repos["zoo/horse"].files["README.md"].decode()
    assert front_matter(hub.repos["zoo/horse"]) == {
        "library_name": "zebra-clip", "pipeline_tag": "zero-shot-image-classification", "tags": ["clip"],
        "license": "cc-by-4.0", "datasets": ["zoo/photos"],
        "model-index": front_matter(hub.repos["zoo/horse"])["model-index"],
    }  # fmt: skip
    (result,) = ModelCard(card).data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("zoo-0.9", "accuracy", 0.9)
    assert ModelCard(card).data.model_name == "horse"
    assert "# My horses\n\n- training: 10 steps" in card
    assert "| zoo-0.9 | zero-shot | top1 | 90.0% | 85.0% to 95.0% | 1,200 |" in card
    assert "zoo-0.1" not in card
    assert 'zebra.load("hf:zoo/horse")' in card


def test_an_evaluation_of_another_model_is_refused(hub, model, tmp_path):
    record = ResultRecord("zoo", "zero-shot", "top1", Score(1, 1, 1, 1), "d", provenance={"fingerprint": "f" * 16})
    append_results(tmp_path / "results.jsonl", [record])
    with pytest.raises(ConfigError, match="has no scores of this model"):
        push_model(model, scores=(str(tmp_path),))
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("layout", "config", "code"),
    [
        ("open_clip", "open_clip_config.json", 'create_model_from_pretrained("hf-hub:zoo/horse")'),
        ("transformers", "preprocessor_config.json", 'AutoModel.from_pretrained("zoo/horse")'),
        ("sentence-transformers", "0_CLIPModel/preprocessor_config.json", 'SentenceTransformer("zoo/horse")'),
    ],
)
def test_a_model_is_converted_for_the_library_that_opens_it_by_name(hub, model, clip, tmp_path, layout, config, code):
    assert push_model(model, format=layout).layout == layout
    repo = hub.repos["zoo/horse"]
    assert config in repo.files
    assert "MANIFEST.json" not in repo.files
    assert code in repo.files["README.md"].decode()
    assert "embedding: 32 dimensions" in repo.files["README.md"].decode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(
            zebra.load("hf:zoo/horse").encode_texts(["a horse"]), clip.encode_texts(["a horse"]), atol=1e-6
        )
        # What was downloaded is pushed as it is, in its layout.
        assert push_model("hf:zoo/horse", "zoo/copy").layout == layout
    assert set(hub.repos["zoo/copy"].files) == set(repo.files)


def test_open_clip_finds_the_tokenizer_of_a_pushed_model_in_its_repository(hub, model, tmp_path):
    push_model(model, format="open_clip")
    config = json.loads(hub.repos["zoo/horse"].files["open_clip_config.json"])
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "zoo/horse"


def test_a_model_that_a_layout_cannot_express_is_refused_before_anything_is_created(hub, tmp_path):
    resnet = save_tiny_model(tmp_path / "resnet", kind="resnet")
    with pytest.raises(WeightsError, match="transformers"):
        push_model(resnet, format="transformers")
    assert hub.repos == {}


def test_a_damaged_model_is_refused(hub, copied_model):
    with (copied_model / "model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        push_model(copied_model)
    assert hub.repos == {}


def test_visibility_is_what_was_asked_for(hub, model):
    push_model(model, private=True)
    assert hub.repos["zoo/horse"].private
    assert not push_model(model, private=True).is_uploaded
    hub.repos["zoo/open"] = Repo()
    with pytest.raises(UploadError, match=r"exists and is public.*hf repos settings zoo/open --private"):
        push_model(model, "zoo/open", private=True)
    assert hub.repos["zoo/open"].files == {}


def test_without_a_token_the_message_names_the_command_that_logs_in(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UploadError, match="`hf auth login`"):
        push_model("nothing is loaded")
    assert hub.repos == {}


def test_offline_mode_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UploadError, match="HF_HUB_OFFLINE"):
        push_model("nothing is loaded")


@pytest.mark.parametrize(
    "repo", ["horse", "zoo/horse/foal", "zoo/ho rse", "zoo--x/horse", "../horse", "", "zoo/horse@v2"]
)
def test_names_of_repositories_that_are_not_valid_are_refused(hub, repo, model):
    with pytest.raises(ConfigError, match=r"no valid name of a repository|main branch"):
        push_model(model, repo)
    assert hub.repos == {}


@pytest.mark.parametrize("license_id", ["MIT", "", "my license", "mit\nname: x"])
def test_a_license_that_is_no_identifier_is_refused(license_id):
    with pytest.raises(ConfigError, match=r"apache-2\.0"):
        PushConfig(model="model", repo="zoo/horse", license=license_id)


@pytest.mark.parametrize(
    ("path", "status", "code", "message"),
    [
        ("/api/repos/create", 401, "", "does not accept the token.*`hf auth login`"),
        ("/api/repos/create", 403, "", "may not write to zoo/horse.*`hf auth whoami`"),
        ("/api/models/zoo/horse/commit", 403, "", "may not write to zoo/horse"),
        ("/blobs/", 403, "", "may not write to zoo/horse"),
        ("/api/models/zoo/horse/preupload", 413, "", r"refused zoo/horse \(.*413"),
    ],
)
def test_every_refusal_of_the_hub_has_its_message(hub, model, path, status, code, message):
    hub.refusals[path] = (status, code)
    with pytest.raises(UploadError, match=message):
        push_model(model)


def test_a_hub_that_cannot_be_reached_is_an_upload_error(hub, model, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UploadError, match="zoo/horse failed"):
        push_model(model)


@pytest.mark.parametrize("text", ["---\n- a list\n---\n", "---\na: [\n---\n"])
def test_front_matter_that_is_no_mapping_is_refused(text):
    with pytest.raises(ConfigError, match="front matter"):
        render_hub_card(text, "zoo/horse", "zebra")


def test_the_card_of_a_card_is_the_same():
    card = render_hub_card(
        "# A CLIP model\n\nzebra.load('path/to/this/folder')\n", "zoo/horse", "zebra", license_id="mit"
    )
    assert render_hub_card(card, "zoo/horse", "zebra") == card
    assert card.startswith("---\n")
    assert "# horse\n\nzebra.load('hf:zoo/horse')" in card


def test_the_command_prints_how_to_open_the_model(hub, model, cli):
    output = cli("push", model, "zoo/horse", "--private")
    assert output.out == 'zoo/horse: 8 files; open it with zebra.load("hf:zoo/horse")\n'
    assert "no license" in output.err
    assert cli("push", model, "hf:zoo/horse").out.startswith("zoo/horse: up to date")
