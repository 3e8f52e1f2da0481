"""The tokenizers of SigLIP and SigLIP 2.

SigLIP (§3) uses a SentencePiece Unigram vocabulary. SigLIP 2 uses that of Gemma, a BPE over characters with byte
fallback. Both append EOS and pad every text to the context length, because the text tower pools at the last position.
Their files contain the vocabulary only; the rules below are SigLIP's.
"""

from pathlib import Path

import tokenizers
from tokenizers import models, normalizers

from zebra.errors import ConfigError, WeightsError, show_value
from zebra.text.batch_encoding import PaddingSide
from zebra.text.clean import Cleaning
from zebra.text.cleaning_normalizers import normalizer_steps, pop_cleaning
from zebra.text.files import read_text
from zebra.text.hf_tokenizer import HFTokenizer, RowTemplate, SpecialToken
from zebra.text.sentencepiece import XLM_ROBERTA_FILE
from zebra.text.tokenizer_config import OpenClipTextRules, TokenizerConfig
from zebra.text.tokenizer_json import parse_tokenizer_json, read_special_tokens

_CLASSES = ("SiglipTokenizer", "Siglip2Tokenizer")


class SiglipTokenizer(HFTokenizer):
    """SigLIP's tokenizer: a text, EOS and padding.

    If two segmentations of a run of equal letters have the same probability, SentencePiece may choose the other one,
    because it adds in single precision.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        context_length: int,
        *,
        eos_token: str,
        pad_token: str,
        padding_side: PaddingSide = "right",
        cleaning: Cleaning | None = None,
    ) -> None:
        """Configure `backend`, which this object modifies and owns.

        Args:
            backend: The vocabulary, normalizer and pre-tokenizer.
            context_length: Length of every row.
            eos_token: The token that ends a text.
            pad_token: The token that pads a row.
            padding_side: The side of the padding.
            cleaning: The cleaning of a text before the normalizer; None for no cleaning.

        Raises:
            ConfigError: If `context_length` is below 1.
            WeightsError: If `eos_token` or `pad_token` is not in the vocabulary.
        """
        if context_length < 1:
            raise ConfigError(f"context_length is {context_length}; it must be at least 1, for the end token")
        eos, pad = _find_token(backend, eos_token), _find_token(backend, pad_token)
        super().__init__(
            backend, context_length, RowTemplate(suffix=(eos,), pad=pad, padding_side=padding_side), cleaning
        )

    @classmethod
    def load(cls, path: str | Path, context_length: int = 64) -> "SiglipTokenizer":
        """Read a `tokenizer.json`; `path` is the file or its directory.

        Rules that the file lacks are read from the same directory: the cleaning from `open_clip_config.json`, the EOS
        and padding tokens and the side from `tokenizer_config.json`. The defaults are SigLIP's: a Unigram vocabulary
        lower-cases, drops punctuation and pads with EOS; a BPE lower-cases and pads with "<pad>"; both pad on the
        right.

        Raises:
            WeightsError: If the file is missing or damaged, or has another kind of tokenizer.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        backend = parse_tokenizer_json(read_text(path), path)
        config, rules = TokenizerConfig.read(path.parent), OpenClipTextRules.read(path.parent)
        if not isinstance(backend.model, models.Unigram) and not is_siglip(backend, config, path):
            raise WeightsError(
                f"{path} has an unsupported {type(backend.model).__name__} tokenizer; SigLIP has a Unigram, SigLIP 2 a "
                "BPE with byte fallback"
            )
        return cls.from_backend(backend, config, rules, path, context_length)

    @classmethod
    def from_backend(
        cls,
        backend: tokenizers.Tokenizer,
        config: TokenizerConfig,
        rules: OpenClipTextRules | None,
        path: Path,
        context_length: int,
    ) -> "SiglipTokenizer":
        """Apply the rules of `load` to the tokenizer of the file `path`."""
        is_unigram, padding = isinstance(backend.model, models.Unigram), backend.padding or {}
        end = config.token("eos_token") or ("</s>" if is_unigram else "<eos>")
        pad = padding.get("pad_token") or config.token("pad_token") or (end if is_unigram else "<pad>")
        side = padding.get("direction") or config.side("padding_side")
        cleaning = pop_cleaning(backend) or (rules.hf_cleaning if rules else None)
        if cleaning is None and is_unigram:
            cleaning = "siglip"
        elif cleaning is None and {"type": "Lowercase"} not in normalizer_steps(backend.normalizer):
            backend.normalizer = normalizers.Sequence(
                [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer else [])]
            )
        try:
            return cls(backend, context_length, eos_token=end, pad_token=pad, padding_side=side, cleaning=cleaning)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}; copy it again from the source of the model") from error

    @property
    def has_byte_fallback(self) -> bool:
        """Return whether the vocabulary is of SigLIP 2's kind: a BPE with byte fallback."""
        return isinstance(self._backend.model, models.BPE) and self._backend.model.byte_fallback

    @property
    def eos_token_id(self) -> int:
        """Return the id of the end-of-text token."""
        return self._template.suffix[0][1]


def is_siglip(backend: tokenizers.Tokenizer, config: TokenizerConfig, path: Path) -> bool:
    """Return whether a tokenizer is SigLIP's or SigLIP 2's.

    The vocabulary of SigLIP is like that of T5 and mT5, which pad with "<pad>" instead of EOS.
    """
    if config.class_name in _CLASSES:
        return True
    tokens = read_special_tokens(backend, path)
    if isinstance(backend.model, models.BPE):
        return backend.model.byte_fallback and tokens != ((), ()) and config.class_name != "Tipsv2Tokenizer"
    if not isinstance(backend.model, models.Unigram):
        return False
    if path.name == XLM_ROBERTA_FILE or (tokens is not None and (tokens[0] or len(tokens[1]) != 1)):
        return False
    default_pad = "<pad>" if config.class_name in ("T5Tokenizer", "XLMRobertaTokenizer") else None
    pad = (backend.padding or {}).get("pad_token") or config.token("pad_token") or default_pad
    return pad in (None, config.token("eos_token") or "</s>")


def _find_token(backend: tokenizers.Tokenizer, name: str) -> SpecialToken:
    index = backend.token_to_id(name)
    if index is None:
        raise WeightsError(f"the vocabulary lacks {show_value(name)}, the end-of-text or padding token")
    return name, index
