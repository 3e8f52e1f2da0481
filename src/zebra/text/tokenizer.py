"""Captions in, padded rows of token ids out: CLIP's lower-cased byte-level BPE (CLIP §2.4).

A tokenizer is its list of merges; everything else follows from it (`scheme`).
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, normalizers, trainers

from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text.clean import clean
from zebra.text.scheme import NUM_FIXED, WORD_END, Merge, byte_symbols, layout, machine, words

_NUM_PUBLISHED_MERGES = 48_894  # OpenAI's file goes on for 213,000 lines more, which its models never use


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of texts as token ids."""

    ids: NDArray[np.int64]
    """int64 [N, L], L the longest row of this batch; each row is SOT … EOT, then padding with 0."""
    lengths: NDArray[np.int64]
    """int64 [N], the tokens of each row, SOT and EOT included."""
    truncated: int
    """How many texts were cut to the context length."""


class Tokenizer:
    """Turns text into ids and back.

    Differs from OpenAI's: a text that spells out "<|endoftext|>" is encoded as the ordinary characters it
    consists of, so that no caption can end its own sequence. Padding is 0, as in every CLIP; that is also
    the id of "!", so use `Encoded.lengths` or the position of EOT to find a row's end.
    """

    def __init__(self, merges: Sequence[Merge], context_length: int = 77) -> None:
        """Lay out the vocabulary of `merges`, pairs of symbols in the order they were learned.

        Raises:
            ConfigError: `context_length` has no room for SOT and EOT.
            WeightsError: a merge joins a symbol that does not exist yet, or makes one that does.
        """
        if context_length < 2:
            raise ConfigError(f"context_length is {context_length}; it must be at least 2, for SOT and EOT")
        self._merges = tuple(merges)
        self._symbols = layout(merges)
        self._rust = machine(self._symbols, merges)
        self._context_length = context_length

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, context_length: int = 77) -> "Tokenizer":
        """Learn merges from captions; the same captions in the same order give the same tokenizer.

        Every byte stays encodable, so no text is ever unknown. Captions with fewer repeated pairs than asked
        for give a smaller vocabulary.

        Raises:
            ConfigError: `vocab_size` is below 514, the symbols every vocabulary has.
        """
        if vocab_size < NUM_FIXED:
            raise ConfigError(
                f"vocab_size is {vocab_size}; it must be at least {NUM_FIXED}: 256 bytes, "
                f"256 bytes at a word's end, SOT and EOT"
            )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=byte_symbols(),
            end_of_word_suffix=WORD_END,
            # Left alone, the trainer numbers word ends in the order of a random hash map and breaks ties
            # between equally frequent pairs by those numbers. Given as special tokens they are fixed.
            special_tokens=[symbol + WORD_END for symbol in byte_symbols()],
        )
        learner = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
        learner.pre_tokenizer = words()
        learner.train_from_iterator(map(clean, captions), trainer)
        merges = json.loads(learner.to_str())["model"]["merges"]
        return cls([(left, right) for left, right in merges], context_length)

    @classmethod
    def from_merges(cls, path: str | Path, context_length: int = 77) -> "Tokenizer":
        """Read OpenAI's merges file, plain or gzipped: a header line, then one pair of symbols per line.

        Of the published `bpe_simple_vocab_16e6.txt` the first 48,894 merges count, which gives the
        49,408 ids of the published models; of a shorter file all do.

        Raises:
            WeightsError: the file is missing, damaged, or a line is not a pair of known symbols.
        """
        path = Path(path)
        merges = []
        lines = enumerate(_read_text(path).split("\n")[1 : _NUM_PUBLISHED_MERGES + 1], start=2)
        for number, line in lines:
            match line.split():
                case [left, right]:
                    merges.append((left, right))
                case []:
                    continue
                case _:
                    raise WeightsError(f"{path}:{number}: {line[:40]!r} is not two symbols; fetch it again")
        return _made_from(path, merges, context_length)

    @classmethod
    def load(cls, path: str | Path, context_length: int = 77) -> "Tokenizer":
        """Read a `tokenizer.json`, given the file or its folder.

        Raises:
            WeightsError: the file is missing, damaged, or holds another scheme than CLIP's.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            model = json.loads(_read_text(path))["model"]
            vocabulary = model["vocab"]
            # Files written before 2024 hold a merge as "a b", later ones as ["a", "b"].
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            merges = [(str(left), str(right)) for left, right in pairs]
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{path} is not a tokenizer.json with a BPE model ({error!r}); "
                f"copy it again from where the model came from"
            ) from error
        tokenizer = _made_from(path, merges, context_length)
        if vocabulary != tokenizer._rust.get_vocab(with_added_tokens=False):
            raise WeightsError(
                f"{path} holds another vocabulary than its {len(merges)} merges give in CLIP's layout "
                f"(bytes, bytes{WORD_END}, merges, SOT, EOT); zebra reads CLIP tokenizers only"
            )
        return tokenizer

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` that other libraries read too; equal tokenizers give equal bytes.

        They find SOT and EOT as special tokens, and a normalizer that stands in for `clean`: equal to it
        for text without encoding damage and HTML entities.
        """
        shared = tokenizers.Tokenizer.from_str(self._rust.to_str())
        shared.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
                normalizers.Strip(),
                normalizers.Lowercase(),
            ]
        )
        Path(path).write_text(shared.to_str(pretty=True) + "\n", encoding="utf-8", newline="\n")

    def encode(self, texts: Sequence[str], *, truncate: bool) -> Encoded:
        """Clean and encode texts, each as SOT … EOT; an empty text is SOT EOT.

        Args:
            texts: any number of strings; each is cleaned first.
            truncate: cut a text over the context length, its last kept token becoming EOT as in every CLIP.
                If false, such a text is an error.

        Raises:
            ConfigError: `texts` is one string rather than a list.
            DataError: an element is not a string, or is too long and `truncate` is false.
        """
        if isinstance(texts, str):
            raise ConfigError(f"texts is the single string {_short(texts)}; pass a list: [text]")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"texts[{position}] is {text!r}, a {type(text).__name__}; pass strings only")
        rows = [row.ids for row in self._rust.encode_batch_fast([clean(text) for text in texts])]
        limit = self._context_length
        over = [position for position, row in enumerate(rows) if len(row) > limit]
        if over and not truncate:
            raise DataError(
                f"texts[{over[0]}] {_short(texts[over[0]])} has {len(rows[over[0]])} tokens, more than the "
                f"context of {limit}; shorten it, or pass truncate=True to cut it"
            )
        for position in over:
            rows[position] = [*rows[position][: limit - 1], self.eot]
        return Encoded(*_padded(rows), truncated=len(over))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of one row of ids up to its EOT: lower case, words separated by one space.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        symbols = []
        for index in map(int, ids):
            if not 0 <= index < self.vocab_size:
                raise DataError(f"id {index} is not in this vocabulary of {self.vocab_size} symbols")
            if index == self.eot:
                break
            if index != self.sot:
                symbols.append(self._symbols[index])
        text: str = decoders.ByteLevel().decode(symbols)
        return text.replace(WORD_END, " ").rstrip()

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[tuple[Merge, ...], int]]:
        # The Rust object forgets on its way to another process that special tokens in text are ordinary.
        return Tokenizer, (self._merges, self._context_length)

    @property
    def vocab_size(self) -> int:
        """Rows the embedding table needs: one more than the highest id."""
        return len(self._symbols)

    @property
    def context_length(self) -> int:
        """Most tokens of a row, SOT and EOT included."""
        return self._context_length

    @property
    def sot(self) -> int:
        """Id of the start-of-text token, the second highest."""
        return len(self._symbols) - 2

    @property
    def eot(self) -> int:
        """Id of the end-of-text token, the highest."""
        return len(self._symbols) - 1


def _padded(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows as one array int64 [N, L] padded with 0, and their lengths int64 [N]."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    ids = np.zeros((len(rows), lengths.max(initial=0)), dtype=np.int64)
    filled = np.arange(ids.shape[1]) < lengths[:, None]
    ids[filled] = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return ids, lengths


def _made_from(path: Path, merges: Sequence[Merge], context_length: int) -> Tokenizer:
    try:
        return Tokenizer(merges, context_length)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or not CLIP's") from error


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except FileNotFoundError as error:
        raise WeightsError(
            f"there is no tokenizer file {path}; name a tokenizer.json or a merges file"
        ) from error
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); copy it again from its source") from error


def _short(text: Any) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
