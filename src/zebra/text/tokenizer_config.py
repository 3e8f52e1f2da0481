"""The settings beside a tokenizer file.

They are `tokenizer_config.json` of transformers and the rules for texts in `open_clip_config.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from zebra.errors import WeightsError, show_value
from zebra.text.batch_encoding import PaddingSide
from zebra.text.clean import Cleaning
from zebra.text.files import read_json_object

TokenRole = Literal["bos_token", "eos_token", "cls_token", "sep_token", "pad_token", "unk_token"]
OPEN_CLIP_CONFIG_FILE = "open_clip_config.json"
_CLEANINGS: tuple[Cleaning, ...] = ("canonicalize", "lower", "whitespace")


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """The contents of `tokenizer_config.json`, with the special tokens of `special_tokens_map.json`."""

    path: Path
    """The file, for errors; it may be missing."""
    values: Mapping[str, Any]
    """Settings by key."""

    @classmethod
    def read(cls, folder: Path) -> "TokenizerConfig":
        """Read the files of a folder; missing ones have no settings.

        Raises:
            WeightsError: If a file is damaged.
        """
        files = [folder / "special_tokens_map.json", folder / "tokenizer_config.json"]
        values = {key: value for path in files if path.is_file() for key, value in read_json_object(path).items()}
        return cls(files[1], values)

    @property
    def class_name(self) -> str | None:
        """Return the class of transformers, as of version 5: without the suffix Fast."""
        name = self.values.get("tokenizer_class")
        return name.removesuffix("Fast") if isinstance(name, str) else None

    def token(self, role: TokenRole) -> str | None:
        """Return the name of a special token, which may be wrapped in its options."""
        value = self.values.get(role)
        name = value.get("content") if isinstance(value, dict) else value
        return str(name) if name else None

    def flag(self, key: str, default: bool | None) -> bool | None:
        """Return a setting that is true or false; null is the default.

        Raises:
            WeightsError: If it is something else.
        """
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "It must be true or false.")
        return default if value is None else value

    def side(self, key: Literal["padding_side", "truncation_side"], default: str = "right") -> PaddingSide:
        """Return the side of padding or truncation.

        Raises:
            WeightsError: If it is unknown.
        """
        value = self.values.get(key) or default
        for side in get_args(PaddingSide):
            if value == side:
                return side  # type: ignore[no-any-return]  # get_args returns Any
        raise WeightsError(f"{self.path}: {key.replace('_', ' ')} {show_value(value)}; it must be right or left")

    def error(self, key: str, advice: str) -> WeightsError:
        """Return the error for a setting that zebra does not support."""
        return WeightsError(f"{self.path}: {key} is {show_value(self.values.get(key))}. {advice}")


@dataclass(frozen=True, slots=True)
class OpenClipTextRules:
    """What open_clip does with texts and ids around the tokenizer: `text_cfg.tokenizer_kwargs`."""

    cleaning: Cleaning | None = None
    """Cleaning of texts that the file names."""
    tokenizer_name: str | None = None
    """The tokenizer of transformers that open_clip uses, a repository on the hub; None for CLIP's."""
    strip_sep_token: bool = False
    """Replace the id of the separator, the end token of BERT, by 0."""
    language: str | None = None
    """Language code of NLLB, which open_clip does not apply."""

    @property
    def hf_cleaning(self) -> Cleaning:
        """Return the cleaning before a tokenizer of transformers."""
        return self.cleaning or "whitespace"

    def require_clip(self, folder: Path) -> None:
        """Raise WeightsError for rules that CLIP's tokenizer, which lower-cases, does not follow."""
        supported = (None, "lower", "whitespace") if self.tokenizer_name else (None, "lower")
        if self.cleaning not in supported or self.strip_sep_token or self.language is not None:
            raise WeightsError(
                f"{folder / OPEN_CLIP_CONFIG_FILE}: tokenizer_kwargs are not supported for CLIP's tokenizer. Delete "
                "them if the model was trained on lower-case texts."
            )

    @classmethod
    def read(cls, folder: Path) -> "OpenClipTextRules | None":
        """Read the rules of a model folder; None if it has no `open_clip_config.json`.

        Raises:
            WeightsError: If the file is damaged or has an unknown rule.
        """
        path = folder / OPEN_CLIP_CONFIG_FILE
        if not path.is_file():
            return None
        text_cfg = _read_section(_read_section(read_json_object(path), "model_cfg", path), "text_cfg", path)
        options = dict(_read_section(text_cfg, "tokenizer_kwargs", path))
        cleaning, tokenizer_name = options.pop("clean", None), text_cfg.get("hf_tokenizer_name") or None
        strip_sep_token, language = options.pop("strip_sep_token", False), options.pop("language", None)
        if not isinstance(strip_sep_token, bool):
            options["strip_sep_token"] = strip_sep_token
        if options:
            key, value = next(iter(options.items()))
            raise WeightsError(f"{path}: tokenizer_kwargs.{key} is {show_value(value)}, which zebra does not support")
        if text_cfg.get("tokenizer_mode"):
            mode = show_value(text_cfg["tokenizer_mode"])
            raise WeightsError(f"{path}: text_cfg.tokenizer_mode is {mode}, which zebra does not support")
        for known in (None, *_CLEANINGS):
            if known == cleaning:
                return cls(known, tokenizer_name and str(tokenizer_name), bool(strip_sep_token), language)
        raise WeightsError(
            f"{path}: tokenizer_kwargs.clean is {show_value(cleaning)}; zebra knows {', '.join(_CLEANINGS)}"
        )


def _read_section(values: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    """Return the object under `key`; a missing one is empty."""
    section = values.get(key)
    if section is not None and not isinstance(section, dict):
        raise WeightsError(
            f"{path}: {key} is {show_value(section)}; it must be a JSON object. Download the file again."
        )
    return section or {}
