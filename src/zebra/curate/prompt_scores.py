"""Zero-shot scores of images by pairs of prompts, such as for watermarks."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zebra.curate.vectors import to_unit_length
from zebra.errors import ConfigError
from zebra.pretrained.bundle import Bundle

_LINE = re.compile(r"([a-z][a-z0-9_]*):([^|]+)\|([^|]+)")


@dataclass(frozen=True, slots=True)
class PromptPair:
    """Two prompts that an image is compared with."""

    name: str
    positive: str
    negative: str


@dataclass(frozen=True, slots=True)
class PromptClassifier:
    """The probability of the first of two prompts, by the softmax of the model's logits."""

    name: str
    weight_E: NDArray[np.float32]

    def __call__(self, vectors_NE: NDArray[np.float16]) -> NDArray[np.float32]:
        """Return the probability for each image vector, float32 [N]."""
        logit_N = to_unit_length(vectors_NE) @ self.weight_E
        probability_N: NDArray[np.float32] = (0.5 + 0.5 * np.tanh(0.5 * logit_N)).astype(np.float32)
        return probability_N


def read_prompts(path: Path) -> list[PromptPair]:
    """Read a file with a pair per line: `watermark: a photo with a watermark | a photo`; # starts a comment line.

    Raises:
        ConfigError: The file cannot be read, is empty, or has a wrong line or a repeated name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the prompts in {path}: {error}. Name a UTF-8 text file") from error
    pairs: dict[str, PromptPair] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        name, positive, negative = (part.strip() for part in match.groups()) if match else ("", "", "")
        if not (positive and negative):
            raise ConfigError(
                f"line {number} of {path} is {line!r}. Write NAME: PROMPT | OTHER PROMPT, with a-z, 0-9, _"
            )
        if name in pairs:
            raise ConfigError(f"line {number} of {path} repeats the name {name!r}. Rename one of them")
        pairs[name] = PromptPair(name, positive, negative)
    if not pairs:
        raise ConfigError(f"{path} has no prompts. Write one pair per line, as NAME: PROMPT | OTHER PROMPT")
    return list(pairs.values())


def build_classifiers(clip: Bundle, pairs: Sequence[PromptPair]) -> list[PromptClassifier]:
    """Encode the prompts of each pair."""
    texts_2NE = clip.encode_texts([pair.positive for pair in pairs] + [pair.negative for pair in pairs]).numpy()
    positive_NE, negative_NE = np.split(texts_2NE, 2)
    weight_NE = clip.logit_scale * (positive_NE - negative_NE)
    return [PromptClassifier(pair.name, weight_E) for pair, weight_E in zip(pairs, weight_NE, strict=True)]
