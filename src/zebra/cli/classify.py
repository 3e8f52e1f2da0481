"""The command `zebra classify MODEL IMAGES... --labels "horse,zebra"`."""

import csv
import gc
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from zebra.cli.arguments import ImageArgs, ModelArg, TemplateFlag, list_flag, parse_args, split_commas
from zebra.cli.main import EXIT_OK, echo
from zebra.config.classify import ClassifyConfig
from zebra.data.ignored import format_counts, format_ignored
from zebra.errors import BadSample, ConfigError, escape_unencodable

if TYPE_CHECKING:
    from zebra.workflows.classify import ClassifyCounts, ImageResult

NONE_OF_THESE = "none of these"
DESCRIPTION = """Name what is in images: by labels in words, or by a classifier of `zebra probe`.

IMAGE is an image, a folder of images, shards or a table as for `zebra embed`, or - for paths on standard input:
  zebra classify MODEL photos --classifier clf --csv photos.csv
  find . -name '*.jpg' | zebra classify MODEL - --labels "horse,zebra"
"""


def parse_labels(text: str) -> tuple[str, ...]:
    """Return the names in a list separated by commas, or with @PATH in a file of one name per line."""
    if not text.startswith("@"):
        return tuple(split_commas(text))
    from zebra.text.labels import read_labels

    return tuple(read_labels(Path(text[1:])))


@dataclass(frozen=True, kw_only=True, slots=True)
class Args(ClassifyConfig):
    """Arguments of `zebra classify`."""

    model: ModelArg
    images: ImageArgs
    labels: Annotated[tuple[str, ...], list_flag(parse_labels, "A,B|@FILE")] = ()
    """Class names, separated by commas; put a name with a comma in double quotes. @FILE reads one name per line."""
    templates: TemplateFlag = ()
    """Prompt with {} in place of the label. Repeat to average several prompts (default: those of the model)."""
    csv: str | None = None
    """Write a row per image to this file instead of printing; further labels only with --top-k."""
    json: bool = False
    """Print one JSON document instead of text."""

    def __post_init__(self) -> None:
        ClassifyConfig.__post_init__(self)
        if self.csv is not None and self.json:
            raise ConfigError("--csv and --json are both given; results are written or printed. Give one of them")


def run(argv: Sequence[str]) -> int:
    """Print or write each result as soon as it is computed."""
    args = parse_args(Args, "classify", argv, description=DESCRIPTION)
    from zebra.workflows import classify

    gc.freeze()  # collections skip what was imported, also at exit
    with _open_writer(args) as write:
        result = classify.run(args, callback=write)
    for line in _format_counts(result):
        echo(f"zebra classify: {line}", err=True)
    if args.csv is not None:
        echo(f"{args.csv}: {result.num_images:,} images, {result.num_unknown:,} of them {NONE_OF_THESE}")
    return EXIT_OK


def _open_writer(args: Args) -> "AbstractContextManager[Callable[[ImageResult], None]]":
    """Return a context manager that yields a function which prints or writes a result."""
    if args.json:
        return _json_writer()
    return nullcontext(_print_result) if args.csv is None else _csv_writer(Path(args.csv), args.top_k or 1)


@contextmanager
def _csv_writer(path: Path, num_labels: int) -> "Iterator[Callable[[ImageResult], None]]":
    """Yield a function that writes a row of a table; the first one replaces the file."""
    more = [name for k in range(2, num_labels + 1) for name in (f"label_{k}", f"score_{k}")]
    with ExitStack() as stack:
        file: TextIO | None = None

        def write(result: "ImageResult") -> None:
            nonlocal file
            is_first = file is None
            try:
                if file is None:
                    file = stack.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace", newline=""))
                writer = csv.writer(file)
                if is_first:
                    writer.writerow(["image", "label", "score", "cosine", "error", *more])
                writer.writerow(_csv_row(result, num_labels))
                file.flush()
            except OSError as error:
                raise ConfigError(f"cannot write --csv {path}: {error.strerror}. Name another file.") from error

        yield write


@contextmanager
def _json_writer() -> "Iterator[Callable[[ImageResult], None]]":
    """Yield a function that prints an element of one JSON list."""
    num_written = 0

    def write(result: "ImageResult") -> None:
        nonlocal num_written
        echo(("," if num_written else "[\n") + json.dumps(_to_json(result), indent=1))
        num_written += 1

    yield write
    echo("]" if num_written else "[]")


def _to_json(result: "ImageResult") -> dict[str, Any]:
    if isinstance(result.result, BadSample):
        return {"image": result.image, "error": result.result.reason, "detail": result.result.detail}
    scores = [{"label": p.label, "score": p.score} for p in result.result.predictions]
    return {"image": result.image, "label": result.result.label, "cosine": result.result.cosine, "scores": scores}


def _csv_row(result: "ImageResult", num_labels: int) -> list[object]:
    if isinstance(result.result, BadSample):
        return [result.image, "", "", "", result.result.reason]
    best, *others = result.result.predictions[:num_labels]
    is_known = result.result.label is not None
    more = [value for p in others for value in (p.label, f"{p.score:.6f}")] if is_known else []
    label, score = (best.label, f"{best.score:.6f}") if is_known else (NONE_OF_THESE, "")
    return [result.image, label, score, f"{result.result.cosine:.6f}", "", *more]


def _print_result(result: "ImageResult") -> None:
    image = escape_unencodable(result.image)
    if isinstance(result.result, BadSample):
        echo(f"{image}\n  cannot be used: {result.result.reason}")
        return
    lines = [image]
    if result.result.label is None:
        lines.append(f"  {NONE_OF_THESE} (cosine {result.result.cosine:.3f}); the nearest:")
    lines += [f"  {prediction.score:6.1%}  {prediction.label}" for prediction in result.result.predictions]
    echo("\n".join(lines))


def _format_counts(result: "ClassifyCounts") -> Iterator[str]:
    if result.calibration is not None:
        calibration = result.calibration
        yield (
            f"calibrated: {NONE_OF_THESE} below a cosine of {calibration.threshold:.3f}, temperature "
            f"{calibration.temperature:.3g}, mean error of probabilities {calibration.error_after:.1%} (before: "
            f"{calibration.error_before:.1%})"
        )
    if result.num_unknown == result.num_images:
        yield f"all images are {NONE_OF_THESE}: their cosines are below {result.threshold:.3f}. Lower --threshold"
    if result.skipped:
        yield f"images that cannot be used: {format_counts(result.skipped)}"
    if result.ignored:
        yield format_ignored(result.ignored)
