"""Readers of captioned evaluation datasets in their authors' layouts.

A format is a value: the files with the names of the images and the captions, and where in them both are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from zebra.data.benchmarks.archive_splits import SplitFiles
from zebra.data.benchmarks.json_records import read_json, read_records, read_text_lines
from zebra.data.image_source import hash_values, open_image_files
from zebra.data.sources import Source
from zebra.errors import DataError
from zebra.values import Record

LANGUAGE = "{language}"
"""Placeholder of the language in file names and keys."""
LANGUAGE_CODE = "[A-Za-z]{2,3}(?:[_-][A-Z][A-Za-z]+)?"
"""Regular expression of language codes, such as de, deu_Latn or zh-CN."""


@dataclass(frozen=True, slots=True)
class CaptionedImages:
    """One split of a captioned dataset."""

    source: Source
    """Records without captions. The digest covers the captions."""
    captions: Mapping[str, tuple[tuple[str, ...], ...]]
    """Language → captions of each image, () for an image without any; the language is "" if the data names none."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImagesWithCaptions:
    """The images of a source with captions from elsewhere; a `zebra.data.sources.Source`."""

    images: Source
    captions: Sequence[tuple[str, ...]]
    """Captions of each image."""

    @property
    def name(self) -> str:
        """The name of the images."""
        return self.images.name

    @property
    def digest(self) -> str:
        """A SHA-256 in hex over the images and the captions."""
        return hash_values("with captions", self.images.digest, self.captions)

    @property
    def ignored(self) -> tuple[Any, ...]:
        """Files that were found and are no images of the dataset."""
        return self.images.ignored

    def __len__(self) -> int:
        return len(self.images)

    def sample_id(self, index: int) -> str:
        """Return the ID of an image without reading it."""
        return self.images.sample_id(index)

    def read(self, index: int) -> Record:
        """Read one image with its captions; raise BadSample if it cannot be used."""
        return replace(self.images.read(index), captions=self.captions[index])


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordFile:
    """A JSON Lines file, or a JSON file with one array, and the folder of its images."""

    file: str
    image_dir: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordArchive:
    """One JSON object per image, as in Crossmodal-3600, DOCCI, ImageInWords and ShareGPT4V."""

    folder: str
    files: tuple[RecordFile, ...]
    splits: tuple[SplitFiles, ...]
    """`files` of a split are values of `split_key`; not used without that key."""
    image_keys: tuple[str, ...]
    """Keys of the name of the image; the first one that is present counts."""
    caption_path: tuple[str, ...]
    """Keys, or positions in a list, that lead to the caption or captions; one may be `{language}`."""
    image_suffix: str = ""
    """Suffix of the file if the name has none."""
    split_key: str = ""
    max_records: int = 0
    """Read only so many records of each file; 0 for all."""
    kind: Literal["records"] = "records"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if a file or an image is missing, or a record is damaged."""
        folder, values = root / self.folder, _split_values(self.splits, split)
        names: list[str] = []
        captions: list[Mapping[str, tuple[str, ...]]] = []
        for record_file in self.files:
            path = folder / record_file.file
            for number, record in enumerate(read_records(path), start=1):
                if self.max_records and number > self.max_records:
                    break
                where = f"{path}, record {number}"
                if self.split_key and record.get(self.split_key) not in values:
                    continue
                names.append((Path(record_file.image_dir) / self._image_name(record, where)).as_posix())
                captions.append(self._captions(record, where))
        languages = dict.fromkeys(language for row in captions for language in row)
        return build_captioned_images(
            folder, names, {language: [row.get(language, ()) for row in captions] for language in languages}
        )

    def _image_name(self, record: Mapping[str, Any], where: str) -> str:
        name = next((record[key] for key in self.image_keys if isinstance(record.get(key), str)), None)
        if name is None:
            raise DataError(f"{where} has no {' or '.join(self.image_keys)}. Download {self.folder} again")
        return name if Path(name).suffix.lower() in (".jpg", ".jpeg", ".png") else f"{name}{self.image_suffix}"

    def _captions(self, record: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
        if LANGUAGE not in self.caption_path:
            return {"": _to_captions(_follow(record, self.caption_path), where)}
        position = self.caption_path.index(LANGUAGE)
        found = _follow(record, self.caption_path[:position])
        values = {
            language: _follow(value, self.caption_path[position + 1 :])
            for language, value in (found.items() if isinstance(found, dict) else ())
        }
        return {language: _to_captions(value, where) for language, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class ParallelArchive:
    """A list of images, and one text file per language with a caption per line in the same order, as in XTD10."""

    folder: str
    image_list: str
    captions: tuple[str, ...]
    """Files with the placeholder `{language}`; of a language that several have, the first counts."""
    splits: tuple[SplitFiles, ...]
    image_dir: str = "images"
    kind: Literal["parallel"] = "parallel"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if a file or an image is missing, or a file has another number of lines."""
        _split_values(self.splits, split)
        folder = root / self.folder
        names = [line.strip() for line in read_text_lines(folder / self.image_list)]
        captions: dict[str, list[tuple[str, ...]]] = {}
        for pattern in self.captions:
            for language, path in _find_language_files(folder, pattern).items():
                if language in captions or path == folder / self.image_list:
                    continue
                lines = read_text_lines(path)
                if len(lines) != len(names):
                    raise DataError(
                        f"{path} has {len(lines):,} lines, but {self.image_list} lists {len(names):,} images. Download "
                        "the file again"
                    )
                captions[language] = [(line.strip(),) if line.strip() else () for line in lines]
        if not captions:
            raise DataError(f"{folder} has no captions: no file {' or '.join(self.captions)}. Put them there")
        ordered = {language: captions[language] for language in sorted(captions)}
        return build_captioned_images(folder, [f"{self.image_dir}/{name}" for name in names], ordered)


