"""Small stand-ins of captioned datasets in their authors' layouts, with captions in nine scripts."""

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "white": (250, 250, 250)}
WORDS = {
    "en": ("red", "green", "blue", "white"),
    "de": ("rot", "grün", "blau", "weiß"),
    "ru": ("красный", "зелёный", "синий", "белый"),
    "el": ("κόκκινο", "πράσινο", "μπλε", "λευκό"),
    "he": ("אדום", "ירוק", "כחול", "לבן"),
    "ar": ("أحمر", "أخضر", "أزرق", "أبيض"),
    "hi": ("लाल", "हरा", "नीला", "सफ़ेद"),
    "th": ("แดง", "เขียว", "น้ำเงิน", "ขาว"),
    "ko": ("빨강", "초록", "파랑", "하양"),
    "zh": ("红", "绿", "蓝", "白"),
}
"""Language → word of each color."""


def draw(color: str, size: int = 24) -> bytes:
    """Return a JPEG of one color with noise that depends on it."""
    noise = np.random.default_rng(list(COLORS).index(color)).integers(-20, 21, (size, size, 3))
    buffer = io.BytesIO()
    Image.fromarray((np.array(COLORS[color]) + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_images(folder: Path, names: Iterable[str], size: int = 24) -> None:
    """Write the images of the colors under the given names."""
    for name, color in zip(names, COLORS, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(draw(color, size))


def write_json_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(record, ensure_ascii=False)}\n" for record in records), encoding="utf-8")


def write_crossmodal(root: Path, languages: Iterable[str] = tuple(WORDS)) -> Path:
    """Write Crossmodal-3600: captions.jsonl with two captions of each image and language, and images/KEY.jpg."""
    folder = root / "xm3600"
    write_images(folder, [f"images/{number:016x}.jpg" for number in range(4)])
    records = [
        {"image/key": f"{number:016x}", "image/locale": "de"}
        | {
            language: {
                "caption": [WORDS[language][number], f"{WORDS[language][number]} {WORDS[language][number]}"],
                "caption/tokenized": [WORDS[language][number]],
            }
            for language in languages
        }
        for number in range(4)
    ]
    write_json_lines(folder / "captions.jsonl", records)
    return root


def write_xtd10(root: Path) -> Path:
    """Write XTD10: a list of images, and captions in the three folders of its repository."""
    folder = root / "Cross-lingual-Test-Dataset-XTD10"
    names = [f"COCO_val2014_{number:012d}.jpg" for number in range(4)]
    write_images(folder / "images", names)
    for directory, languages in {"XTD10": ("ko", "ru", "zh"), "MIC": ("de", "en")}.items():
        (folder / directory).mkdir()
        for language in languages:
            text = "\n".join(WORDS[language]) + "\n"
            (folder / directory / f"test_1kcaptions_{language}.txt").write_text(text, encoding="utf-8")
    (folder / "STAIR").mkdir()
    (folder / "STAIR" / "test_1kcaptions_jp.txt").write_text("赤\n緑\n青\n白", encoding="utf-8")
    (folder / "XTD10" / "test_image_names.txt").write_text("\n".join(names) + "\n")
    return root


def write_flores(root: Path, folder: str, image_list: str) -> Path:
    """Write XTD200 or Flickr30k-200: a file per language, named by the codes of FLORES-200."""
    names = [f"{number}.jpg" for number in range(4)]
    write_images(root / folder / "images", names)
    (root / folder / image_list).write_text("\n".join(names) + "\n")
    for code, language in (("deu_Latn", "de"), ("rus_Cyrl", "ru"), ("zho_Hans", "zh"), ("zho_Hant", "zh")):
        (root / folder / f"{code}.txt").write_text("\n".join(WORDS[language]) + "\n", encoding="utf-8")
    (root / folder / "eng_captions.txt").write_text("\n".join(WORDS["en"]) + "\n")
    return root


def write_xflickrco(root: Path) -> Path:
    """Write the JSON of Babel-ImageNet's repository."""
    names = [f"{number}.jpg" for number in range(4)]
    write_images(root / "xflickrco" / "images", names)
    captions = {language: [[word] for word in WORDS[language]] for language in ("de", "zh")}
    (root / "xflickrco" / "xflickrco.json").write_text(json.dumps({"images": names, "captions": captions}))
    return root


def write_coco_cn(root: Path) -> Path:
    """Write COCO-CN: image#number, tab, caption, and a list of the images of each split."""
    folder = root / "coco-cn-version1805v1.1"
    names = [f"COCO_{split}2014_{number:012d}" for number, split in enumerate(("train", "val", "val", "train"))]
    write_images(folder, [f"{name.split('_')[1]}/{name}.jpg" for name in names])
    lines = [f"{name}#0\t{word}\n" for name, word in zip(names, WORDS["zh"], strict=True)]
    (folder / "imageid.human-written-caption.txt").write_text("".join([*lines, f"{names[1]}#1\t绿色\n"]), "utf-8")
    (folder / "coco-cn_test.txt").write_text("\n".join(names[:3]) + "\n")
    (folder / "coco-cn_train.txt").write_text(names[3])
    return root


def write_docci(root: Path) -> Path:
    """Write DOCCI: one description of each image, with its split."""
    splits = ("train", "test", "test", "qual_dev")
    names = [f"{split}_{number:05d}.jpg" for number, split in enumerate(splits)]
    write_images(root / "docci" / "images", names)
    rows = zip(names, splits, COLORS, strict=True)
    records = [
        {"example_id": name[:-4], "split": split, "image_file": name, "description": f"All of it is {color}.\nNoise."}
        for name, split, color in rows
    ]
    write_json_lines(root / "docci" / "docci_descriptions.jsonlines", records)
    return root


def write_imageinwords(root: Path) -> Path:
    """Write ImageInWords: three files, whose images have other keys and folders."""
    folder = root / "imageinwords"
    write_images(folder, ["docci/test_00001.jpg", "docci_aar/aar_1.jpg", "dci/sa_1.jpg"])
    write_json_lines(folder / "DOCCI_Test" / "data.jsonl", [{"IIW": "Red.", "DOCCI": "R", "image": "test_00001"}])
    write_json_lines(folder / "IIW-400" / "data.jsonl", [{"IIW": "Green.", "IIW-P5B": "G", "image/key": "aar_1"}])
    write_json_lines(folder / "DCI_Test" / "data.jsonl", [{"IIW": "Blue.", "ex_id": "1", "image": "sa_1.jpg"}])
    return root


def write_urban1k(root: Path) -> Path:
    """Write Urban1k: an image and a text file with the same number."""
    write_images(root / "Urban1k" / "image", [f"{number}.jpg" for number in (2, 10, 1)])
    (root / "Urban1k" / "caption").mkdir()
    for number, color in zip((2, 10, 1), COLORS, strict=False):
        (root / "Urban1k" / "caption" / f"{number}.txt").write_text(f"The image shows something {color}.")
    return root


def write_sharegpt4v(root: Path, num_records: int = 4) -> Path:
    """Write ShareGPT4V: one JSON array with conversations, of which the second turn is the caption."""
    folder = root / "sharegpt4v" / "data"
    write_images(folder, [f"sam/images/sa_{number}.jpg" for number in range(4)])
    records = [
        {
            "id": f"sa_{number}",
            "image": f"sam/images/sa_{number}.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat?"},
                {"from": "gpt", "value": f"No. {number}.\nE"},
            ],
        }
        for number in range(num_records)
    ]
    path = folder / "share-captioner_coco_lcs_sam_1246k_1107.json"
    path.write_text(json.dumps(records, indent=1))
    return root


