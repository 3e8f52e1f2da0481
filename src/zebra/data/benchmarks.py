"""The CLIP_benchmark folder, read and written: labelled pictures, class names, prompt templates."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zebra.data.shards import ShardSource, ShardWriter
from zebra.errors import DataError

CLASSNAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"
NUM_SHARDS = "nshards.txt"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A labelled set for zero-shot classification."""

    name: str
    """The folder's name."""
    classnames: tuple[str, ...]
    """C names; the position is the label."""
    templates: tuple[str, ...]
    """Prompts with `{c}` (CLIP_benchmark) or `{}` (OpenAI) where the class name goes."""
    source: ShardSource
    """Records with labels in [0, C)."""


def read_benchmark(folder: Path, split: str = "test") -> Benchmark:
    """Open one split of a set.

    Raises:
        DataError: Something is missing: a file, a shard that nshards.txt counts, the class of a label; or the
            set is of another type than classification. A part of a set is never taken for the whole.
    """
    classnames = _read_lines(folder / CLASSNAMES)
    templates = _read_lines(folder / TEMPLATES)
    for template in templates:
        if "{c}" not in template and "{}" not in template:
            raise DataError(f"{folder / TEMPLATES}: {template!r} has no {{c}} for the class name")
    kind = folder / "dataset_type.txt"
    if kind.is_file() and kind.read_text(encoding="utf-8").strip() != "classification":
        raise DataError(
            f"{folder} is a {kind.read_text(encoding='utf-8').strip()} set, not one of classification"
        )
    source = ShardSource(_shards(folder / split), str(folder))
    if not len(source):
        raise DataError(f"{folder / split} holds no samples; write or download the set again")
    for path, highest in source.highest_labels():
        if highest >= len(classnames):
            raise DataError(
                f"{path} has the label {highest}, but {folder / CLASSNAMES} names {len(classnames)} classes "
                f"(0 to {len(classnames) - 1}); one of them is of another set"
            )
    return Benchmark(folder.resolve().name, classnames, templates, source)


def write_benchmark(
    folder: Path,
    samples: Iterable[tuple[bytes, str, int]],
    classnames: Sequence[str],
    templates: Sequence[str],
    split: str = "test",
    samples_per_shard: int = 10_000,
) -> None:
    """Write `folder/<split>/0.tar …`, with nshards.txt last: a half-written set is not read as a whole one.

    Args:
        samples: Encoded image, its suffix ("png"), and its class index.
        classnames: One name per class; the position is the label.
        templates: Prompts with `{c}` where the class name goes.

    Raises:
        DataError: No samples, a label without a class, or a name or template that the format cannot hold.
    """
    _check_lines(classnames, "class name")
    _check_lines(templates, "template")
    shards = folder / split
    shards.mkdir(parents=True, exist_ok=True)
    (shards / NUM_SHARDS).unlink(missing_ok=True)
    _write_lines(folder / CLASSNAMES, classnames)
    _write_lines(folder / TEMPLATES, templates)
    with ShardWriter(shards, samples_per_shard=samples_per_shard, digits=1) as writer:
        for number, (image, suffix, label) in enumerate(samples):
            if not 0 <= label < len(classnames):
                raise DataError(f"{folder}: sample {number} has label {label} of {len(classnames)} classes")
            writer.write(f"s{number:07d}", {suffix: image, "cls": str(label).encode()})
    if not writer.shards:
        raise DataError(f"{folder}: no samples to write")
    _write_lines(shards / NUM_SHARDS, [str(len(writer.shards))])


def _shards(folder: Path) -> list[Path]:
    count = _read_lines(folder / NUM_SHARDS)[0]
    if not count.isdecimal() or int(count) < 1:
        raise DataError(f"{folder / NUM_SHARDS} must hold the number of shards, not {count!r}")
    paths = [folder / f"{number}.tar" for number in range(int(count))]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise DataError(
            f"{folder} lacks {len(missing)} of the {len(paths)} shards that {NUM_SHARDS} counts: "
            f"{', '.join(missing[:5])}{', …' if len(missing) > 5 else ''}; download or write the set again"
        )
    return paths


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path.absolute()} cannot be read ({error.strerror}); a CLIP_benchmark folder has {CLASSNAMES}, "
            f"{TEMPLATES} and <split>/{NUM_SHARDS} with <split>/0.tar, 1.tar, …"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    lines = tuple(line.rstrip() for line in text.rstrip().split("\n"))
    if not all(lines):
        raise DataError(f"{path}:{lines.index('') + 1}: the line is empty, but every line has a meaning")
    return lines


def _check_lines(lines: Sequence[str], what: str) -> None:
    if not lines:
        raise DataError(f"no {what}: give at least one")
    for line in lines:
        if line.splitlines() != [line.rstrip()]:
            raise DataError(f"the {what} {line!r} must be one line, not blank, without blanks at its end")
        if what == "template" and "{c}" not in line:
            raise DataError(f"the template {line!r} has no {{c}} for the class name")


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
