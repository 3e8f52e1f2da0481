"""Matching of captions with 500,000 entries: zebra's matcher and a pyahocorasick automaton, as MetaCLIP uses it.

    python benchmarks/match.py --captions 100000 --save      (needs: pip install pyahocorasick)

Captions are drawn from a Zipf vocabulary of made-up words; entries are its most frequent words and runs of words of
captions. Both find every entry of every caption, in turns; the matches must be equal. The row has captions per
CPU-second of one thread, the ratio, and the memory that the matcher takes. With --scale zebra alone matches 10
times as many captions.
"""

import argparse
import resource
import time
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from receipt import save_row
from zebra.curate.match import EntryMatcher

VOCABULARY_SIZE = 500_000
BLOCK_SIZE = 100_000
SKIPPED_WORDS = 2_000
"""Most frequent words that are no entries; a caption then matches about as many entries as in MetaCLIP, 3.5."""
WORDS_PER_CAPTION = 11.6
"""Mean; with words of 5 letters, captions have about 70 bytes."""


def make_words(rng: np.random.Generator) -> list[str]:
    """Return distinct made-up words."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words: dict[str, None] = {}
    while len(words) < VOCABULARY_SIZE:
        drawn = letters[np.minimum(rng.geometric(0.12, (VOCABULARY_SIZE, 12)) - 1, 25)]
        lengths = rng.integers(2, 9, VOCABULARY_SIZE)
        words |= dict.fromkeys("".join(row[:length]) for row, length in zip(drawn, lengths, strict=True))
    return list(words)[:VOCABULARY_SIZE]


def make_captions(words: list[str], number: int, rng: np.random.Generator) -> list[str]:
    """Return captions of Zipf-distributed words with some commas and full stops."""
    rank = np.arange(1, len(words) + 1)
    cumulative = np.cumsum(1 / rank)
    length_N = np.maximum(1, rng.poisson(WORDS_PER_CAPTION, number))
    drawn = np.searchsorted(cumulative, rng.random(length_N.sum()) * cumulative[-1])
    mark = rng.choice(["", "", "", "", "", "", "", ",", "."], len(drawn))
    tokens = [words[index] + suffix for index, suffix in zip(drawn, mark, strict=True)]
    ends = np.cumsum(length_N)
    return [" ".join(tokens[end - length : end]) for end, length in zip(ends, length_N, strict=True)]


def make_entries(words: list[str], captions: list[str], number: int, rng: np.random.Generator) -> list[str]:
    """Return single words, and runs of two or three words of captions."""
    entries = dict.fromkeys(words[SKIPPED_WORDS : SKIPPED_WORDS + number * 3 // 5])
    while len(entries) < number:
        parts = captions[int(rng.integers(len(captions)))].split()
        length, start = int(rng.integers(2, 4)), int(rng.integers(len(parts)))
        if start + length <= len(parts):
            entries[" ".join(parts[start : start + length]).rstrip(",.")] = None
    return list(entries)


def add_spaces(text: str) -> str:
    """Return a text with spaces around it and around its marks."""
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return f" {text} "


def match_with_automaton(entries: list[str], captions: list[str]) -> Iterator[list[int]]:
    """Yield the entries of each caption, sorted, by pyahocorasick."""
    import ahocorasick

    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        automaton.add_word(add_spaces(entry), number)
    automaton.make_automaton()
    yield []  # the automaton is built
    for caption in captions:
        yield sorted({number for _, number in automaton.iter(add_spaces(caption))})


def main() -> None:
    """Measure and print one row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=500_000)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--save", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pa.set_cpu_count(1)
    words = make_words(rng)
    captions = make_captions(words, args.captions, rng)
    entries = make_entries(words, captions, args.entries, rng)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    matcher = EntryMatcher(entries)
    build_seconds = time.process_time() - start
    array = pa.array(captions)
    start = time.process_time()
    blocks = [matcher.match(array.slice(at, BLOCK_SIZE)) for at in range(0, len(array), BLOCK_SIZE)]
    matcher_seconds = time.process_time() - start
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

    automaton = match_with_automaton(entries, captions)
    next(automaton)
    start = time.process_time()
    expected = list(automaton)
    automaton_seconds = time.process_time() - start
    found: list[list[int]] = [[] for _ in captions]
    for number, (row_M, entry_M) in enumerate(blocks):
        for row, entry in zip(row_M.tolist(), entry_M.tolist(), strict=True):
            found[number * BLOCK_SIZE + row].append(entry)
    row = {
        "captions": len(captions),
        "entries": len(entries),
        "matches": sum(map(len, found)),
        "equal": found == expected,
        "captions_per_cpu_second": {
            "zebra": round(len(captions) / matcher_seconds),
            "pyahocorasick": round(len(captions) / automaton_seconds),
        },
        "ratio": round(automaton_seconds / matcher_seconds, 2),
        "build_seconds": round(build_seconds, 2),
        "memory_mib": round(memory),
    }
    if args.scale:
        many = pa.array(make_captions(words, 10 * args.captions, rng))
        start = time.process_time()
        for at in range(0, len(many), BLOCK_SIZE):
            matcher.match(many.slice(at, BLOCK_SIZE))
        row["captions_per_cpu_second_of_ten_times"] = round(len(many) / (time.process_time() - start))
    if args.save:
        save_row("match", row)
    else:
        print(row)


if __name__ == "__main__":
    main()
