"""Image classifiers: labels or learned classes, and "none of these"."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from zebra.atomic_io import atomic_write
from zebra.errors import ConfigError, WeightsError
from zebra.images.inputs import ImageInput
from zebra.images.tensors import Pixels
from zebra.pretrained.bundle import Bundle
from zebra.values import Classification, Prediction

METADATA_FILE, TENSORS_FILE = "classifier.json", "classifier.safetensors"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear probe on the features before the projection."""

    weight_CD: Tensor
    bias_C: Tensor


class ImageClassifier:
    """Names what is in images: one of several classes, or none of them."""

    def __init__(
        self,
        clip: Bundle,
        classnames: Sequence[str],
        class_CE: Tensor,
        *,
        head: LinearHead | None = None,
        temperature: float | None = None,
        threshold: float | None = None,
    ) -> None:
        """Combine the parts.

        Args:
            class_CE: A unit vector per class, of its label or the mean of its examples. An image whose cosine to all of
                them is below the threshold shows none of the classes.
            head: Computes the logits; without it they are the scaled cosines.
            temperature: Divides the logits before the softmax. None: they are not calibrated, and the scores are those
                of `Bundle.classify`.
            threshold: Smallest cosine of an image of one of the classes; None accepts all images.
        """
        self.clip, self.classnames, self.class_CE, self.head = clip, tuple(classnames), class_CE, head
        self.temperature, self.threshold = temperature, threshold

    def __repr__(self) -> str:
        return f"ImageClassifier({len(self.classnames)} classes, threshold {self.threshold}, {self.clip.fingerprint})"

    def classify(self, images: Iterable[ImageInput], *, top_k: int | None = None) -> list[Classification]:
        """Classify images of any kind that `Bundle.encode_images` takes.

        Args:
            top_k: Number of predictions per image; None returns all classes.
        """
        return [
            result for pixels in self.clip.pixel_batches(images) for result in self.classify_pixels(pixels, top_k=top_k)
        ]

    def classify_pixels(self, pixels: Pixels, *, top_k: int | None = None) -> list[Classification]:
        """Classify images from `preprocess.resize_and_crop`; see `classify`."""
        features_BD, vectors_BE = None, None
        if self.head is None:
            vectors_BE = self.clip.encode_pixels(pixels)
        else:
            features_BD, vectors_BE = self.clip.encode_pixels_with_features(pixels)
        cosine_BC = vectors_BE @ self.class_CE.T
        probability_BC = self._probabilities(features_BD, cosine_BC)
        score_BK, class_BK = probability_BC.topk(min(top_k or len(self.classnames), len(self.classnames)))
        return [
            self._to_classification(float(cosine), scores, classes)
            for cosine, scores, classes in zip(cosine_BC.amax(dim=1), score_BK.tolist(), class_BK.tolist(), strict=True)
        ]

    def _probabilities(self, features_BD: Tensor | None, cosine_BC: Tensor) -> Tensor:
        if self.head is not None and features_BD is not None:
            logits_BC = features_BD @ self.head.weight_CD.T + self.head.bias_C
        else:
            logits_BC = self.clip.logit_scale * cosine_BC
        if self.temperature is None and self.clip.logit_bias is not None:
            return (logits_BC + self.clip.logit_bias).sigmoid()
        return (logits_BC / (self.temperature or 1.0)).softmax(dim=-1)

    def _to_classification(self, cosine: float, scores: Sequence[float], classes: Sequence[int]) -> Classification:
        predictions = tuple(
            Prediction(self.classnames[index], score) for index, score in zip(classes, scores, strict=True)
        )
        is_known = self.threshold is None or cosine >= self.threshold
        return Classification(predictions[0].label if is_known else None, cosine, predictions)


def save_classifier(
    folder: Path,
    classnames: Sequence[str],
    head: LinearHead,
    class_CE: Tensor,
    *,
    temperature: float,
    threshold: float,
    fingerprint: str,
    metadata: Mapping[str, Any],
) -> None:
    """Write a classifier; an existing one is replaced.

    Args:
        fingerprint: That of the model.
        metadata: Further entries of `classifier.json`.

    Raises:
        ConfigError: The folder cannot be written, or is not empty and holds no classifier.
    """
    require_classifier_folder(folder)
    document = {
        "format": FORMAT_VERSION,
        "fingerprint": fingerprint,
        "classnames": list(classnames),
        "temperature": temperature,
        "threshold": threshold,
        **metadata,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / TENSORS_FILE) as partial:
            tensors = {"weight": head.weight_CD, "bias": head.bias_C, "class_vectors": class_CE}
            partial.write_bytes(save({name: tensor.float().contiguous() for name, tensor in tensors.items()}))
        with atomic_write(folder / METADATA_FILE) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the classifier {folder}: {error.strerror}. Name another --out.") from error


def require_classifier_folder(folder: Path) -> None:
    """Raise ConfigError if there is something other than a classifier at the path."""
    is_free = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_free and not (folder / METADATA_FILE).is_file():
        raise ConfigError(f"--out {folder} exists and is no classifier. Name another folder.")


def load_classifier(path: str | Path, clip: Bundle) -> ImageClassifier:
    """Open a classifier that `zebra probe` wrote.

    Args:
        clip: The model that it was learned with.

    Raises:
        WeightsError: There is no classifier, it is damaged, or it was learned with another model.
    """
    folder = Path(path)
    document = _read_metadata(folder)
    if document["fingerprint"] != clip.fingerprint:
        raise WeightsError(
            f"{folder} was learned with the model {document['fingerprint']}, and this model is "
            f"{clip.fingerprint or 'not saved'}. Load that model, or learn the classifier again: zebra probe"
        )
    num_classes = len(document["classnames"])
    try:
        tensors = load_file(folder / TENSORS_FILE)
        weight_CD, bias_C, class_CE = tensors["weight"], tensors["bias"], tensors["class_vectors"]
    except (OSError, SafetensorError, KeyError) as error:
        raise _damaged_error(folder / TENSORS_FILE, str(error)) from error
    shapes_fit = (
        weight_CD.ndim == 2
        and weight_CD.shape[0] == num_classes
        and bias_C.shape == (num_classes,)
        and class_CE.shape == (num_classes, clip.embed_dim)
    )
    if not shapes_fit or not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise _damaged_error(folder / TENSORS_FILE, f"its tensors do not fit {num_classes} classes")
    return ImageClassifier(
        clip,
        document["classnames"],
        class_CE,
        head=LinearHead(weight_CD, bias_C),
        temperature=document["temperature"],
        threshold=document["threshold"],
    )


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE
    if not path.is_file():
        raise WeightsError(f"there is no classifier in {folder}. Learn one: zebra probe MODEL FOLDER --out {folder}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged_error(path, str(error)) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT_VERSION:
        raise _damaged_error(path, f"its format is not {FORMAT_VERSION}")
    names = document.get("classnames")
    is_valid = (
        isinstance(names, list)
        and names
        and all(isinstance(name, str) for name in names)
        and isinstance(document.get("fingerprint"), str)
        and all(isinstance(document.get(key), int | float) for key in ("temperature", "threshold"))
        and document["temperature"] > 0
    )
    if not is_valid:
        raise _damaged_error(path, "an entry is missing or has another type")
    return document


def _damaged_error(path: Path, detail: str) -> WeightsError:
    return WeightsError(f"{path} is damaged: {detail}. Learn the classifier again: zebra probe")
