"""Every kind of task of MIEB runs in mteb 2.26 with a zebra model; shared metrics equal those of `zebra.protocols`.

The tasks are mteb's abstract classes with generated data. The model is random, so its scores are near chance.
"""

import itertools
import json
import re
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import spearmanr

from zebra.evaluators.clustering import run_mini_batch_kmeans
from zebra.protocols.clustering_metrics import score_clusters
from zebra.protocols.compositionality import evaluate_choices
from zebra.protocols.image_retrieval import retrieve_from_gallery
from zebra.protocols.macro_f1 import macro_f1
from zebra.protocols.retrieval import compute_retrieval_ranks
from zebra.protocols.zero_shot import classify_zero_shot
from zebra.values import Embeddings

from ..unit.integrations.conftest import import_adapter

ZebraEncoder = import_adapter("mteb").ZebraEncoder
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb import abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

pytestmark = [pytest.mark.usefixtures("torchvision"), pytest.mark.filterwarnings("ignore")]  # deprecations inside mteb
NUM_IMAGES, NUM_CLASSES = 48, 3
LABELS = ["a photo of a horse", "a photo of a striped cat", "two spotted dogs in the snow"]
ROUNDED = 1.1e-5
"""mteb rounds the scores of retrieval to five decimals."""


@pytest.fixture(scope="module")
def encoder(model):
    return ZebraEncoder(model)


@pytest.fixture(scope="module")
def data(clip):
    """Images of three classes, which differ in color, with two captions each; and their unit vectors."""
    rng = np.random.default_rng(1)
    labels = np.arange(NUM_IMAGES) % NUM_CLASSES
    noise = rng.integers(0, 100, (NUM_IMAGES, 32, 32, 3))
    colors = 25 * np.eye(3, dtype=int)[labels] + rng.integers(0, 100, (NUM_IMAGES, 3))
    images = [Image.fromarray(pixels.astype(np.uint8)) for pixels in noise + colors[:, None, None]]
    words = ["red", "green", "blue", "horse", "cat", "dog", "snow", "beach", "car", "tree", "a", "two"]
    texts = [" ".join(pair) for pair in itertools.permutations(words, 2)][: 2 * NUM_IMAGES]
    return SimpleNamespace(
        images=images,
        labels=labels,
        texts=texts,
        image_NE=clip.encode_images(images).numpy(),
        text_ME=clip.encode_texts(texts).numpy(),
    )


def embeddings(vectors, labels=None):
    return Embeddings(vectors, tuple(map(str, range(len(vectors)))), labels)


def describe(kind, category, main_score, languages):
    modalities = [name for name in ("image", "text") if name[0] in category]
    return TaskMetadata(
        name="Generated", description="generated", reference="https://example.org/", type=kind, category=category,
        dataset={"path": "none/generated", "revision": "1"}, modalities=modalities, eval_splits=["test"],
        eval_langs=languages, main_score=main_score, date=("2026-01-01", "2026-01-01"), domains=["Constructed"],
        task_subtypes=[], license="mit", annotations_creators="derived", dialect=[], sample_creation="created",
        bibtex_citation="",
    )  # fmt: skip


def build_task(base, kind, category, main_score, dataset, *, languages=("eng-Latn",), **attributes):

    def load_data(self, **_):
        self.dataset = dataset
        self.data_loaded = True

    languages = languages if isinstance(languages, dict) else list(languages)
    metadata = describe(kind, category, main_score, languages)
    return type("Generated", (base,), {"metadata": metadata, "load_data": load_data, **attributes})()


def run(encoder, *args, **options):
    """Run a task of mteb; return the scores of each subset."""
    return build_task(*args, **options).evaluate(encoder, "test", encode_kwargs={"show_progress_bar": False})


