"""Captions in, padded rows of token ids out: CLIP's lower-cased byte-level BPE (CLIP §2.4).

A tokenizer is its list of merges; everything else follows from it (`scheme`).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, trainers

from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text.batch_encoding import BatchEncoding, check_texts, pad_rows, truncate_rows
from zebra.text.clean import clean_and_split, clean_text
from zebra.text.files import read_json_object, read_text
from zebra.text.vocabulary import (
    EOT,
    MIN_VOCAB_SIZE,
    SOT,
    WORD_END,
    Merge,
    build_tokenizer,
    byte_alphabet,
    pre_tokenizer,
    vocabulary,
)
from zebra.text.word_cache import WordCache

_NUM_PUBLISHED_MERGES = 48_894  # OpenAI's file goes on for 213,000 lines more, which its models never use


class BPETokenizer:
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
        self._symbols = vocabulary(merges)
        self._backend = build_tokenizer(self._symbols, merges)
        self._word_cache = WordCache(self._encode_words)
        self._context_length = context_length

    @classmethod
    def train(cls, captions: Iterable[str], vocab_size: int, context_length: int = 77) -> "BPETokenizer":
        """Learn merges from captions; the same captions in the same order give the same tokenizer.

        Every byte stays encodable, so no text is ever unknown. Captions with fewer repeated pairs than asked
        for give a smaller vocabulary.

        Raises:
            ConfigError: `vocab_size` is below 514, the symbols every vocabulary has.
        """
        if vocab_size < MIN_VOCAB_SIZE:
            raise ConfigError(
                f"vocab_size is {vocab_size}; it must be at least {MIN_VOCAB_SIZE}: 256 bytes, "
                f"256 bytes at a word's end, SOT and EOT"
            )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=byte_alphabet(),
            end_of_word_suffix=WORD_END,
            # Left alone, the trainer numbers word ends in the order of a random hash map and breaks ties
            # between equally frequent pairs by those numbers. Given as special tokens they are fixed.
            special_tokens=[symbol + WORD_END for symbol in byte_alphabet()],
        )
        learner = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
        learner.pre_tokenizer = pre_tokenizer()
        learner.train_from_iterator(map(clean_text, captions), trainer)
        merges = json.loads(learner.to_str())["model"]["merges"]
        return cls([(left, right) for left, right in merges], context_length)

    @classmethod
    def from_merges(cls, path: str | Path, context_length: int = 77) -> "BPETokenizer":
        """Read OpenAI's merges file, plain or gzipped: a header line, then one pair of symbols per line.

        Of the published `bpe_simple_vocab_16e6.txt` the first 48,894 merges count, which gives the
        49,408 ids of the published models; of a shorter file all do.

        Raises:
            WeightsError: the file is missing, damaged, or a line is not a pair of known symbols.
        """
        path = Path(path)
        merges = []
        lines = enumerate(read_text(path).split("\n")[1 : _NUM_PUBLISHED_MERGES + 1], start=2)
        for number, line in lines:
            match line.split():
                case [left, right]:
                    merges.append((left, right))
                case []:
                    continue
                case _:
                    raise WeightsError(f"{path}:{number}: {line[:40]!r} is not two symbols; fetch it again")
        return _build_from_merges(path, merges, context_length)

    @classmethod
    def from_files(
        cls, vocab_path: str | Path, merges_path: str | Path, context_length: int = 77
    ) -> "BPETokenizer":
        """Read `vocab.json` and `merges.txt`, as repositories without a `tokenizer.json` hold them.

        Raises:
            WeightsError: a file is missing or damaged, or they do not belong together.
        """
        tokenizer = cls.from_merges(merges_path, context_length)
        tokenizer._check_vocabulary(read_json_object(Path(vocab_path)), Path(vocab_path))
        return tokenizer

    @classmethod
    def load(cls, path: str | Path, context_length: int = 77) -> "BPETokenizer":
        """Read a `tokenizer.json`, given the file or its folder.

        Of its added tokens SOT and EOT count, since some files list them nowhere else. What others add (padding
        under the name "!", placeholders) is not part of the scheme.

        Raises:
            WeightsError: the file is missing, damaged, or holds another scheme than CLIP's.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        document = read_json_object(path)
        try:
            model = document["model"]
            added = {token["content"]: token["id"] for token in document.get("added_tokens") or []}
            ends = {symbol: added[symbol] for symbol in (SOT, EOT) if symbol in added}
            vocabulary = {**model["vocab"], **ends}
            # Files written before 2024 hold a merge as "a b", later ones as ["a", "b"].
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            merges = [(str(left), str(right)) for left, right in pairs]
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{path} is not a tokenizer.json with a BPE model ({error!r}); "
                f"copy it again from where the model came from"
            ) from error
        tokenizer = _build_from_merges(path, merges, context_length)
        tokenizer._check_vocabulary(vocabulary, path)
        return tokenizer

    def save(self, path: str | Path) -> None:
        """Write the file `tokenizer.json` that other libraries read too; equal tokenizers give equal bytes.

        They find SOT and EOT as special tokens, and a normalizer that stands in for `clean`: equal to it
        for text without encoding damage and HTML entities.
        """
        shared = tokenizers.Tokenizer.from_str(self._backend.to_str())
        shared.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
                normalizers.Strip(),
                normalizers.Lowercase(),
            ]
        )
        Path(path).write_text(shared.to_str(pretty=True) + "\n", encoding="utf-8", newline="\n")

    def encode(self, texts: Sequence[str], *, truncate: bool) -> BatchEncoding:
        """Clean and encode texts, each as SOT … EOT; an empty text is SOT EOT.

        Args:
            texts: any number of strings; each is cleaned first.
            truncate: cut a text over the context length, its last kept token becoming EOT as in every CLIP.
                If false, such a text is an error.

        Raises:
            ConfigError: `texts` is one string rather than a list.
            DataError: an element is not a string, or is too long and `truncate` is false.
        """
        check_texts(texts)
        rows = self._word_cache.encode(
            [clean_and_split(text) for text in texts], self.sot_token_id, self.eot_token_id
        )
        truncated = truncate_rows(
            rows, texts, self._context_length, end_id=self.eot_token_id, truncate=truncate
        )
        return BatchEncoding(*pad_rows(rows), num_truncated=truncated)

    def _encode_words(self, words: list[str]) -> list[list[int]]:
        return [row.ids for row in self._backend.encode_batch_fast(words, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of one row of ids up to its EOT: lower case, words separated by one space.

        Raises:
            DataError: an id is not in the vocabulary.
        """
        symbols = []
        for index in map(int, ids):
            if not 0 <= index < self.vocab_size:
                raise DataError(f"id {index} is not in this vocabulary of {self.vocab_size} symbols")
            if index == self.eot_token_id:
                break
            if index != self.sot_token_id:
                symbols.append(self._symbols[index])
        text: str = decoders.ByteLevel().decode(symbols)
        return text.replace(WORD_END, " ").rstrip()

    def __reduce__(self) -> tuple[type["BPETokenizer"], tuple[tuple[Merge, ...], int]]:
        # The Rust object forgets on its way to another process that special tokens in text are ordinary.
        return BPETokenizer, (self._merges, self._context_length)

    def _check_vocabulary(self, vocabulary: Mapping[str, int], path: Path) -> None:
        """Raise WeightsError unless `vocabulary`, found in `path`, is what the merges give."""
        if vocabulary != {symbol: index for index, symbol in enumerate(self._symbols)}:
            raise WeightsError(
                f"{path} holds another vocabulary than its {len(self._merges)} merges give in CLIP's layout "
                f"(bytes, bytes{WORD_END}, merges, SOT, EOT); zebra reads CLIP tokenizers only"
            )

    @property
    def fingerprint(self) -> str:
        """Digest of the function from texts to ids."""
        rules = json.dumps(["CLIP", self._context_length, self._merges])
        return hashlib.sha256(rules.encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Rows the embedding table needs: one more than the highest id."""
        return len(self._symbols)

    @property
    def context_length(self) -> int:
        """Most tokens of a row, SOT and EOT included."""
        return self._context_length

    @property
    def sot_token_id(self) -> int:
        """Id of the start-of-text token, the second highest."""
        return len(self._symbols) - 2

    @property
    def eot_token_id(self) -> int:
        """Id of the end-of-text token, the highest."""
        return len(self._symbols) - 1


def _build_from_merges(path: Path, merges: Sequence[Merge], context_length: int) -> BPETokenizer:
    try:
        return BPETokenizer(merges, context_length)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or not CLIP's") from error
