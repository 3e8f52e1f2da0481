"""The MTEB encoder, in tasks of MTEB on generated data. Reference: mteb 2.26 and scikit-learn's scores."""

import warnings

import numpy as np
import pytest
from PIL import Image

from zebra.errors import ConfigError

from ...parity.conftest import torchvision  # noqa: F401
from .conftest import TEXTS, import_adapter

ZebraEncoder = import_adapter("mteb").ZebraEncoder
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.abstasks import AbsTaskZeroShotClassification
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

pytestmark = [pytest.mark.usefixtures("torchvision"), pytest.mark.filterwarnings("ignore")]  # deprecations inside mteb
LABELS = ["a photo of a horse", "a photo of a striped cat", "two spotted dogs in the snow"]


def describe(name, kind, category, score, modalities):
    return TaskMetadata(
        name=name, description="generated", reference="https://example.org/", type=kind, category=category,
        dataset={"path": "none/generated", "revision": "1"}, modalities=modalities, eval_splits=["test"],
        eval_langs=["eng-Latn"], main_score=score, date=("2026-01-01", "2026-01-01"), domains=["Constructed"],
        task_subtypes=[], license="mit", annotations_creators="derived", dialect=[], sample_creation="created",
        bibtex_citation="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def encoder(model):
    return ZebraEncoder(model)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(1)
    return [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(12)]


def test_zero_shot_classification_of_mteb_gives_the_accuracy_of_the_model(encoder, clip, images):
    labels = [index % 3 for index in range(12)]

    class Generated(AbsTaskZeroShotClassification):
        metadata = describe("GeneratedZeroShot", "ZeroShotClassification", "i2t", "accuracy", ["image", "text"])

        def load_data(self, **_):
            self.dataset = DatasetDict(test=Dataset.from_dict({"image": images, "label": labels}))
            self.data_loaded = True

        def get_candidate_labels(self):
            return LABELS

    (result,) = mteb.evaluate(encoder, Generated(), cache=None, show_progress_bar=False).task_results
    predicted = (clip.encode_images(images) @ clip.encode_texts(LABELS).T).argmax(dim=1).numpy()
    assert result.scores["test"][0]["accuracy"] == pytest.approx(np.mean(predicted == labels))


def test_retrieval_of_mteb_gives_the_recall_of_the_model(encoder, clip, images):
    relevant = {f"q{row}": {f"d{row * 5}": 1} for row in range(2)}

    class Generated(AbsTaskRetrieval):
        metadata = describe("GeneratedRetrieval", "Any2AnyRetrieval", "t2i", "ndcg_at_10", ["image", "text"])

        def load_data(self, **_):
            self.dataset = {
                "default": {
                    "test": {
                        "queries": Dataset.from_dict({"id": ["q0", "q1"], "text": TEXTS}),
                        "corpus": Dataset.from_dict({"id": [f"d{row}" for row in range(12)], "image": images}),
                        "relevant_docs": relevant,
                        "top_ranked": None,
                    }
                }
            }
            self.data_loaded = True

    (result,) = mteb.evaluate(encoder, Generated(), cache=None, show_progress_bar=False).task_results
    similarity = (clip.encode_texts(TEXTS) @ clip.encode_images(images).T).numpy()
    ranks = [int((similarity[row] > similarity[row, row * 5]).sum()) for row in range(2)]
    for k in (1, 5, 10):
        expected = np.mean([rank < k for rank in ranks])
        assert result.scores["test"][0][f"recall_at_{k}"] == pytest.approx(expected)


def test_texts_and_images_of_an_item_are_added_and_missing_ones_left_out(encoder, clip, images):
    batches = [{"text": [TEXTS[0], None], "image": [images[0], images[1]]}, {"text": [TEXTS[1]], "image": [None]}]
    vectors = encoder.encode(batches)
    texts, pixels = clip.encode_texts(TEXTS), clip.encode_images(images[:2])
    expected = np.stack([texts[0] + pixels[0], pixels[1], texts[1]])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert encoder.encode([]).shape == (0, clip.embed_dim)


def test_a_task_of_another_modality_is_refused(encoder):
    with pytest.raises(ConfigError, match="the task has audio"):
        encoder.encode([{"audio": [b""]}])


def test_results_carry_the_fingerprint_and_the_name_of_the_model(encoder, model, clip):
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.revision) == (f"zebra/{model.name}", clip.fingerprint)
    assert isinstance(encoder, mteb.EncoderProtocol)