def retrieve(encoder, category, queries, corpus, relevant, *, kind="Any2AnyRetrieval", main_score="ndcg_at_10", **rest):
    """Run retrieval: queries and corpus are columns, relevant has the rows of the corpus for each query."""
    split = {
        "queries": Dataset.from_dict({"id": [f"q{row}" for row in range(len(relevant))], **queries}),
        "corpus": Dataset.from_dict({"id": [f"d{row}" for row in range(len(next(iter(corpus.values()))))], **corpus}),
        "relevant_docs": {f"q{row}": {f"d{other}": 1 for other in rows} for row, rows in enumerate(relevant)},
        "top_ranked": rest.pop("top_ranked", None),
    }
    return run(encoder, abstasks.AbsTaskRetrieval, kind, category, main_score, {"default": {"test": split}}, **rest)[
        "default"
    ]


def test_zero_shot_classification(encoder, clip, data):
    scores = run(
        encoder,
        abstasks.AbsTaskZeroShotClassification,
        "ZeroShotClassification",
        "i2t",
        "accuracy",
        DatasetDict(test=Dataset.from_dict({"image": data.images, "label": data.labels.tolist()})),
        get_candidate_labels=lambda _: LABELS,
    )["default"]
    ours = classify_zero_shot(embeddings(data.image_NE, data.labels), clip.encode_texts(LABELS).numpy()).scores()
    assert 0 < scores["accuracy"] < 1
    assert ours["top1"].value == pytest.approx(scores["accuracy"])
    assert ours["mean_per_class"].value == pytest.approx(scores["recall"])
    predicted = (data.image_NE @ clip.encode_texts(LABELS).numpy().T).argmax(axis=1)
    assert macro_f1(predicted, data.labels).value == pytest.approx(scores["f1"])


def test_retrieval_of_images_by_captions(encoder, data):
    """Each caption has one image, so mteb's recall, hit rate and ours are one metric."""
    owners = np.arange(2 * NUM_IMAGES) // 2
    scores = retrieve(encoder, "t2i", {"text": data.texts}, {"image": data.images}, [[owner] for owner in owners])
    ours = compute_retrieval_ranks(embeddings(data.image_NE), embeddings(data.text_ME), owners).scores()
    assert 0 < scores["recall_at_10"] < 1
    for k in (1, 5, 10):
        value = ours[f"text_to_image_recall@{k}"].value
        assert value == pytest.approx(scores[f"recall_at_{k}"], abs=ROUNDED)
        assert value == pytest.approx(scores[f"hit_rate_at_{k}"], abs=ROUNDED)


def test_retrieval_of_captions_by_images(encoder, data):
    """An image with several captions: mteb's hit rate is our recall; its recall is the fraction of captions found."""
    owners = np.arange(2 * NUM_IMAGES) // 2
    relevant = [np.flatnonzero(owners == row) for row in range(NUM_IMAGES)]
    scores = retrieve(encoder, "i2t", {"image": data.images}, {"text": data.texts}, relevant)
    ours = compute_retrieval_ranks(embeddings(data.image_NE), embeddings(data.text_ME), owners).scores()
    for k in (1, 5, 10):
        assert ours[f"image_to_text_recall@{k}"].value == pytest.approx(scores[f"hit_rate_at_{k}"], abs=ROUNDED)
    assert 0 < scores["recall_at_10"] < scores["hit_rate_at_10"] < 1


def test_retrieval_in_several_languages(encoder, data):
    halves = {"en": slice(0, NUM_IMAGES), "de": slice(NUM_IMAGES, 2 * NUM_IMAGES)}
    ids = {"id": [str(row) for row in range(NUM_IMAGES)]}
    dataset = {
        language: {
            "test": {
                "queries": Dataset.from_dict(ids | {"text": data.texts[rows]}),
                "corpus": Dataset.from_dict(ids | {"image": data.images}),
                "relevant_docs": {row: {row: 1} for row in ids["id"]},
                "top_ranked": None,
            }
        }
        for language, rows in halves.items()
    }
    scores = run(
        encoder,
        abstasks.AbsTaskRetrieval,
        "Any2AnyMultilingualRetrieval",
        "t2i",
        "ndcg_at_10",
        dataset,
        languages={"en": ["eng-Latn"], "de": ["deu-Latn"]},
    )
    for language, rows in halves.items():
        ours = compute_retrieval_ranks(
            embeddings(data.image_NE), embeddings(data.text_ME[rows]), np.arange(NUM_IMAGES)
        ).scores()
        assert 0 < scores[language]["recall_at_10"] < 1
        for k in (1, 5, 10):
            expected = scores[language][f"recall_at_{k}"]
            assert ours[f"text_to_image_recall@{k}"].value == pytest.approx(expected, abs=ROUNDED)