@dataclass(frozen=True, kw_only=True, slots=True)
class NumberedArchive:
    """Lines of `image#number`, a tab and a caption, and a list of images per split, as in COCO-CN."""

    folder: str
    captions: str
    image_dirs: tuple[str, ...]
    """Folders in which an image may be."""
    splits: tuple[SplitFiles, ...]
    language: str = ""
    image_suffix: str = ".jpg"
    kind: Literal["numbered"] = "numbered"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if a file, an image or the captions of an image are missing."""
        folder = root / self.folder
        names = [
            line.strip()
            for file in _split_values(self.splits, split)
            for line in read_text_lines(folder / file)
            if line.strip()
        ]
        captions: dict[str, list[str]] = {name: [] for name in names}
        for number, line in enumerate(read_text_lines(folder / self.captions), start=1):
            image, tab, caption = line.partition("\t")
            if not tab or "#" not in image:
                raise DataError(f"{folder / self.captions}:{number}: expected image#number, a tab and a caption")
            image = image.rpartition("#")[0]
            if image in captions and caption.strip():
                captions[image].append(caption.strip())
        paths = [self._find_image(folder, name) for name in names]
        return build_captioned_images(folder, paths, {self.language: [tuple(captions[name]) for name in names]})

    def _find_image(self, folder: Path, name: str) -> str:
        candidates = [f"{image_dir}/{name}{self.image_suffix}" for image_dir in self.image_dirs]
        return next((path for path in candidates if (folder / path).is_file()), candidates[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptionFileArchive:
    """A folder of images and one of text files with the same stems, as in Urban1k. The first line is the caption."""

    folder: str
    image_dir: str
    caption_dir: str
    splits: tuple[SplitFiles, ...]
    image_suffix: str = ".jpg"
    kind: Literal["caption-files"] = "caption-files"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if an image or a caption is missing."""
        _split_values(self.splits, split)
        folder = root / self.folder
        files = sorted((folder / self.caption_dir).glob("*.txt"), key=lambda path: (len(path.stem), path.stem))
        if not files:
            raise DataError(f"{folder / self.caption_dir} has no captions. Unpack the dataset again")
        lines = [read_text_lines(path) for path in files]
        captions = [_to_captions(rows[0] if rows else "", str(path)) for path, rows in zip(files, lines, strict=True)]
        num_longer = sum(any(row.strip() for row in rows[1:]) for rows in lines)
        images = build_captioned_images(
            folder, [f"{self.image_dir}/{path.stem}{self.image_suffix}" for path in files], {"": captions}
        )
        longer = f"{num_longer:,} captions have further lines, which the authors' evaluation does not read"
        return replace(images, notes=(*images.notes, longer)) if num_longer else images


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalJsonArchive:
    """A JSON object with `images` and, by language, `captions` of each image, as in Babel-ImageNet's repository."""

    folder: str
    file: str
    splits: tuple[SplitFiles, ...]
    image_dir: str = "images"
    kind: Literal["retrieval-json"] = "retrieval-json"

    def read(self, root: Path, split: str) -> CaptionedImages:
        """Read one split; raise DataError if a file or an image is missing, or the file has another content."""
        _split_values(self.splits, split)
        path = root / self.folder / self.file
        document = read_json(path)
        names = document.get("images") if isinstance(document, dict) else None
        languages = document.get("captions") if isinstance(document, dict) else None
        if not isinstance(names, list) or not isinstance(languages, dict) or not languages:
            raise DataError(f"{path}: expected an object with images and captions by language. Download it again")
        for language, rows in languages.items():
            if not isinstance(rows, list) or len(rows) != len(names):
                raise DataError(f"{path}: the captions in {language} are not those of {len(names):,} images")
        return build_captioned_images(
            root / self.folder,
            [f"{self.image_dir}/{name}" for name in names],
            {language: [_to_captions(row, str(path)) for row in rows] for language, rows in languages.items()},
        )


