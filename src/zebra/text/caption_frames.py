"""Frames of captions, such as "a photo of a {}."."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

MAX_PREFIX_TOKENS = 5
MAX_SUFFIX_TOKENS = 3
MIN_FILLERS = 5
"""Smallest number of different fillers of a frame."""
MIN_FILLER_FRACTION = 0.01
"""Smallest number of different fillers, as a fraction of the distinct captions."""
COMMON_FRACTION = 0.5
"""A frame of at least this fraction of the captions may have fillers that occur in no other frame."""
MIN_SHARED_FRACTION = 0.5
"""Fraction of the fillers of a rarer frame that must also occur in another one."""
MAX_CAPTIONS = 5000
"""Captions that frames are counted in, evenly spaced over all distinct ones."""
REPLACED_FRACTION = 0.8
"""A frame gives way to a longer one with at least this fraction of its fillers: "a photo {}" to "a photo of a {}"."""

# A character of Chinese, Japanese, Korean, Thai, Lao, Khmer or Burmese writing is a token of its own, because these
# scripts are written without spaces or with few.
_TOKEN = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+|[^\w\s]")


def find_caption_frames(captions: Sequence[str], max_frames: int = 16) -> tuple[str, ...]:
    """Return the most frequent frames as templates with `{}`, the one with most fillers first.

    A frame is a start and an end that many captions share; the filler between them varies. The fillers of a frame can
    be exchanged: most of them also occur in another frame or as a caption of their own. So "{} face" is no frame of
    captions such as "dog face" unless others say "a dog".

    >>> find_caption_frames([f"a photo of a {x}." for x in ("dog", "cat", "cow", "owl", "fox")])
    ('a photo of a {}.',)
    """
    distinct = list(dict.fromkeys(caption.strip() for caption in captions if not set("{}") & set(caption)))
    distinct = distinct[:: -(-len(distinct) // MAX_CAPTIONS) or 1]
    fillers_by_frame: dict[str, set[str]] = {}
    for caption in distinct:
        for frame, filler in _iter_splits(caption):
            fillers_by_frame.setdefault(frame, set()).add(filler)
    minimum = max(MIN_FILLERS, MIN_FILLER_FRACTION * len(distinct))
    frequent = {frame: fillers for frame, fillers in fillers_by_frame.items() if len(fillers) >= minimum}
    num_frames = Counter(filler for fillers in (*frequent.values(), set(distinct)) for filler in fillers)

    def is_exchangeable(frame: str) -> bool:
        fillers = frequent[frame]
        num_shared = sum(num_frames[filler] > 1 for filler in fillers)
        return len(fillers) >= COMMON_FRACTION * len(distinct) or num_shared >= MIN_SHARED_FRACTION * len(fillers)

    def is_replaced(frame: str) -> bool:
        return any(
            len(fillers) >= REPLACED_FRACTION * len(frequent[frame]) and _extends(longer, frame)
            for longer, fillers in frequent.items()
        )

    ranked = sorted(frequent, key=lambda frame: (-len(frequent[frame]), frame))
    return tuple(frame for frame in ranked if is_exchangeable(frame) and not is_replaced(frame))[:max_frames]


def strip_frame(caption: str, frames: Sequence[str]) -> str:
    """Return the filler of the frame with the most fixed characters that fits; without one, the caption itself.

    >>> strip_frame("a photo of a dog.", ("a {}", "a photo of a {}."))
    'dog'
    """
    caption = caption.strip()
    for frame in sorted(frames, key=len, reverse=True):
        start, end = frame.split("{}")
        if len(caption) >= len(frame) - 1 and caption.startswith(start) and caption.endswith(end):
            return caption[len(start) : len(caption) - len(end)]
    return caption


def _iter_splits(caption: str) -> Iterator[tuple[str, str]]:
    """Yield each frame of a caption with its filler."""
    spans = [match.span() for match in _TOKEN.finditer(caption)]
    for first in range(min(MAX_PREFIX_TOKENS + 1, len(spans))):
        for last in range(max(first, len(spans) - 1 - MAX_SUFFIX_TOKENS), len(spans)):
            start, end = spans[first][0], spans[last][1]
            if end - start < len(caption):
                yield f"{caption[:start]}{{}}{caption[end:]}", caption[start:end]


def _extends(longer: str, frame: str) -> bool:
    """Return whether a frame has more fixed words around the same place."""
    (long_start, long_end), (start, end) = longer.split("{}"), frame.split("{}")
    return longer != frame and long_start.startswith(start) and long_end.endswith(end)