def test_retrieval_of_document_pages_and_of_images_by_images(encoder, data):
    """Vidore has one page for each question, and ndcg follows from its rank; an image finds its class."""
    pages = [[row] for row in range(NUM_IMAGES)]
    questions = {"text": data.texts[:NUM_IMAGES]}
    kind = {"kind": "DocumentUnderstanding", "main_score": "ndcg_at_5"}
    scores = retrieve(encoder, "t2i", questions, {"image": data.images}, pages, **kind)
    similarity = data.text_ME[:NUM_IMAGES] @ data.image_NE.T
    rank = (similarity > np.diag(similarity)[:, None]).sum(axis=1)
    assert scores["ndcg_at_5"] == pytest.approx(np.where(rank < 5, 1 / np.log2(rank + 2), 0).mean(), abs=ROUNDED)
    queries, corpus = slice(-12, None), slice(0, -12)
    relevant = [np.flatnonzero(data.labels[corpus] == label) for label in data.labels[queries]]
    columns = {"image": data.images[queries]}, {"image": data.images[corpus]}
    scores = retrieve(encoder, "i2i", *columns, relevant, main_score="map_at_5")
    none = [np.array([], np.int64)] * 12
    ours = retrieve_from_gallery(data.image_NE[queries], data.image_NE[corpus], relevant, none).scores()
    assert 0 < scores["map_at_100"] < 1
    assert ours["map"].value == pytest.approx(scores["map_at_100"], abs=ROUNDED)
    for k in (1, 5, 10):
        assert ours[f"recall@{k}"].value == pytest.approx(scores[f"hit_rate_at_{k}"], abs=ROUNDED)


def test_queries_of_an_image_and_a_text_and_multiple_choice(encoder, clip, data):
    """The vectors of both are added before normalization, as mteb's own CLIP models do."""
    texts, images = data.texts[:NUM_IMAGES], data.images
    choices = {f"q{row}": [f"d{row}", f"d{(row + 1) % NUM_IMAGES}"] for row in range(NUM_IMAGES)}
    scores = retrieve(
        encoder,
        "it2t",
        {"image": images, "text": texts},
        {"text": data.texts[NUM_IMAGES:]},
        [[row] for row in range(NUM_IMAGES)],
        kind="VisionCentricQA",
        main_score="accuracy",
        top_ranked=choices,
    )
    query = clip.encode_images(images, normalize=False) + clip.encode_texts(texts, normalize=False)
    similarity = query.numpy() @ data.text_ME[NUM_IMAGES:].T
    rows = np.arange(NUM_IMAGES)
    expected = np.mean(similarity[rows, rows] > similarity[rows, (rows + 1) % NUM_IMAGES])
    assert scores["accuracy"] == pytest.approx(expected, abs=ROUNDED)
    assert 0 < expected < 1


def test_compositionality_with_two_images_and_two_captions(encoder, data):
    half = NUM_IMAGES // 2
    columns = {"image_0": data.images[:half], "image_1": data.images[half:]}
    columns |= {"caption_0": data.texts[:half], "caption_1": data.texts[half:NUM_IMAGES]}
    scores = run(
        encoder,
        abstasks.AbsTaskImageTextPairClassification,
        "Compositionality",
        "i2t",
        "accuracy",
        DatasetDict(test=Dataset.from_dict(columns)),
        images_column_names=["image_0", "image_1"],
        texts_column_names=["caption_0", "caption_1"],
    )["default"]
    index_N2 = np.arange(NUM_IMAGES).reshape(2, half).T
    ours = evaluate_choices(data.image_NE, data.text_ME, index_N2, index_N2, (0, 1)).correct
    assert 0 < scores["text_acc"] < 1
    assert ours["text"].mean() == pytest.approx(scores["text_acc"])
    assert ours["image"].mean() == pytest.approx(scores["image_acc"])
    assert ours["group"].mean() == pytest.approx(scores["accuracy"])