CaptionArchive = RecordArchive | ParallelArchive | NumberedArchive | CaptionFileArchive | RetrievalJsonArchive


def build_captioned_images(
    folder: Path, names: Sequence[str], captions: Mapping[str, Sequence[tuple[str, ...]]]
) -> CaptionedImages:
    """Return images with their captions; those without a caption in any language are left out, with a note.

    Args:
        folder: The dataset.
        names: Paths of the images below it.
        captions: Language → captions of each image.

    Raises:
        DataError: There are no images, or files of images are missing.
    """
    used = [index for index in range(len(names)) if any(rows[index] for rows in captions.values())]
    if not used:
        raise DataError(f"{folder} has no images with captions. Unpack the dataset again")
    missing = [names[index] for index in used if not (folder / names[index]).is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing):,} of {len(used):,} images, such as {missing[0]}. Put them there; a score "
            "without them would belong to another dataset"
        )
    images = open_image_files(folder, [folder / names[index] for index in used])
    rows_by_language = {language: tuple(rows[index] for index in used) for language, rows in captions.items()}
    images = replace(images, digest=hash_values("captioned", images.digest, rows_by_language))
    num_without = len(names) - len(used)
    notes = (f"left out: {num_without:,} images without a caption",) if num_without else ()
    return CaptionedImages(images, rows_by_language, notes)


def _split_values(splits: Sequence[SplitFiles], split: str) -> tuple[str, ...]:
    return next(files.files for files in splits if files.split == split)


def _find_language_files(folder: Path, pattern: str) -> dict[str, Path]:
    """Return language code → file, for the files that match a pattern with a language."""
    expression = re.compile(re.escape(Path(pattern).name).replace(re.escape(LANGUAGE), f"({LANGUAGE_CODE})"))
    parent = (folder / pattern).parent
    matches = ((expression.fullmatch(path.name), path) for path in sorted(parent.glob("*")) if path.is_file())
    return {match[1]: path for match, path in matches if match}


def _follow(value: Any, path: Sequence[str]) -> Any:
    """Return what keys and positions lead to; None if there is nothing."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _to_captions(value: Any, where: str) -> tuple[str, ...]:
    """Return one caption or several, without line breaks; () for none."""
    texts = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: expected a caption or a list of captions; got {str(value)[:60]!r}")
    captions = (" ".join(text.splitlines()).strip() for text in texts)
    return tuple(caption for caption in captions if caption)
