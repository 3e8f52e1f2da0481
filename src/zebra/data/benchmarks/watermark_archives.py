"""Images of another dataset with a written watermark, as in ImageNet-W."""

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zebra.data.benchmarks.archive_splits import ArchiveSplit, SplitFiles, find_split_files
from zebra.data.benchmarks.class_folders import read_class_folders
from zebra.data.benchmarks.derived_images import DerivedImages
from zebra.data.image_source import ImageSource, hash_files
from zebra.errors import DataError
from zebra.images.preprocess import Preprocess


@dataclass(frozen=True, kw_only=True, slots=True)
class WatermarkArchive:
    """Class folders, as they are for a model of `image_size` pixels, with a white text over them.

    The file of a split is the folder of the class folders, seen from `folder`.
    """

    folder: str
    splits: tuple[SplitFiles, ...]
    text: str
    font_file: str
    """Font in `folder`, which the authors give with their code."""
    image_size: int
    font_size: int
    left: float
    """Left end of the text, as a fraction of the width."""
    top: float
    """Upper end of the text, as a fraction of the height."""
    opacity: float
    kind: Literal["watermark"] = "watermark"

    def read(self, root: Path, split: str) -> ArchiveSplit:
        """Read one split; raise DataError if the font is missing, or as `read_class_folders`."""
        font = root / self.folder / self.font_file
        if not font.is_file():
            raise DataError(f"the font {font} is missing. Copy it from the code of the dataset's authors")
        (images,) = find_split_files(self.splits, split, root)
        source = read_class_folders(root / self.folder / images).source
        assert isinstance(source, ImageSource)
        label = f"watermark {hash_files([font])[:8]}"
        marked = DerivedImages(source, range(len(source)), [label] * len(source), partial(self._draw, str(font)))
        note = f"the watermark is drawn at {self.image_size} × {self.image_size} pixels; other models resize it"
        return ArchiveSplit(marked, np.array(source.labels, np.int64), notes=(note,))

    def _draw(self, font: str, _index: int, image: Image.Image) -> Image.Image:
        pixels = Preprocess(image_size=self.image_size).resize_and_crop(image).transpose(1, 2, 0)
        background = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGBA")
        layer = Image.new("RGBA", background.size, (255, 255, 255, 0))
        ImageDraw.Draw(layer).text(
            (self.left * self.image_size, self.top * self.image_size),
            self.text,
            fill=(255, 255, 255, round(255 * self.opacity)),
            font=_load_font(font, self.font_size),
        )
        return Image.alpha_composite(background, layer).convert("RGB")


@lru_cache(maxsize=4)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    try:
        return ImageFont.truetype(path, size)
    except OSError as error:
        raise DataError(f"{path} is no font ({error}). Copy it again") from error