def write_dci(root: Path) -> Path:
    """Write DCI: photos of 400 pixels; the first has a large and a small region, the third no negatives."""
    folder = root / "densely_captioned_images"
    names = [f"sa_{number}.jpg" for number in range(3)]
    write_images(folder / "photos", names, size=400)
    for number, name in enumerate(names):
        bounds = {"0": (100, 50, 350, 300), "1": (0, 0, 100, 100)} if number == 0 else {}
        masks = {
            key: {
                "idx": int(key),
                "label": "part",
                "caption": "a part",
                "bounds": {"topLeft": {"x": box[0], "y": box[1]}, "bottomRight": {"x": box[2], "y": box[3]}},
            }
            for key, box in bounds.items()
        }
        annotation = {"image": name, "short_caption": f"Photo {number}.", "extra_caption": "More.", "mask_data": masks}
        summaries = {"base": [f"photo {number}", "another"], "m-0-sc": "the part"}
        negatives = {} if number == 2 else {"base": {"swaps": ["no"]}, "m-0-sc": {"swaps": ["no"]}}
        for directory, content in {
            "annotations": {},
            "complete": {"summaries": summaries, "negatives": negatives},
        }.items():
            (folder / directory).mkdir(exist_ok=True)
            (folder / directory / f"{number}.json").write_text(json.dumps(annotation | content))
    lists = {"train": ["0.json"], "valid": [], "test": ["1.json", "2.json"]}
    (folder / "splits.json").write_text(json.dumps(lists))
    return root
