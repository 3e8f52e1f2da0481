"""Comparison of a tokenizer with the text tower that reads its ids."""

from pathlib import Path

from zebra.config.text_towers import BertTextConfig, TextConfig, TextTowerConfig
from zebra.config.transformers_towers import TransformersTextConfig
from zebra.errors import WeightsError
from zebra.text.bpe import BPETokenizer
from zebra.text.hf_tokenizer import HFTokenizer
from zebra.text.tokenizers import Tokenizer


def require_matching_tokenizer(tokenizer: Tokenizer, text: TextTowerConfig, path: Path) -> None:
    """Raise WeightsError if the text tower of the model at `path` would misread the tokenizer's ids."""
    difference = _find_difference(tokenizer, text, path)
    if difference is not None:
        raise WeightsError(
            f"{difference}. Put the model's own tokenizer into the folder, or name it with tokenizer=PATH."
        )


def _find_difference(tokenizer: Tokenizer, text: TextTowerConfig, path: Path) -> str | None:
    if tokenizer.vocab_size > text.vocab_size:
        return f"the tokenizer has {tokenizer.vocab_size} ids, but the text tower of {path} has {text.vocab_size}"
    match text:
        case BertTextConfig() if isinstance(tokenizer, BPETokenizer):
            return "the tokenizer is CLIP's, which has no token for padding"
        case BertTextConfig(pad_id=int(pad_id)) | TransformersTextConfig(pad_id=int(pad_id)):
            if tokenizer.pad_token_id != pad_id:
                return (
                    f"the tokenizer pads with the id {tokenizer.pad_token_id}, but the text tower of {path} ignores "
                    f"the id {pad_id}"
                )
        case TextConfig(eos_id=int(eos_id)) if isinstance(tokenizer, HFTokenizer):
            if eos_id not in tokenizer.end_token_ids:
                return (
                    f"the tokenizer ends texts with the ids {list(tokenizer.end_token_ids)}, but the text tower of "
                    f"{path} pools at the id {eos_id}"
                )
    return None
