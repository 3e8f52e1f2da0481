"""`zebra human`: a labelled set in; its pictures as questions to a person, in a seeded order, and the answers kept."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from zebra.data.benchmarks import NUM_SHARDS, Benchmark, read_benchmark
from zebra.errors import ConfigError, DataError, nearest
from zebra.evaluate.human import UNKNOWN, Answer, People, append_answer, people, read_answers
from zebra.images.decode import decode
from zebra.values import Record


@dataclass(frozen=True, slots=True)
class Quiz:
    """What a person is still to be asked, and where the answers go."""

    classnames: tuple[str, ...]
    questions: tuple[int, ...]
    """Positions in the set, in the order to ask."""
    answered: int
    """Questions that this person has answered with as many shots in earlier sittings."""
    examples: tuple[tuple[Image.Image, ...], ...]
    """For each class its pictures to be shown before; empty without shots."""
    benchmark: Benchmark
    labels: Mapping[str, int]
    """Picture id → class index."""
    out: Path
    person: str
    shots: int

    @property
    def numbered(self) -> bool:
        """Whether classes can be named by number: not where their names are numbers."""
        return numbered(self.classnames)

    def picture(self, position: int) -> Record:
        """Read one question."""
        return self.benchmark.source.read(position)

    def keep(self, picture: Record, said: int | None) -> None:
        """Write down an answer: a class index, or None for "I don't know"."""
        append_answer(self.out, Answer(self.person, picture.id, said, self.shots), self.classnames)

    def table(self) -> dict[int, People]:
        """Return shots → the row of Table 2, over everyone in the file of answers."""
        answers = read_answers(self.out, self.classnames, self.labels)
        return {
            shots: people(answers, self.labels, shots)
            for shots in sorted({answer.shots for answer in answers})
        }


def open_quiz(dataset: Path, out: Path, person: str, shots: int = 0, seed: int = 0) -> Quiz:
    """Open a quiz where this person left it.

    Each person has an order of their own. The examples are the same for all: of the split `train` where the set has
    one, else of `test`, and then they are not asked.

    Args:
        dataset: A CLIP_benchmark folder; its split `test` is asked.
        out: The CSV file of answers, new or to be added to, also by others.
        person: A name or number that tells people apart.
        shots: Examples of each class to show before; the paper has 0, 1 and 2.
        seed: Of the order and the examples.

    Raises:
        ConfigError: No person, or a negative number of shots.
        DataError: The set or the file of answers is not whole, or a class has too few pictures for the shots.
    """
    if not person.strip():
        raise ConfigError("--person is empty; give everyone a name, or a number, that tells them apart")
    if shots < 0:
        raise ConfigError(f"--shots {shots}: show 0 or more examples of each class; the paper has 0, 1 and 2")
    out.parent.mkdir(parents=True, exist_ok=True)  # rather than fail at the first answer
    benchmark = read_benchmark(dataset)
    records = [benchmark.source.read(position) for position in range(len(benchmark.source))]
    labels = {record.id: _label(record) for record in records}
    answers = read_answers(out, benchmark.classnames, labels) if out.exists() and out.stat().st_size else ()
    done = {answer.image for answer in answers if (answer.person, answer.shots) == (person, shots)}
    apart = (dataset / "train" / NUM_SHARDS).is_file()
    teacher = read_benchmark(dataset, "train") if apart and shots else benchmark
    chosen = _choose(teacher, shots, seed, left=0 if apart else 1)
    shown = set() if apart else {position for positions in chosen for position in positions}
    order = list(range(len(records)))
    random.Random(f"{seed} {person}").shuffle(order)
    return Quiz(
        classnames=benchmark.classnames,
        questions=tuple(
            position for position in order if position not in shown and records[position].id not in done
        ),
        answered=len(done),
        examples=tuple(tuple(_image(teacher, position) for position in positions) for positions in chosen),
        benchmark=benchmark,
        labels=labels,
        out=out,
        person=person,
        shots=shots,
    )


def understand(words: str, classnames: Sequence[str]) -> int | None:
    """Return the class that a person means: by name, the beginning of one name alone, or number from 1; None for `?`.

    Numbers do not count where class names are numbers themselves.

    Raises:
        ConfigError: No class, or more than one, is meant.

    >>> understand("ze", ["horse", "zebra"]), understand("1", ["horse", "zebra"]), understand("?", ["horse"])
    (1, 0, None)
    """
    words = words.strip()
    if words == UNKNOWN:
        return None
    names = [name.casefold() for name in classnames]
    if words.casefold() in names:
        return names.index(words.casefold())
    if numbered(classnames) and words.isdecimal() and 1 <= int(words) <= len(names):
        return int(words) - 1
    meant = [number for number, name in enumerate(names) if name.startswith(words.casefold())]
    if len(meant) == 1:
        return meant[0]
    if meant and words:
        several = ", ".join(classnames[number] for number in meant[:8])
        raise ConfigError(f"{words!r} may be {several}{', …' if len(meant) > 8 else ''}; write more of it")
    raise ConfigError(f"no class {words!r}; {UNKNOWN} if you don't know.{nearest(words, classnames)[:300]}")


def numbered(classnames: Sequence[str]) -> bool:
    """Say whether classes can be named by number."""
    return not any(name.isdecimal() for name in classnames)


def _choose(teacher: Benchmark, shots: int, seed: int, left: int) -> list[tuple[int, ...]]:
    """Choose for each class the positions of its examples, so that `left` of its pictures remain."""
    if not shots:
        return []
    of_class: dict[int, list[int]] = defaultdict(list)
    for position in range(len(teacher.source)):
        of_class[_label(teacher.source.read(position))].append(position)
    for label, name in enumerate(teacher.classnames):
        if len(of_class[label]) < shots + left:
            raise DataError(
                f"the class {name!r} has {len(of_class[label])} pictures in {teacher.name}; {shots} shots need "
                f"{shots + left}{', one of them to be asked' if left else ''}"
            )
    generator = random.Random(seed)
    orders = [
        generator.sample(of_class[label], len(of_class[label])) for label in range(len(teacher.classnames))
    ]
    return [
        tuple(order[:shots]) for order in orders
    ]  # one shot shows the first of the two that two shots show


def _label(record: Record) -> int:
    if record.label is None:
        raise DataError(f"{record.id} has no label, so no answer to it is right; a quiz needs a labelled set")
    return record.label


def _image(benchmark: Benchmark, position: int) -> Image.Image:
    record = benchmark.source.read(position)
    return decode(record.image, record.id)
