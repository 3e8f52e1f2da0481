"""Opt-outs in the headers of a response, and in the files of a site.

References: X-Robots-Tag; TDM Reservation Protocol (W3C community group, 10 May 2024); Content-Usage
(draft-ietf-aipref-attach, draft-ietf-aipref-vocab).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

NO_TRAINING_TAGS = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
"""Directives of X-Robots-Tag that exclude an image from training sets; none is noindex and nofollow."""
TRAINING_CATEGORIES = ("train-ai", "ai", "tdm", "bots")
"""Categories of Content-Usage that include the training of a CLIP model; the first that is stated decides. All but
train-ai are of earlier drafts."""

_TAGS_WITH_VALUE = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
_MAX_DIRECTIVES = 1_000


def find_robots_tag(values: Iterable[str], agent: str) -> str | None:
    """Return the directive of `X-Robots-Tag` fields that excludes an image; None if there is none.

    A name before a colon addresses one agent, until the next name or the end of the field.

    >>> find_robots_tag(["otherbot: noindex", "zebra-clip: nofollow, NoAI"], "zebra-clip")
    'noai'
    """
    for value in values:
        is_addressed = True
        for part in value.lower().split(",")[:_MAX_DIRECTIVES]:
            name, colon, rest = part.partition(":")
            if colon and name.strip() not in _TAGS_WITH_VALUE:
                is_addressed = name.strip() in {agent.lower(), "*"}
                part = rest  # noqa: PLW2901 - the directive after the name
            if is_addressed and part.strip() in NO_TRAINING_TAGS:
                return part.strip()
    return None


def find_usage_preference(values: Iterable[str]) -> str | None:
    """Return the member of `Content-Usage` fields, a dictionary of RFC 9651, that excludes training; None if none does.

    >>> find_usage_preference(["search=y, train-ai=n;q=1"])
    'train-ai=n'
    """
    preferences = dict(_iter_preferences(",".join(values)))
    name = next((name for name in TRAINING_CATEGORIES if preferences.get(name) in {"y", "n"}), None)
    return f"{name}=n" if name and preferences[name] == "n" else None


def _iter_preferences(text: str) -> Iterator[tuple[str, str]]:
    """Yield category and preference; parameters after a semicolon have no meaning, and a later member replaces."""
    for member in text.split(",")[:_MAX_DIRECTIVES]:
        name, _, value = member.partition(";")[0].partition("=")
        yield name.strip().lower(), value.strip().lower()


def find_tdm_reservation(values: Sequence[str]) -> bool | None:
    """Return whether `tdm-reservation` fields reserve the rights; None if they do not say."""
    stated = {value.strip() for value in values} & {"0", "1"}
    return "1" in stated if stated else None


def parse_tdmrep(data: bytes) -> list[tuple[str, bool]]:
    """Return location pattern and reservation of each rule of a tdmrep.json, in order; none if it is not valid."""
    try:
        rules = json.loads(data)
    except (ValueError, RecursionError):
        return []
    if not isinstance(rules, list):
        return []
    return [
        (rule["location"], str(rule.get("tdm-reservation")) == "1")
        for rule in rules
        if isinstance(rule, Mapping) and isinstance(rule.get("location"), str)
    ]


def is_reserved(rules: Iterable[tuple[str, bool]], path: str) -> bool:
    """Return the reservation of the first rule that matches a path."""
    return next((reserved for pattern, reserved in rules if matches_pattern(pattern, path)), False)


def matches_pattern(pattern: str, path: str) -> bool:
    """Return whether a path matches: `*` is any text, `$` the end; otherwise the pattern is a prefix.

    The time is linear in the pattern and the path.

    >>> matches_pattern("/a/*.jpg$", "/a/b/c.jpg"), matches_pattern("/a", "/b/a")
    (True, False)
    """
    is_anchored = pattern.endswith("$")
    first, *others = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    position = len(first)
    last = others.pop() if others and is_anchored else None
    for part in others:
        position = path.find(part, position)
        if position < 0:
            return False
        position += len(part)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= position
    return not is_anchored or position == len(path)


def usage_rules_as_robots(text: str) -> str:
    r"""Return a robots.txt whose Content-Usage rules exclude paths as Disallow does.

    The groups and the longest match of robots.txt then apply to preferences too. A rule without a path holds for all.

    >>> usage_rules_as_robots("User-agent: *\nDisallow: /x\nContent-Usage: /a train-ai=n")
    'User-agent: *\nDisallow: /a'
    """
    lines = []
    for line in text.splitlines():
        name, colon, value = line.partition("#")[0].partition(":")
        if not colon:
            continue
        name = name.strip().lower()
        if name == "user-agent":
            lines.append(line)
        elif name == "content-usage":
            path, preference = value.split(None, 1) if re.match(r"\s*/\S*\s+\S", value) else ("/", value)
            if dict(_iter_preferences(preference)).keys() & set(TRAINING_CATEGORIES):
                lines.append(f"{'Disallow' if find_usage_preference([preference]) else 'Allow'}: {path}")
    return "\n".join(lines)
