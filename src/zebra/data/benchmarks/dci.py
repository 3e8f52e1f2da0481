"""Densely Captioned Images: descriptions, summaries and crops of regions.

Captions and crops follow `densely_captioned_images/dataset`, the code of the authors (Urbanek et al. 2024): the
description is the short and the extra caption; a summary fits CLIP's 77 tokens, and the first of several counts; a
crop is the bounding box of a region of at least 224 × 224 pixels with a margin of 15 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zebra.data.benchmarks.archive_splits import SplitFiles
from zebra.data.benchmarks.caption_archives import CaptionedImages, build_captioned_images
from zebra.data.benchmarks.json_records import read_json
from zebra.data.image_source import ImageSource, encode_png, hash_values
from zebra.data.regular_files import read_image_bytes
from zebra.errors import DataError
from zebra.images.decode import decode_image

MIN_CROP_SIDE = 224
CROP_MARGIN = 0.15
SPLITS_FILENAME, PHOTO_DIR = "splits.json", "photos"
Box = tuple[int, int, int, int]
"""Left, top, right and bottom in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DciArchive:
    """The unpacked `dci.tar.gz`, with the images of SA-1B in `photos/`."""

    folder: str
    splits: tuple[SplitFiles, ...]
    """`files` of a split are lists in `splits.json`."""
    text: Literal["description", "summary", "crops"]
    """crops: the summaries of the image and of its regions."""
    annotation_dir: str = "annotations"
    kind: Literal["dci"] = "dci"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if a file or an image is missing or damaged."""
        folder = root / self.folder
        try:
            lists = read_json(folder / SPLITS_FILENAME)
            keys = next(files.files for files in self.splits if files.split == split)
            annotations = [read_json(folder / self.annotation_dir / name) for key in keys for name in lists[key]]
            if self.text == "crops":
                return _read_crops(folder, annotations)
            to_caption = _description if self.text == "description" else _summary
            photos = [f"{PHOTO_DIR}/{annotation['image']}" for annotation in annotations]
            captions = [to_caption(annotation) for annotation in annotations]
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{folder} has another content than DCI: {error!r}. Unpack dci.tar.gz again") from error
        return build_captioned_images(folder, photos, {"": captions})


def _description(annotation: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"{annotation['short_caption']} {annotation['extra_caption']}".strip(),)


def _summary(annotation: Mapping[str, Any], key: str = "base") -> tuple[str, ...]:
    """Return the first summary of the image or of a region; () if there is none."""
    summary = (annotation.get("summaries") or {}).get(key)
    text = summary if isinstance(summary, str) or not summary else summary[0]
    return (text,) if text else ()


def _read_crops(folder: Path, annotations: Sequence[Mapping[str, Any]]) -> CaptionedImages:
    """Return each image and its regions; as in the authors' evaluation, one that lacks a summary or negatives is not.

    Raises:
        DataError: The photos are missing, or no image has summaries.
    """
    boxes: list[Box | None] = []
    ids: list[str] = []
    captions: list[tuple[str, ...]] = []
    num_left_out = 0
    for annotation in annotations:
        regions = [mask for mask in annotation["mask_data"].values() if _is_large(mask)]
        texts = [_summary(annotation), *(_summary(annotation, f"m-{mask['idx']}-sc") for mask in regions)]
        if not all(texts) or len(annotation.get("negatives") or ()) < 2:
            num_left_out += 1
            continue
        boxes += [None, *(_bounds(mask) for mask in regions)]
        ids += [annotation["image"], *(f"{annotation['image']}#{mask['idx']}" for mask in regions)]
        captions += texts
    photos = sorted({folder / PHOTO_DIR / id.partition("#")[0] for id in ids})
    if not photos:
        raise DataError(f"{folder} has no image with summaries. Read the annotations in complete/")
    missing = [photo for photo in photos if not photo.is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing):,} of {len(photos):,} photos, such as {missing[0].name}. Extract them from "
            f"SA-1B into {PHOTO_DIR}/"
        )
    digest = hash_values("crops", ids, boxes, captions, [photo.stat().st_size for photo in photos])
    source = ImageSource(str(folder), ids, partial(_load_crop, str(folder / PHOTO_DIR), ids, boxes), digest)
    notes = (f"left out: {num_left_out:,} images without summaries or negatives, as in the authors' evaluation",)
    return CaptionedImages(source, {"": tuple(captions)}, notes if num_left_out else ())


def _is_large(mask: Mapping[str, Any]) -> bool:
    left, top, right, bottom = _bounds(mask)
    return right - left >= MIN_CROP_SIDE and bottom - top >= MIN_CROP_SIDE


def _bounds(mask: Mapping[str, Any]) -> Box:
    start, end = mask["bounds"]["topLeft"], mask["bounds"]["bottomRight"]
    return start["x"], start["y"], end["x"], end["y"]


def _load_crop(photo_dir: str, ids: Sequence[str], boxes: Sequence[Box | None], index: int) -> bytes:
    box = boxes[index]
    data = read_image_bytes(Path(photo_dir) / ids[index].partition("#")[0], ids[index])
    if box is None:
        return data
    pixels_HW3 = np.asarray(decode_image(data, ids[index]).convert("RGB"))
    left, top, right, bottom = box
    margin_x, margin_y = int((right - left) * CROP_MARGIN), int((bottom - top) * CROP_MARGIN)
    rows = slice(max(top - margin_y, 0), min(bottom + margin_y, pixels_HW3.shape[0]))
    columns = slice(max(left - margin_x, 0), min(right + margin_x, pixels_HW3.shape[1]))
    return encode_png(pixels_HW3[rows, columns])
