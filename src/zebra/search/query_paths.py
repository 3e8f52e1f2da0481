"""Tell the paths of images from texts in the query of a search."""

from collections.abc import Callable
from pathlib import Path

from zebra.errors import ConfigError, DataError
from zebra.images.formats import IMAGE_SUFFIXES, PILLOW_FORMATS, UNKNOWN_MEDIA_TYPE, UNSUPPORTED_FORMATS, media_type

PATH_PREFIXES = ("/", "./", "../", "~/", "\\", ".\\", "..\\")
URL_MARK = "://"


def is_image_query(query: str) -> bool:
    """Return whether a query is an image file; what exists as a file or looks like a path is never a text.

    Raises:
        DataError: The file is not an image or cannot be read, or there is no file at what looks like a path or URL.
    """
    path = Path(query)
    if _exists(path.is_file):
        _require_image(path)
        return True
    if not _looks_like_path(query):
        return False
    if _exists(path.is_dir):
        raise DataError(f"{query} is a folder. Name one image; zebra embed reads folders.")
    hint = "Download it first" if URL_MARK in query else "Check the path"
    raise DataError(f"there is no image at {query}. {hint}; to search for words, leave out what makes it a path.")


def folder_note(query: str) -> str:
    """Return a note if a query that is a text is also the name of a folder; usually empty."""
    return f"{query} is also a folder here; this was a search for the text" if _exists(Path(query).is_dir) else ""


def require_text(text: str, option: str) -> None:
    """Raise ConfigError if a text is the path of an image.

    Args:
        option: Name of the option in the message.
    """
    if _looks_like_path(text):
        raise ConfigError(f"{option} takes texts, but {text} looks like the path of an image. Describe it in words.")


def _exists(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except OSError:  # too long for a path, or in a folder that cannot be read
        return False


def _require_image(path: Path) -> None:
    """Raise DataError if the first bytes of a file are not those of an image that zebra reads."""
    try:
        with path.open("rb") as file:
            type = media_type(file.read(16))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Check its permissions.") from error
    if type == UNKNOWN_MEDIA_TYPE:
        name = UNSUPPORTED_FORMATS.get(path.suffix.lower())
        raise DataError(
            f"{path} is a file that zebra cannot read as an image ({', '.join(PILLOW_FORMATS.values())})"
            + (f": its format is {name}. Convert it." if name else ". To search for these words, use another folder.")
        )


def _looks_like_path(query: str) -> bool:
    """Return whether a query ends like an image file, starts like a path, or is a URL."""
    name = query.strip().lower()
    return name.endswith((*IMAGE_SUFFIXES, *UNSUPPORTED_FORMATS)) or name.startswith(PATH_PREFIXES) or URL_MARK in name
