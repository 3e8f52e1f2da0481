"""Build a tokenizer from the files of transformers and open_clip.

`tokenizer.json` has the vocabulary, the steps and the special tokens. As in transformers, `tokenizer_config.json`
overrides three of its rules: BERT's lower case, accents and Chinese characters; RoBERTa's space before the first word;
NLLB's language. It also names the padding. `open_clip_config.json` adds cleaning and `strip_sep_token`.
"""

from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from zebra.errors import WeightsError, show_value
from zebra.text.cleaning_normalizers import pop_cleaning
from zebra.text.hf_tokenizer import HFTokenizer, RowTemplate, SpecialToken
from zebra.text.tokenizer_config import OpenClipTextRules, TokenizerConfig, TokenRole
from zebra.text.tokenizer_json import read_special_tokens, require_unknown_token

Ends = tuple[tuple[SpecialToken, ...], tuple[SpecialToken, ...]]
"""The special tokens before and after a text."""

_DEFAULT_TOKENS: dict[TokenRole, tuple[str, ...]] = {
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
}
_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer")
_BERT_OPTIONS = {  # setting of tokenizer_config.json: option of the normalizer, default
    "do_lower_case": ("lowercase", True),
    "strip_accents": ("strip_accents", None),
    "tokenize_chinese_chars": ("handle_chinese_chars", True),
}
_GENERIC_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")  # their settings do not change the rules of the file
_DEFAULT_LANGUAGE = "eng_Latn"


def build_hf_tokenizer(
    backend: tokenizers.Tokenizer,
    config: TokenizerConfig,
    rules: OpenClipTextRules | None,
    path: Path,
    context_length: int,
) -> HFTokenizer:
    """Apply the settings of `config` and `rules` to the tokenizer of the file `path`.

    Raises:
        WeightsError: If a token is missing, or a setting is not supported.
    """
    if config.side("truncation_side") != "right":
        raise config.error("truncation_side", "zebra truncates on the right only.")
    cleaning = pop_cleaning(backend) or (rules.hf_cleaning if rules else None)
    _apply_bert_options(backend, config)
    _apply_prefix_space(backend, config)
    require_unknown_token(backend, path)
    prefix, suffix = _read_ends(backend, config, path)
    if rules and rules.language not in (None, *(name for name, _ in (*prefix, *suffix))):
        # open_clip 3.3 sets the language, but transformers sets it back to src_lang in every call.
        raise WeightsError(
            f"{path}: tokenizer_kwargs.language is {show_value(rules.language)}, which open_clip does not apply. "
            f"Delete it, and set src_lang in {config.path.name} to the language that the model was trained with."
        )
    if rules and rules.strip_sep_token:
        separator, _ = _find_role(backend, config, "sep_token", path)
        suffix = tuple((name, 0 if name == separator else index) for name, index in suffix)
    padding = backend.padding or {}
    template = RowTemplate(
        prefix=prefix,
        suffix=suffix,
        pad=_find_role(backend, config, "pad_token", path, padding.get("pad_token")),
        padding_side=config.side("padding_side", padding.get("direction", "right")),
    )
    return HFTokenizer(backend, context_length, template, cleaning)


def _apply_bert_options(backend: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
    if not isinstance(backend.normalizer, normalizers.BertNormalizer) or config.class_name in _GENERIC_CLASSES:
        return
    for key, (option, default) in _BERT_OPTIONS.items():
        if key in config.values or config.class_name in _BERT_CLASSES:
            setattr(backend.normalizer, option, config.flag(key, default))


def _apply_prefix_space(backend: tokenizers.Tokenizer, config: TokenizerConfig) -> None:
    if config.class_name == "RobertaTokenizer" and isinstance(backend.pre_tokenizer, pre_tokenizers.ByteLevel):
        backend.pre_tokenizer.add_prefix_space = bool(config.flag("add_prefix_space", False))
    elif config.values.get("add_prefix_space") is False and config.class_name == "XLMRobertaTokenizer":
        raise config.error("add_prefix_space", "zebra supports true only.")


def _read_ends(backend: tokenizers.Tokenizer, config: TokenizerConfig, path: Path) -> Ends:
    if config.class_name == "NllbTokenizer":
        language = _find_token(backend, str(config.values.get("src_lang") or _DEFAULT_LANGUAGE), path)
        end = _find_role(backend, config, "sep_token", path)
        return ((), (end, language)) if config.flag("legacy_behaviour", False) else ((language,), (end,))
    ends = read_special_tokens(backend, path) or _default_ends(backend, config, path)
    for key, tokens in zip(("add_bos_token", "add_eos_token"), ends, strict=True):
        if config.flag(key, bool(tokens)) != bool(tokens):
            raise config.error(key, f"{path.name} has other start and end tokens. Delete the setting.")
    return ends


def _default_ends(backend: tokenizers.Tokenizer, config: TokenizerConfig, path: Path) -> Ends:
    """Return the tokens of a file without post-processor: those of its class."""
    if config.class_name in (*_GENERIC_CLASSES, "Tipsv2Tokenizer"):
        return (), ()
    end = _find_role(backend, config, "sep_token", path)
    return () if config.class_name == "T5Tokenizer" or path.name == "spiece.model" else (
        _find_role(backend, config, "cls_token", path),
    ), (end,)


def _find_role(
    backend: tokenizers.Tokenizer, config: TokenizerConfig, role: TokenRole, path: Path, saved: str | None = None
) -> SpecialToken:
    """Return a token by its role: the name of `config`, or `saved`, or a usual name that the vocabulary has."""
    usual = [name for name in _DEFAULT_TOKENS[role] if backend.token_to_id(name) is not None]
    name = config.token(role) or saved or next(iter(usual), None)
    if name is None:
        names = " or ".join(_DEFAULT_TOKENS[role])
        raise WeightsError(
            f"{path} has no {role}, such as {names}. Name it in {config.path.name}, as the source of the model does."
        )
    return _find_token(backend, name, path)


def _find_token(backend: tokenizers.Tokenizer, name: str, path: Path) -> SpecialToken:
    index = backend.token_to_id(name)
    if index is None:
        raise WeightsError(
            f"{path}: the vocabulary lacks {show_value(name)}; copy it again from the source of the model"
        )
    return name, index
