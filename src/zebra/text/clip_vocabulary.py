"""Find OpenAI's vocabulary, for models that come without tokenizer files.

zebra does not contain the vocabulary. open_clip and OpenAI's `clip` do, and so does every CLIP repository in the hub's
cache. Each copy is verified by the digest of its merges.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from zebra.errors import WeightsError
from zebra.text.bpe import NUM_PUBLISHED_MERGES, BPETokenizer
from zebra.text.files import read_json_object, read_text
from zebra.text.tokenizer_config import OpenClipTextRules
from zebra.text.tokenizers import OPENAI_MERGES_FILE
from zebra.text.vocabulary import Merge

VOCAB_SIZE = 49_408
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"
"""SHA-256 of the merges, one "left right" per line."""
PACKAGES = ("open_clip", "clip")
"""Packages that contain the merges file; they are not imported."""
FETCH_COMMAND = "hf download openai/clip-vit-base-patch32 merges.txt"
"""Shell command that downloads the vocabulary into the hub's cache."""
MAX_FILE_BYTES = 1 << 23
"""Limit on the size of a candidate: published files have 0.5 to 3.6 MB, those of other vocabularies up to 34 MB."""


def is_openai_vocabulary(merges: Sequence[Merge]) -> bool:
    """Return whether merges are those of OpenAI's vocabulary."""
    lines = "\n".join(" ".join(pair) for pair in merges)
    return hashlib.sha256(lines.encode()).hexdigest() == MERGES_SHA256


def find_openai_tokenizer(context_length: int, model_path: Path) -> BPETokenizer | None:
    """Return OpenAI's tokenizer from an installed package or the hub's cache.

    Args:
        model_path: Folder or file of a model with a vocabulary of VOCAB_SIZE and no tokenizer files.

    Returns:
        The tokenizer; None if it is not on this machine, or if the model's `open_clip_config.json` names another one.

    Raises:
        WeightsError: That file cleans texts in another way than CLIP.
    """
    rules = OpenClipTextRules.read(model_path)
    if rules is not None:
        if rules.tokenizer_name:
            return None
        rules.require_clip(model_path)
    for path in (*_find_in_packages(), *_find_in_hub_cache()):
        merges = _read_merges(path)
        if is_openai_vocabulary(merges):
            return BPETokenizer(merges, context_length)
    return None


def _find_in_packages() -> Iterator[Path]:
    for package in PACKAGES:
        try:
            spec = importlib.util.find_spec(package)
        except ValueError:  # an imported module that is no package on disk
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            yield Path(folder) / OPENAI_MERGES_FILE


def _find_in_hub_cache() -> Iterator[Path]:
    from huggingface_hub import constants

    for name in ("merges.txt", "tokenizer.json"):
        yield from sorted(Path(constants.HF_HUB_CACHE).glob(f"models--*/snapshots/*/{name}"))


def _read_merges(path: Path) -> list[Merge]:
    """Return the merges of a merges file or a `tokenizer.json`; empty if the file has none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            return []
        if path.suffix == ".json":
            pairs = read_json_object(path)["model"]["merges"]
        else:
            pairs = read_text(path).strip("\n").split("\n")[1 : NUM_PUBLISHED_MERGES + 1]
        merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
        return [(str(left), str(right)) for left, right in merges]
    except (WeightsError, OSError, KeyError, TypeError, ValueError):
        return []
