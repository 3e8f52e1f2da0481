"""`zebra study KIND …`: what the paper makes of evaluations that are done: groups, people, robustness, scaling."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zebra.cli.arguments import PositionalText, PositionalTexts, RepeatedText, parse
from zebra.cli.main import DONE, USAGE, say

if TYPE_CHECKING:
    from zebra.workflows.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What every study is told."""

    out: str | None = None
    """Write a page with the figure there, for instance study.html."""
    json: bool = False
    """Print one JSON document instead of lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups(Shown):
    """Accuracy by a column of a table: of each group, of the worst, and the gap (§7)."""

    run: PositionalText
    """A folder that `zebra evaluate` wrote."""
    set: PositionalText
    """Name of the set, as metrics.json has it."""
    table: str
    """CSV, TSV, JSONL or Parquet with the pictures' ids in a column id; or the table that was evaluated."""
    column: str
    """What divides the pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class People(Shown):
    """People's answers beside the model's on the same pictures (Table 2, Fig. 16)."""

    run: PositionalText
    """A folder that `zebra evaluate` wrote."""
    dataset: PositionalText
    """The CLIP_benchmark folder that people were asked about."""
    answers: str
    """The CSV file of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness(Shown):
    """Some runs against the line of the others under every shift: effective and relative robustness (Fig. 13)."""

    runs: PositionalTexts
    """The reference runs: at least three models that were trained on the standard set."""
    standard: str
    """Name of the standard set."""
    model: RepeatedText = ()
    """A run to be judged by the line; may be given several times."""
    shift: RepeatedText = ()
    """Name of a shifted set; by default all sets that every run has."""
    baseline: str | None = None
    """The run that relative robustness is counted from; by default the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling(Shown):
    """Error against compute on log axes over a family of runs (Fig. 9)."""

    runs: PositionalTexts
    """At least three folders of `zebra evaluate`."""
    compute: str
    """Of each run, in the same order, separated by commas."""
    unit: str = "GFLOP per image"
    """Of compute."""
    set: RepeatedText = ()
    """Name of a set whose error counts; by default all sets that every run has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised(Shown):
    """Zero-shot against a fully supervised probe on any other features (Fig. 5)."""

    run: PositionalText
    """A folder that `zebra evaluate` wrote."""
    features: str
    """A Parquet file with the columns set, split, id, label, vector."""


KINDS: dict[str, type[Any]] = {
    "groups": Groups,
    "people": People,
    "robustness": Robustness,
    "scaling": Scaling,
    "supervised": Supervised,
}


def run(words: Sequence[str]) -> int:
    """Make one study, print it, and write its page."""
    if not words or words[0] in ("-h", "--help"):
        say(_overview(), error=not words)
        return DONE if words else USAGE
    if words[0] not in KINDS:
        from zebra.errors import nearest

        say(f"zebra study: no kind {words[0]!r}.{nearest(words[0], KINDS)}\n\n{_overview()}", error=True)
        return USAGE
    kind = KINDS[words[0]]
    told = parse(kind, f"study {words[0]}", words[1:], description=kind.__doc__ or "")
    study = MAKERS[words[0]](told)
    if told.json:
        scores = {
            group: {name: asdict(s) for name, s in named.items()} for group, named in study.scores.items()
        }
        say(json.dumps({"title": study.title, "scores": scores, "notes": study.notes}, indent=1))
    else:
        _print(study)
    if told.out:
        from zebra.report.page import write_page

        write_page(told.out, study.title, "Intervals are of 95 %.", study.sections)
        say(f"page: {told.out}", error=told.json)
    return DONE


def _groups(told: Groups) -> "Study":
    from zebra.workflows import study

    return study.groups(Path(told.run), told.set, Path(told.table), told.column)


def _people(told: People) -> "Study":
    from zebra.workflows import study

    return study.human(Path(told.run), Path(told.dataset), Path(told.answers))


def _robustness(told: Robustness) -> "Study":
    from zebra.workflows import study

    baseline = Path(told.baseline) if told.baseline else None
    return study.robustness(
        [Path(run) for run in told.runs],
        told.standard,
        [Path(run) for run in told.model],
        told.shift,
        baseline,
    )


def _scaling(told: Scaling) -> "Study":
    from zebra.errors import ConfigError
    from zebra.workflows import study

    try:
        compute = [float(part) for part in told.compute.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--compute {told.compute}: give a number for each run, separated by commas"
        ) from error
    return study.scaling([Path(run) for run in told.runs], compute, told.unit, told.set)


def _supervised(told: Supervised) -> "Study":
    from zebra.workflows import study

    return study.supervised(Path(told.run), Path(told.features))


MAKERS: dict[str, "Callable[[Any], Study]"] = {
    "groups": _groups,
    "people": _people,
    "robustness": _robustness,
    "scaling": _scaling,
    "supervised": _supervised,
}


def _print(study: "Study") -> None:
    say(study.title)
    for group, named in study.scores.items():
        say(f"\n{group}")
        for name, score in named.items():
            say(f"  {name:<24} {score.value:8.3f}  [{score.low:.3f}, {score.high:.3f}]  n={score.n:,}")
    if study.notes:
        say("")
    for note in study.notes:
        say(note)


def _overview() -> str:
    kinds = "\n".join(
        f"  zebra study {name:<11} {(kind.__doc__ or '').strip()}" for name, kind in KINDS.items()
    )
    return (
        f"zebra study: what the paper makes of evaluations that are done.\n\n{kinds}\n\n"
        "zebra study KIND --help explains one."
    )
