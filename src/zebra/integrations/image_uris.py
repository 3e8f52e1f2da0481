"""Images as text: paths, `file://` and `data:` URIs, base64."""

from pathlib import Path

from zebra.data.image_cells import parse_image_cell, resolve_image_path
from zebra.errors import BadSample
from zebra.images.inputs import ImageInput


def resolve_image(image: ImageInput, name: str) -> ImageInput:
    """Return an image as `Bundle.encode_images` takes it: a text becomes a path or bytes, anything else is unchanged.

    Args:
        name: Identifies the image in errors.

    Raises:
        BadSample: The text is empty, a URL, which is never downloaded, or broken base64.
    """
    if not isinstance(image, str):
        return image
    try:
        path, data = parse_image_cell(image)
    except BadSample as bad:
        raise BadSample(bad.reason, name, bad.detail) from bad
    # Either path or data is set, which the types do not say.
    return data if path is None else str(resolve_image_path(Path(), path))  # type: ignore[return-value]
