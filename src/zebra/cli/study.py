"""`zebra study KIND …`: what the paper makes of evaluations that are done: groups, people, robustness, scaling."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zebra.cli.arguments import PositionalStr, PositionalStrs, RepeatedStr, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo

if TYPE_CHECKING:
    from zebra.workflows.study import StudyResult


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyArgs:
    """What every study is told."""

    out: str | None = None
    """Write a page with the figure there, for instance study.html."""
    json: bool = False
    """Print one JSON document instead of lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsArgs(StudyArgs):
    """Accuracy by a column of a table: of each group, of the worst, and the gap (§7)."""

    run: PositionalStr
    """A folder that `zebra evaluate` wrote."""
    dataset: PositionalStr
    """Name of the set, as metrics.json has it."""
    table: str
    """CSV, TSV, JSONL or Parquet with the pictures' ids in a column id; or the table that was evaluated."""
    column: str
    """What divides the pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleArgs(StudyArgs):
    """People's answers beside the model's on the same pictures (Table 2, Fig. 16)."""

    run: PositionalStr
    """A folder that `zebra evaluate` wrote."""
    dataset: PositionalStr
    """The CLIP_benchmark folder that people were asked about."""
    answers: str
    """The CSV file of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessArgs(StudyArgs):
    """Some runs against the line of the others under every shift: effective and relative robustness (Fig. 13)."""

    runs: PositionalStrs
    """The reference runs: at least three models that were trained on the standard set."""
    reference_dataset: str
    """Name of the standard set."""
    model: RepeatedStr = ()
    """A run to be judged by the line; may be given several times."""
    shifted_dataset: RepeatedStr = ()
    """Name of a shifted set; by default all sets that every run has."""
    baseline: str | None = None
    """The run that relative robustness is counted from; by default the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingArgs(StudyArgs):
    """Error against compute on log axes over a family of runs (Fig. 9)."""

    runs: PositionalStrs
    """At least three folders of `zebra evaluate`."""
    compute: str
    """Of each run, in the same order, separated by commas."""
    unit: str = "GFLOP per image"
    """Of compute."""
    dataset: RepeatedStr = ()
    """Name of a set whose error counts; by default all sets that every run has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedArgs(StudyArgs):
    """Zero-shot against a fully supervised probe on any other features (Fig. 5)."""

    run: PositionalStr
    """A folder that `zebra evaluate` wrote."""
    features: str
    """A Parquet file with the columns set, split, id, label, vector."""


STUDY_ARGS: dict[str, type[Any]] = {
    "groups": GroupsArgs,
    "people": PeopleArgs,
    "robustness": RobustnessArgs,
    "scaling": ScalingArgs,
    "supervised": SupervisedArgs,
}


def run(argv: Sequence[str]) -> int:
    """Make one study, print it, and write its page."""
    if not argv or argv[0] in ("-h", "--help"):
        echo(_format_help(), err=not argv)
        return EXIT_OK if argv else EXIT_USAGE
    if argv[0] not in STUDY_ARGS:
        from zebra.errors import suggest_name

        echo(
            f"zebra study: no kind {argv[0]!r}.{suggest_name(argv[0], STUDY_ARGS)}\n\n{_format_help()}",
            err=True,
        )
        return EXIT_USAGE
    kind = STUDY_ARGS[argv[0]]
    told = parse_args(kind, f"study {argv[0]}", argv[1:], description=kind.__doc__ or "")
    study = STUDY_FUNCTIONS[argv[0]](told)
    if told.json:
        scores = {
            group: {name: asdict(s) for name, s in named.items()} for group, named in study.scores.items()
        }
        echo(json.dumps({"title": study.title, "scores": scores, "notes": study.notes}, indent=1))
    else:
        _print_study(study)
    if told.out:
        from zebra.report.page import write_page

        write_page(told.out, study.title, "Intervals are of 95 %.", study.sections)
        echo(f"page: {told.out}", err=told.json)
    return EXIT_OK


def _run_groups(args: GroupsArgs) -> "StudyResult":
    from zebra.workflows import study

    return study.study_groups(Path(args.run), args.dataset, Path(args.table), args.column)


def _run_people(args: PeopleArgs) -> "StudyResult":
    from zebra.workflows import study

    return study.study_humans(Path(args.run), Path(args.dataset), Path(args.answers))


def _run_robustness(args: RobustnessArgs) -> "StudyResult":
    from zebra.workflows import study

    baseline = Path(args.baseline) if args.baseline else None
    return study.study_robustness(
        [Path(run) for run in args.runs],
        args.reference_dataset,
        [Path(run) for run in args.model],
        args.shifted_dataset,
        baseline,
    )


def _run_scaling(args: ScalingArgs) -> "StudyResult":
    from zebra.errors import ConfigError
    from zebra.workflows import study

    try:
        compute = [float(part) for part in args.compute.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--compute {args.compute}: give a number for each run, separated by commas"
        ) from error
    return study.study_scaling([Path(run) for run in args.runs], compute, args.unit, args.dataset)


def _run_supervised(args: SupervisedArgs) -> "StudyResult":
    from zebra.workflows import study

    return study.study_supervised(Path(args.run), Path(args.features))


STUDY_FUNCTIONS: dict[str, "Callable[[Any], StudyResult]"] = {
    "groups": _run_groups,
    "people": _run_people,
    "robustness": _run_robustness,
    "scaling": _run_scaling,
    "supervised": _run_supervised,
}


def _print_study(study: "StudyResult") -> None:
    echo(study.title)
    for group, named in study.scores.items():
        echo(f"\n{group}")
        for name, score in named.items():
            echo(f"  {name:<24} {score.value:8.3f}  [{score.low:.3f}, {score.high:.3f}]  n={score.n:,}")
    if study.notes:
        echo("")
    for note in study.notes:
        echo(note)


def _format_help() -> str:
    kinds = "\n".join(
        f"  zebra study {name:<11} {(kind.__doc__ or '').strip()}" for name, kind in STUDY_ARGS.items()
    )
    return (
        f"zebra study: what the paper makes of evaluations that are done.\n\n{kinds}\n\n"
        "zebra study KIND --help explains one."
    )
