"""CLIP's tokenizer: lower-case byte-level BPE (CLIP §2.4).

The list of merges determines the tokenizer; `vocabulary` derives everything else from it.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, trainers

from zebra.errors import ConfigError, DataError, WeightsError
from zebra.text.batch_encoding import BatchEncoding, check_texts, pad_rows, truncate_rows
from zebra.text.clean import clean_and_split, clean_text
from zebra.text.files import read_json_object, read_text
from zebra.text.token_counts import TokenCounts, count_tokens, is_part_of_character
from zebra.text.vocabulary import (
    EOT,
    MIN_VOCAB_SIZE,
    SOT,
    WORD_END,
    Merge,
    build_tokenizer,
    byte_alphabet,
    byte_values,
    pre_tokenizer,
    vocabulary,
)
from zebra.text.word_cache import WordCache

NUM_PUBLISHED_MERGES = 48_894  # OpenAI's file has 213,000 further lines, which its models never use


class BPETokenizer:
    """CLIP's tokenizer: converts texts to ids and ids to text.

    Differs from OpenAI's: the text "<|endoftext|>" is encoded as ordinary characters, so that no caption can end its
    own sequence. Padding is 0, as in every CLIP. That is also the id of "!", so use `BatchEncoding.lengths` or the
    position of EOT to find the end of a row.
    """

    def __init__(self, merges: Sequence[Merge], context_length: int = 77) -> None:
        """Build the vocabulary of `merges`, pairs of symbols in the order they were learned.

        Raises:
            ConfigError: If `context_length` is below 2, for SOT and EOT.
            WeightsError: If a merge uses an unknown symbol, or produces an existing one.
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
        """Train a tokenizer on captions; the same captions in the same order give the same tokenizer.

        Every byte can be encoded, so there are no unknown texts. Captions with too few repeated pairs give a smaller
        vocabulary.

        Raises:
            ConfigError: If `vocab_size` is below 514, the number of symbols without merges.
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
            # By default the trainer numbers word ends in the order of a random hash map, and breaks ties between
            # equally frequent pairs by these numbers. As special tokens, their order is fixed.
            special_tokens=[symbol + WORD_END for symbol in byte_alphabet()],
        )
        trained = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
        trained.pre_tokenizer = pre_tokenizer()
        trained.train_from_iterator(map(clean_text, captions), trainer)
        merges = json.loads(trained.to_str())["model"]["merges"]
        return cls([(left, right) for left, right in merges], context_length)

    @classmethod
    def from_merges(cls, path: str | Path, context_length: int = 77) -> "BPETokenizer":
        """Read a merges file in OpenAI's format, plain or gzipped: a header line, then one pair per line.

        At most the first 48,894 merges are used. With the published `bpe_simple_vocab_16e6.txt`, this gives the 49,408
        ids of the published models.

        Raises:
            WeightsError: If the file is missing or damaged, or a line is not a pair of known symbols.
        """
        path = Path(path)
        merges = []
        lines = enumerate(read_text(path).split("\n")[1 : NUM_PUBLISHED_MERGES + 1], start=2)
        for number, line in lines:
            match line.split():
                case [left, right]:
                    merges.append((left, right))
                case []:
                    continue
                case _:
                    raise WeightsError(
                        f"{path}:{number}: {line[:40]!r} is not a pair of symbols; download the file again"
                    )
        return _build_from_merges(path, merges, context_length)

    @classmethod
    def from_files(cls, vocab_path: str | Path, merges_path: str | Path, context_length: int = 77) -> "BPETokenizer":
        """Read `vocab.json` and `merges.txt`, from repositories without a `tokenizer.json`.

        Raises:
            WeightsError: If a file is missing or damaged, or the two do not match.
        """
        tokenizer = cls.from_merges(merges_path, context_length)
        tokenizer._check_vocabulary(read_json_object(Path(vocab_path)), Path(vocab_path))
        return tokenizer

    @classmethod
    def load(cls, path: str | Path, context_length: int = 77) -> "BPETokenizer":
        """Read a `tokenizer.json`; `path` is the file or its directory.

        Of the added tokens only SOT and EOT are used, because some files list them nowhere else. Others are ignored,
        with a warning unless they are a symbol of the vocabulary (padding named "!").

        Raises:
            WeightsError: If the file is missing or damaged, or is not a CLIP tokenizer.
        """
        path = Path(path)
        path = path / "tokenizer.json" if path.is_dir() else path
        document = read_json_object(path)
        try:
            model = document["model"]
            added = {str(token["content"]): token["id"] for token in document.get("added_tokens") or []}
            ends = {symbol: added[symbol] for symbol in (SOT, EOT) if symbol in added}
            vocab = {**model["vocab"], **ends}
            # Files from before 2024 store a merge as "a b", later ones as ["a", "b"].
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            merges = [(str(left), str(right)) for left, right in pairs]
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{path} is not a tokenizer.json with a BPE model ({error!r}); "
                f"copy it again from the source of the model"
            ) from error
        tokenizer = _build_from_merges(path, merges, context_length)
        tokenizer._check_vocabulary(vocab, path)
        unknown = [content for content, index in added.items() if vocab.get(content) != index]
        if unknown:
            warnings.warn(
                f"{path}: {len(unknown)} added tokens are not in the vocabulary and are ignored, such as "
                f"{unknown[0][:80]!r}. In texts they are encoded as ordinary characters.",
                stacklevel=2,
            )
        return tokenizer

    def save(self, path: str | Path) -> None:
        """Write a `tokenizer.json` that other libraries can read; equal tokenizers give equal bytes.

        The file has SOT and EOT as special tokens, and a normalizer that equals `clean_text` except for broken
        encodings and HTML entities.
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
        """Clean and encode texts, each as SOT … EOT; an empty text is SOT EOT. See `Tokenizer.encode`."""
        check_texts(texts)
        rows = self._word_cache.encode([clean_and_split(text) for text in texts], self.sot_token_id, self.eot_token_id)
        num_truncated = truncate_rows(rows, texts, self._context_length, suffix=[self.eot_token_id], truncate=truncate)
        return BatchEncoding(*pad_rows(rows), num_truncated=num_truncated)

    def count_tokens(self, texts: Sequence[str]) -> TokenCounts:
        """Count the tokens of texts without truncation. See `Tokenizer.count_tokens`."""
        check_texts(texts)
        rows = self._word_cache.encode([clean_and_split(text) for text in texts], self.sot_token_id, self.eot_token_id)
        return count_tokens(rows, self._context_length, num_special=2, unknown_ids=(), fragment_ids=self._fragment_ids)

    @cached_property
    def _fragment_ids(self) -> tuple[int, ...]:
        """Ids of the symbols that are parts of characters."""
        bytes_by_symbol = byte_values()
        return tuple(
            index
            for index, symbol in enumerate(self._symbols[:-2])
            if is_part_of_character(bytes(map(bytes_by_symbol.__getitem__, symbol.removesuffix(WORD_END))))
        )

    def _encode_words(self, words: list[str]) -> list[list[int]]:
        return [row.ids for row in self._backend.encode_batch_fast(words, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of one row of ids up to its EOT: lower case, words separated by one space.

        Raises:
            DataError: If an id is not in the vocabulary.
        """
        symbols = []
        for index in map(int, ids):
            if not 0 <= index < self.vocab_size:
                raise DataError(f"id {index} is not in the vocabulary of {self.vocab_size} symbols")
            if index == self.eot_token_id:
                break
            if index != self.sot_token_id:
                symbols.append(self._symbols[index])
        text: str = decoders.ByteLevel().decode(symbols)
        return text.replace(WORD_END, " ").rstrip()

    def __reduce__(self) -> tuple[type["BPETokenizer"], tuple[tuple[Merge, ...], int]]:
        # Pickling the Rust object loses `encode_special_tokens`.
        return BPETokenizer, (self._merges, self._context_length)

    def _check_vocabulary(self, vocab: Mapping[str, int], path: Path) -> None:
        """Raise WeightsError unless `vocab`, read from `path`, matches the merges."""
        if vocab != {symbol: index for index, symbol in enumerate(self._symbols)}:
            raise WeightsError(
                f"{path} has a vocabulary that does not match its {len(self._merges)} merges in CLIP's order "
                f"(bytes, bytes{WORD_END}, merges, SOT, EOT); zebra reads CLIP tokenizers only"
            )

    @property
    def fingerprint(self) -> str:
        """Return a digest of the function from texts to ids."""
        rules = json.dumps(["CLIP", self._context_length, self._merges])
        return hashlib.sha256(rules.encode()).hexdigest()

    @property
    def vocab_size(self) -> int:
        """Return the number of rows of the embedding table: the highest id plus one."""
        return len(self._symbols)

    @property
    def context_length(self) -> int:
        """Return the maximum number of tokens, including SOT and EOT."""
        return self._context_length

    @property
    def pad_token_id(self) -> int:
        """Return the id of padding, which is 0 in every CLIP."""
        return 0

    @property
    def sot_token_id(self) -> int:
        """Return the id of the start-of-text token, the second highest."""
        return len(self._symbols) - 2

    @property
    def eot_token_id(self) -> int:
        """Return the id of the end-of-text token, the highest."""
        return len(self._symbols) - 1


def _build_from_merges(path: Path, merges: Sequence[Merge], context_length: int) -> BPETokenizer:
    try:
        return BPETokenizer(merges, context_length)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}; the file is damaged or not CLIP's") from error
