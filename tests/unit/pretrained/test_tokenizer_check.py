"""A tokenizer whose ids the text tower would misread is refused."""

from pathlib import Path

import pytest
import tokenizers
from tokenizers import models

from zebra.config.text_towers import BertTextConfig, SiglipTextConfig, TextConfig, TextTowerConfig
from zebra.errors import WeightsError
from zebra.pretrained.tokenizer_check import require_matching_tokenizer
from zebra.text import BPETokenizer, HFTokenizer, Tokenizer
from zebra.text.hf_tokenizer import RowTemplate

XLM_ROBERTA = HFTokenizer(
    tokenizers.Tokenizer(models.WordPiece({"<s>": 0, "<pad>": 1, "</s>": 2, "[UNK]": 3}, unk_token="[UNK]")),
    8,
    RowTemplate(prefix=(("<s>", 0),), suffix=(("</s>", 2),), pad=("<pad>", 1)),
)
CLIP = BPETokenizer([], 8)
BLOCKS = {"width": 16, "layers": 1, "heads": 2, "context_length": 8}


@pytest.mark.parametrize(
    ("tokenizer", "text", "message"),
    [
        (XLM_ROBERTA, TextConfig(**BLOCKS, vocab_size=3), "has 4 ids, but the text tower of model has 3"),
        (CLIP, SiglipTextConfig(**BLOCKS, vocab_size=32), "has 514 ids, but the text tower of model has 32"),
        (
            XLM_ROBERTA,
            BertTextConfig(**BLOCKS, vocab_size=4, pad_id=0),
            "pads with the id 1, but the text tower of model ignores the id 0",
        ),
        (CLIP, BertTextConfig(**BLOCKS, vocab_size=600), "is CLIP's, which has no token for padding"),
        (
            XLM_ROBERTA,
            TextConfig(**BLOCKS, vocab_size=4, eos_id=1),
            r"ends texts with the ids \[2\], but the text tower of model pools at the id 1",
        ),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tokenizer: Tokenizer, text: TextTowerConfig, message: str) -> None:
    with pytest.raises(WeightsError, match=rf"{message}. Put the model's own tokenizer"):
        require_matching_tokenizer(tokenizer, text, Path("model"))


@pytest.mark.parametrize(
    ("tokenizer", "text"),
    [
        (XLM_ROBERTA, BertTextConfig(**BLOCKS, vocab_size=4, pad_id=1)),
        (XLM_ROBERTA, TextConfig(**BLOCKS, vocab_size=9, eos_id=2)),
        (CLIP, TextConfig(**BLOCKS, vocab_size=514)),
        (CLIP, TextConfig(**BLOCKS, vocab_size=514, eos_id=513)),
    ],
)
def test_the_tokenizer_of_the_model_is_accepted(tokenizer: Tokenizer, text: TextTowerConfig) -> None:
    require_matching_tokenizer(tokenizer, text, Path("model"))
