"""Decoders of image formats that Pillow does not have by itself."""

from functools import cache

from PIL import Image, features

from zebra.images.formats import PILLOW_FORMATS

INSTALL_COMMANDS = {"image/avif": "pip install --upgrade pillow"} | dict.fromkeys(
    ("image/heic", "image/jxl"), 'pip install "zebra-clip[formats]"'
)
"""Media type → command that installs its decoder; Pillow always has those of the others."""


@cache
def can_decode(media_type: str) -> bool:
    """Return whether there is a decoder for a media type of PILLOW_FORMATS; the first call registers it in Pillow."""
    match media_type:
        case "image/avif":
            return bool(features.check("avif"))  # not in every build of Pillow
        case "image/heic":
            try:
                import pillow_heif
            except ImportError:
                return False
            pillow_heif.register_heif_opener()
        case "image/jxl":
            try:
                import pillow_jxl  # noqa: F401  registers itself
            except ImportError:
                return False
    Image.init()
    return PILLOW_FORMATS[media_type] in Image.OPEN
