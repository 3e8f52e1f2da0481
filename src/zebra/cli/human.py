"""The command `zebra human DATASET --out answers.csv --person NAME`."""

import os
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from zebra.cli.arguments import DatasetArg, parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.config.human import HumanConfig
from zebra.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from zebra.protocols.human import HumanAccuracy
    from zebra.workflows.human import QuizSession

DESCRIPTION = """Ask a person to label the images of a dataset, and save the answers.

An answer is a class name, an unambiguous prefix, a class number, or ? for "I don't know". Press Ctrl-C to stop; run the
same command to continue. Several people can share one file of answers.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(HumanConfig):
    """Arguments of `zebra human`."""

    dataset: DatasetArg
    """A CLIP_benchmark folder; the questions are the images of its test split."""


def run(argv: Sequence[str]) -> int:
    """Ask all questions and print the accuracy of everyone in the file; return 75 if interrupted."""
    config = parse_args(Args, "human", argv, description=DESCRIPTION)
    from zebra.workflows import human

    quiz = human.run(config)
    if quiz.questions:
        _print_instructions(quiz)
    with TemporaryDirectory(prefix="zebra-human-") as folder:
        try:
            for number, position in enumerate(quiz.questions, quiz.num_answered + 1):
                echo(f"\n{number} of {quiz.num_answered + len(quiz.questions)}")
                _ask_one(quiz, position, Path(folder) / f"image-{number}")
        except (KeyboardInterrupt, EOFError):
            echo(f"\nstopped; all answers are in {quiz.answers_path}. Run the same command to continue.", err=True)
            return EXIT_RESUMABLE
    echo(f"all {quiz.num_answered + len(quiz.questions)} images are answered: {quiz.answers_path}\n")
    for shots, row in quiz.evaluate_answers().items():
        echo("\n".join(_format_row(shots, row)))
    return EXIT_OK


def _print_instructions(quiz: "QuizSession") -> None:
    if quiz.num_answered:
        echo(f"{quiz.person} has answered {quiz.num_answered} images; continuing with the others")
    if quiz.examples:
        from zebra.report.study_figures import make_example_sheet

        path = quiz.answers_path.with_name(f"{quiz.answers_path.stem}-examples-{quiz.shots}.png")
        make_example_sheet(quiz.examples, quiz.classnames).save(path)
        echo(f"look at these examples first: {path.resolve()}")
        if _has_viewer():
            _open_viewer(path)
    _print_classes(quiz)
    opening = ", ! opens the image" if _has_viewer() else ""
    echo(f"answer with a class name, a prefix{', a number' if quiz.accepts_numbers else ''} or ? (I don't know)"
        f"{opening}, Enter lists the classes, Ctrl-C stops")  # fmt: skip


def _ask_one(quiz: "QuizSession", position: int, stem: Path) -> None:
    """Show one image and save the answer."""
    from zebra.images.decode import decode_image
    from zebra.workflows.human import parse_class_answer

    record = quiz.read_question(position)
    image = decode_image(record.image, record.id)
    path = stem.with_suffix(".png")
    image.save(path)
    if sys.stdout.isatty():
        _print_preview(image)
    echo(str(path))
    while True:
        text = input("what is it? ").strip()
        if not text:
            _print_classes(quiz)
        elif text == "!" and _has_viewer():
            _open_viewer(path)
        else:
            try:
                quiz.save_answer(record, parse_class_answer(text, quiz.classnames))
            except ConfigError as error:
                echo(str(error))
            else:
                return


def _print_classes(quiz: "QuizSession") -> None:
    from rich.columns import Columns
    from rich.console import Console
    from rich.text import Text

    numbers = range(1, len(quiz.classnames) + 1)
    names = (
        f"{number:>3} {name}" if quiz.accepts_numbers else name
        for number, name in zip(numbers, quiz.classnames, strict=True)
    )
    Console().print(Columns([Text(name) for name in names], column_first=True, equal=True, padding=(0, 2)))


def _print_preview(image: "Image", width: int = 56) -> None:
    """Print an image in half-block characters, each of which shows two pixels."""
    import numpy as np
    from rich.color import Color
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    height = max(2, min(80, round(width * image.height / image.width)) // 2 * 2)
    small = image.convert("RGB").resize((min(width, round(height * image.width / image.height) or 1), height))
    rows = np.asarray(small)
    text = Text()
    for above, below in zip(rows[::2], rows[1::2], strict=True):
        for upper, lower in zip(above.tolist(), below.tolist(), strict=True):
            text.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=Color.from_rgb(*lower)))
        text.append("\n")
    Console().print(text, end="")


def _has_viewer() -> bool:
    """Return whether there is a screen to open an image on."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _open_viewer(path: Path) -> None:
    webbrowser.open(path.resolve().as_uri())


def _format_row(shots: int, row: "HumanAccuracy") -> list[str]:
    named = {
        "accuracy": row.accuracy,
        "majority vote": row.majority_accuracy,
        "on guesses": row.accuracy_on_guesses,
        "majority on guesses": row.majority_accuracy_on_guesses,
    }
    notes = {
        "majority vote": f"  {row.num_ties} ties left out",
        "majority on guesses": f"  {row.num_ties_on_guesses} ties left out",
    }
    lines = [
        f"{shots} shots: {row.num_people} people, {row.num_answers} answers; accuracy averaged over classes, "
        "95% interval over images"
    ]
    for name, score in named.items():
        value = f"{score.value:6.1%}  [{score.low:.1%}, {score.high:.1%}]" if score else "     –"
        lines.append(f"  {name:<20} {value}{notes.get(name, '')}")
    return lines