def test_compositionality_with_one_image_and_two_captions(encoder, data):
    scores = run(
        encoder,
        abstasks.AbsTaskImageTextPairClassification,
        "Compositionality",
        "i2t",
        "text_acc",
        DatasetDict(
            test=Dataset.from_dict(
                {"image": data.images, "right": data.texts[:NUM_IMAGES], "wrong": data.texts[NUM_IMAGES:]}
            )
        ),
        images_column_names="image",
        texts_column_names=["right", "wrong"],
    )["default"]
    image_N1, caption_N2 = np.arange(NUM_IMAGES)[:, None], np.arange(2 * NUM_IMAGES).reshape(2, NUM_IMAGES).T
    ours = evaluate_choices(data.image_NE, data.text_ME, image_N1, caption_N2, (0, None)).correct
    assert 0 < scores["text_acc"] < 1
    assert ours["accuracy"].mean() == pytest.approx(scores["text_acc"])
    assert scores["image_acc"] == scores["accuracy"] == 0  # no caption but the first can find the only image


def test_visual_semantic_similarity(encoder, data):
    half = NUM_IMAGES // 2
    targets = np.random.default_rng(0).uniform(0, 5, half)
    columns = {"sentence1": data.images[:half], "sentence2": data.images[half:], "score": targets.tolist()}
    scores = run(
        encoder,
        abstasks.AbsTaskSTS,
        "VisualSTS(eng)",
        "i2i",
        "cosine_spearman",
        DatasetDict(test=Dataset.from_dict(columns)),
    )["default"]
    cosines = (data.image_NE[:half] * data.image_NE[half:]).sum(axis=1)
    assert scores["cosine_spearman"] == pytest.approx(spearmanr(cosines, targets).statistic)


def probe_and_cluster(encoder, data):
    """Return the scores of the tasks that depend on the lengths of vectors."""
    labels = data.labels.tolist()
    halves = {"train": slice(0, None, 2), "test": slice(1, None, 2)}
    labeled = DatasetDict(
        {name: Dataset.from_dict({"image": data.images[h], "label": labels[h]}) for name, h in halves.items()}
    )
    several = [[label, 3 + row % 2] for row, label in enumerate(labels)]
    multilabel = DatasetDict(
        {name: Dataset.from_dict({"image": data.images[h], "label": several[h]}) for name, h in halves.items()}
    )
    kind, columns = "ImageClassification", {"input_column_name": "image", "n_experiments": 2, "samples_per_label": 4}
    return {
        "probe": run(encoder, abstasks.AbsTaskClassification, kind, "i2c", "accuracy", labeled, **columns),
        "multilabel": run(
            encoder, abstasks.AbsTaskMultilabelClassification, kind, "i2c", "lrap", multilabel, **columns
        ),
        "clusters": run(
            encoder,
            abstasks.AbsTaskClusteringLegacy,
            "ImageClustering",
            "i2c",
            "nmi",
            DatasetDict(test=Dataset.from_dict({"image": data.images, "label": labels})),
            input_column_name="image",
            label_column_name="label",
        ),
    }


