"""Reading and preprocessing of single images, the first stages of embedding."""

import io
from dataclasses import dataclass

from PIL import Image

from zebra.data.locations import ImageRef
from zebra.embed.values import PreprocessedImage
from zebra.errors import BadSample, DataError
from zebra.images.decode import convert_to_rgb, decode_image, read_header
from zebra.images.jpeg import decode_scaled
from zebra.images.orientation import read_orientation
from zebra.images.preprocess import Preprocess
from zebra.values import Record

THUMBNAIL_JPEG_QUALITY = 80


def read_record(image_ref: ImageRef) -> Record:
    """Read an image; BadSample if the image or its metadata is missing or unreadable."""
    try:
        return image_ref.load()
    except BadSample:
        raise
    except DataError as error:  # a shard that changed or cannot be reached
        raise BadSample("unreadable file", image_ref.location.key, str(error)) from error


@dataclass(frozen=True, slots=True)
class ImagePreprocessor:
    """Converts an encoded image to the input of a model, with a thumbnail."""

    preprocess: Preprocess
    fast_decode: bool = False
    """Decode JPEGs at a reduced size that still covers the model's input."""
    thumbnail_size: int = 96
    """Longer side in pixels; 0 disables thumbnails."""
    max_pixels: int = 89_478_485

    def __call__(self, data: bytes, location: str) -> PreprocessedImage:
        """Decode, resize and crop; BadSample if the image is unusable."""
        try:
            image, (width, height) = self._decode(data, location)
            thumbnail = _encode_thumbnail(image, self.thumbnail_size) if self.thumbnail_size else None
            return PreprocessedImage(self.preprocess.resize_and_crop(image), width, height, thumbnail)
        except BadSample:
            raise
        except Exception as error:  # decoders may raise anything on untrusted bytes
            raise BadSample("damaged image", location, f"{type(error).__name__}: {error}") from error

    def _decode(self, data: bytes, location: str) -> tuple[Image.Image, tuple[int, int]]:
        if self.fast_decode:
            header = read_header(
                data, location, max_pixels=self.max_pixels, max_aspect_ratio=self.preprocess.max_aspect_ratio
            )
            if header.format == "JPEG" and header.mode in ("RGB", "L") and read_orientation(header) == 1:
                size: tuple[int, int] = header.size
                pixels_HW3, _ = decode_scaled(
                    data,
                    location,
                    self.preprocess.min_shorter_side,
                    lambda width, height: (0, 0, width, height),
                    max_pixels=self.max_pixels,
                    max_aspect_ratio=self.preprocess.max_aspect_ratio,
                )
                return Image.fromarray(pixels_HW3), size
        image = decode_image(
            data,
            location,
            mode=self.preprocess.decode,
            max_pixels=self.max_pixels,
            max_aspect_ratio=self.preprocess.max_aspect_ratio,
        )
        return image, image.size


def _encode_thumbnail(image: Image.Image, max_side: int) -> bytes:
    scale = min(1.0, max_side / max(image.size))
    width, height = (max(1, round(length * scale)) for length in image.size)
    thumbnail = convert_to_rgb(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=THUMBNAIL_JPEG_QUALITY)
    return buffer.getvalue()
