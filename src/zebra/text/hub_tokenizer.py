"""Find the tokenizer that an `open_clip_config.json` names.

open_clip reads it from the hub by its name. For folders without tokenizer files, zebra reads it from the hub's cache.
"""

from pathlib import Path

from zebra.text.tokenizer_config import OpenClipTextRules
from zebra.text.tokenizers import TOKENIZER_FILES, Tokenizer, find_tokenizer

DOWNLOAD_COMMAND = "hf download NAME --include '*token*' '*.model' 'vocab.*' merges.txt"
"""Shell command that downloads the tokenizer NAME into the cache."""
_ORGANIZATIONS = ("", "google-bert/", "FacebookAI/")
"""Prefixes of names that had no organization, such as bert-base-uncased."""


def find_named_tokenizer(context_length: int, model_path: Path) -> Tokenizer | None:
    """Return the tokenizer of the cache that `text_cfg.hf_tokenizer_name` of a model folder names.

    A snapshot without `tokenizer_config.json` is used only if the repository is known to have none: its settings may
    change the ids.

    Returns:
        The tokenizer; None if the model names none, or if it is not in the cache.

    Raises:
        WeightsError: A file is damaged or unsupported.
    """
    rules = OpenClipTextRules.read(model_path)
    if rules is None or rules.tokenizer_name is None:
        return None
    for organization in _ORGANIZATIONS:
        folder = _find_cached_folder(organization + rules.tokenizer_name)
        if folder is not None:
            return find_tokenizer(folder, context_length, model_path)
    return None


def _find_cached_folder(name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        has_config = try_to_load_from_cache(name, "tokenizer_config.json") is not None  # a path, or known to be missing
        paths = [try_to_load_from_cache(name, file) for file in TOKENIZER_FILES]
    except HFValidationError:  # a path on the author's machine
        return None
    return next((Path(path).parent for path in paths if isinstance(path, str) and has_config), None)
