"""Tokenizer files in the layout of transformers."""

import json
from pathlib import Path

from zebra.pretrained.folder import write_json
from zebra.pretrained.transformers.config import JsonDict
from zebra.text.bpe import BPETokenizer
from zebra.text.files import read_json_object
from zebra.text.hf_tokenizer import HFTokenizer
from zebra.text.siglip_tokenizer import SiglipTokenizer
from zebra.text.tokenizers import Tokenizer
from zebra.text.vocabulary import EOT, SOT


def write_tokenizer(folder: Path, tokenizer: Tokenizer, *, context_length: int) -> dict[str, int]:
    """Write the tokenizer files that transformers' `AutoTokenizer` opens.

    CLIP's tokenizer pads with the end token, as in OpenAI's repositories: the tower pools at the first end token, so
    padding has no effect.

    Returns:
        The ids of the special tokens, which config.json repeats: bos_token_id, eos_token_id and so on.
    """
    ids = write_tokenizer_json(folder, tokenizer, context_length=context_length)
    tokenizer_json = read_json_object(folder / "tokenizer.json")
    if isinstance(tokenizer, BPETokenizer):
        _write_lines(folder / "vocab.json", [json.dumps(tokenizer_json["model"]["vocab"], ensure_ascii=False)])
        merges = [" ".join(pair) for pair in tokenizer_json["model"]["merges"]]
        _write_lines(folder / "merges.txt", ["#version: 0.2", *merges])
    write_json(folder / "special_tokens_map.json", _special_tokens(tokenizer, tokenizer_json["model"]))
    return ids


def write_tokenizer_json(folder: Path, tokenizer: Tokenizer, *, context_length: int) -> dict[str, int]:
    """Write tokenizer.json and tokenizer_config.json, which suffice for transformers.js; see `write_tokenizer`."""
    tokenizer.save(folder / "tokenizer.json")
    tokenizer_json = read_json_object(folder / "tokenizer.json")
    special_tokens = _special_tokens(tokenizer, tokenizer_json["model"])
    settings: JsonDict = {"model_max_length": context_length, "clean_up_tokenization_spaces": False, **special_tokens}
    if isinstance(tokenizer, BPETokenizer):
        settings["tokenizer_class"] = "CLIPTokenizer"
    else:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        settings["padding_side"] = tokenizer_json["padding"]["direction"].lower()
        # SigLIP's text tower was trained to attend to the padding.
        is_masked = not isinstance(tokenizer, SiglipTokenizer)
        settings["model_input_names"] = ["input_ids", "attention_mask"] if is_masked else ["input_ids"]
    write_json(folder / "tokenizer_config.json", settings)
    return _special_token_ids(special_tokens, tokenizer_json)


def _special_tokens(tokenizer: Tokenizer, model: JsonDict) -> dict[str, str]:
    """Return the special tokens by their names in transformers."""
    if not isinstance(tokenizer, HFTokenizer):  # CLIP's tokenizer
        return {"bos_token": SOT, "eos_token": EOT, "unk_token": EOT, "pad_token": EOT}
    template, tokens = tokenizer.template, {}
    if template.prefix:
        tokens["bos_token"] = tokens["cls_token"] = template.prefix[0][0]
    if template.suffix:
        tokens["eos_token"] = template.suffix[0][0]
    if template.prefix and template.suffix:
        tokens["sep_token"] = template.suffix[0][0]
    unknown = model["vocab"][model["unk_id"]][0] if model["type"] == "Unigram" else model["unk_token"]
    if unknown is not None:
        tokens["unk_token"] = unknown
    return tokens | {"pad_token": template.pad[0]}


def _special_token_ids(special_tokens: dict[str, str], tokenizer_json: JsonDict) -> dict[str, int]:
    vocabulary = tokenizer_json["model"]["vocab"]
    ids = vocabulary if isinstance(vocabulary, dict) else {entry[0]: i for i, entry in enumerate(vocabulary)}
    ids = ids | {token["content"]: token["id"] for token in tokenizer_json["added_tokens"]}
    roles = ("bos_token", "eos_token", "pad_token")
    return {f"{role}_id": ids[special_tokens[role]] for role in roles if role in special_tokens}


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8", newline="\n")