def test_probes_and_clusters_equal_those_of_mteb_with_its_own_class_for_open_clip(encoder, clip, data, monkeypatch):
    """The class does not normalize vectors. `test_open_clip.py` compares those of the two libraries."""
    from mteb.models.model_implementations import openclip_models

    visual, text = clip.model.visual, clip.model.text
    model = SimpleNamespace(encode_image=visual, encode_text=text, eval=lambda: None)

    def preprocess(image):
        return clip.preprocess.normalize(torch.from_numpy(clip.preprocess.resize_and_crop(image))[None])[0]

    library = SimpleNamespace(
        create_model_and_transforms=lambda *_, **__: (model, None, preprocess),
        get_tokenizer=lambda _: lambda texts: torch.from_numpy(clip.tokenizer.encode(texts).ids),
    )
    monkeypatch.setitem(sys.modules, "open_clip", library)
    monkeypatch.setattr(torch.cuda.amp, "autocast", nullcontext)
    theirs = openclip_models.openclip_loader("zoo/tiny", revision="1", device="cpu")
    theirs.mteb_model_meta = encoder.mteb_model_meta
    expected, scores = probe_and_cluster(theirs, data), probe_and_cluster(encoder, data)
    for task, metrics in (("probe", "accuracy f1"), ("multilabel", "lrap f1"), ("clusters", "nmi v_measure")):
        for metric in metrics.split():
            assert scores[task]["default"][metric] == pytest.approx(expected[task]["default"][metric], abs=1e-6)
    assert 1 / NUM_CLASSES < scores["probe"]["default"]["accuracy"] < 1


def test_clusters(encoder, clip, data):
    """zebra clusters unit vectors; of the vectors that mteb gets, the clusters are the same."""
    columns = {"image": data.images, "label": data.labels.tolist()}
    scores = run(
        encoder,
        abstasks.AbsTaskClusteringLegacy,
        "ImageClustering",
        "i2c",
        "nmi",
        DatasetDict(test=Dataset.from_dict(columns)),
        input_column_name="image",
        label_column_name="label",
    )["default"]
    cluster_N = run_mini_batch_kmeans(clip.encode_images(data.images, normalize=False).numpy(), NUM_CLASSES, 42)
    ours = score_clusters(data.labels, cluster_N, cluster_N[None])
    assert 0 < scores["v_measure"] < 1
    assert ours["v_measure"].value == pytest.approx(scores["v_measure"])
    assert ours["v_measure"].value == pytest.approx(scores["nmi"])
    assert ours["ari"].value == pytest.approx(scores["ari"])
    assert ours["accuracy"].value == pytest.approx(scores["cluster_accuracy"])


def test_results_are_saved_by_the_name_the_fingerprint_and_the_precision_of_the_model(
    model, clip, data, tmp_path, monkeypatch
):
    if "sentence_transformers" not in sys.modules:  # mteb imports it, which takes seconds, to see that ours is none
        stub = SimpleNamespace(SentenceTransformer=type, CrossEncoder=type)
        monkeypatch.setitem(sys.modules, "sentence_transformers", stub)
    columns = {"sentence1": data.images[:4], "sentence2": data.images[4:8], "score": [0, 1, 2, 3]}
    task = build_task(
        abstasks.AbsTaskSTS, "VisualSTS(eng)", "i2i", "cosine_spearman", DatasetDict(test=Dataset.from_dict(columns))
    )
    scores = {}
    for precision in ("fp32", "bf16"):
        encoder = ZebraEncoder(model, precision=precision, metadata={"name": "zoo/tiny", "license": "mit"})
        results = mteb.evaluate(encoder, task, cache=mteb.ResultCache(tmp_path), show_progress_bar=False)
        scores[precision] = results.task_results[0].get_score()
    folder = tmp_path / "results" / "zoo__tiny" / clip.fingerprint
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    of_bf16 = "experiments/precision_bf16/"
    assert files == ["Generated.json", f"{of_bf16}Generated.json", f"{of_bf16}model_meta.json", "model_meta.json"]
    saved = json.loads((folder / "Generated.json").read_text(encoding="utf-8"))
    assert saved["scores"]["test"][0]["main_score"] == pytest.approx(scores["fp32"])
    meta = json.loads((folder / "model_meta.json").read_text(encoding="utf-8"))
    assert (meta["license"], meta["n_parameters"]) == ("mit", clip.num_parameters)
    assert meta["release_date"] is meta["training_datasets"] is None


def test_the_code_of_the_page_on_leaderboards_runs(model, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "leaderboards.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(code, "leaderboards.md", "exec", dont_inherit=True), names)
    assert names["encoder"].mteb_model_meta.name == "zoo/horses"
    assert (tmp_path / "leaderboard").is_dir()
