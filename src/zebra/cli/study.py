"""The command `zebra study KIND …`: the paper's analyses of finished evaluations."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from zebra.cli.arguments import DatasetArg, RepeatedStr, RunArg, RunArgs, parse_args
from zebra.cli.main import EXIT_OK, EXIT_USAGE, echo
from zebra.config.study import (
    CorrelationStudyConfig,
    EfficiencyStudyConfig,
    GroupStudyConfig,
    HumanStudyConfig,
    PredictedStudyConfig,
    PromptStudyConfig,
    RobustnessStudyConfig,
    ScalingStudyConfig,
    StudyConfig,
    SupervisedStudyConfig,
    TransferStudyConfig,
)
from zebra.errors import ConfigError, suggest_name

if TYPE_CHECKING:
    from zebra.studies.result import StudyResult


@dataclass(frozen=True, kw_only=True)
class OutputArgs:
    """Options that every study takes."""

    out: str | None = None
    """Also write an HTML page with the figures to this file, for example study.html."""
    json: bool = False
    """Print one JSON document instead of text."""


@dataclass(frozen=True, kw_only=True)
class GroupsArgs(OutputArgs, GroupStudyConfig):
    """Accuracy by group: of each group, of the worst group, and the gap (CLIP §7)."""

    run: RunArg
    """A directory that `zebra evaluate` wrote."""
    dataset: DatasetArg
    """Name of the dataset, as in metrics.json."""


@dataclass(frozen=True, kw_only=True)
class PredictedArgs(OutputArgs):
    """How often labels are predicted in each group of images (CLIP Tables 6 and 7)."""

    run: RunArg
    """A directory that `zebra evaluate` wrote."""
    dataset: DatasetArg
    """Name of the dataset, as in metrics.json."""
    table: str
    """CSV, TSV, JSONL or Parquet with image ids in the column `id`; or the table that was evaluated."""
    column: str
    """The column that names the group of each image."""
    label: RepeatedStr
    """Name of a class. Repeat for several, which are counted together."""


@dataclass(frozen=True, kw_only=True)
class PeopleArgs(OutputArgs, HumanStudyConfig):
    """Human answers and the model's predictions on the same images (CLIP Table 2, Fig. 16)."""

    run: RunArg
    """A directory that `zebra evaluate` wrote for the dataset."""
    dataset: DatasetArg
    """The CLIP_benchmark folder of the quiz."""


@dataclass(frozen=True, kw_only=True)
class RobustnessArgs(OutputArgs):
    """Effective and relative robustness under distribution shifts (CLIP Fig. 13)."""

    runs: RunArgs
    """Runs of at least three reference models, trained on the reference dataset."""
    reference_dataset: str
    """Name of the dataset without a shift."""
    model: RepeatedStr = ()
    """Run of a model to evaluate against the line of the reference models. Repeat for several."""
    shifted_dataset: RepeatedStr = ()
    """Name of a dataset with a shift. Repeat for several. Default: all others that every run has."""
    baseline: str | None = None
    """The run that relative robustness is measured from. Default: the first reference run."""


@dataclass(frozen=True, kw_only=True)
class ScalingArgs(OutputArgs):
    """Error against compute on log-log axes for a family of runs (CLIP Fig. 9)."""

    runs: RunArgs
    """At least three directories that `zebra evaluate` wrote."""
    compute: str
    """The compute of each run, in the same order, separated by commas."""
    unit: str = "GFLOP per image"
    """Unit of --compute, for the axis label."""
    dataset: RepeatedStr = ()
    """Name of a dataset whose error is averaged. Repeat for several. Default: all that every run has."""


@dataclass(frozen=True, kw_only=True)
class SupervisedArgs(OutputArgs, SupervisedStudyConfig):
    """Zero-shot accuracy against a supervised linear probe on other features (CLIP Fig. 5)."""

    run: RunArg
    """A directory that `zebra evaluate` wrote."""


@dataclass(frozen=True, kw_only=True)
class EfficiencyArgs(OutputArgs):
    """Labels per class of a linear probe that equals zero-shot (CLIP Fig. 7)."""

    run: RunArg
    """A directory that `zebra evaluate --tasks few-shot,linear-probe` wrote."""
    dataset: RepeatedStr = ()
    """Name of a dataset. Repeat for several. Default: all that have few-shot probes."""


@dataclass(frozen=True, kw_only=True)
class CorrelationArgs(OutputArgs):
    """Zero-shot against linear probe over datasets: correlation and slope (CLIP Fig. 8)."""

    run: RunArg
    """A directory that `zebra evaluate --tasks zero-shot,linear-probe` wrote."""
    dataset: RepeatedStr = ()
    """Name of a dataset. Repeat for several. Default: all that have both scores."""


@dataclass(frozen=True, kw_only=True)
class ModelsArgs(OutputArgs):
    """Options of the studies that compare models over datasets."""

    runs: RunArgs
    """Directories that `zebra evaluate` wrote, one for each model."""
    dataset: RepeatedStr = ()
    """Name of a dataset. Repeat for several. Default: all that every run has."""
    compute: str | None = None
    """The compute of each run, in the same order, separated by commas. Default: no figure against compute."""
    unit: str = "GFLOP per image"
    """Unit of --compute, for the axis label."""


@dataclass(frozen=True, kw_only=True)
class PromptsArgs(ModelsArgs):
    """Gain of prompt engineering and ensembling by dataset and model (CLIP Fig. 4)."""


@dataclass(frozen=True, kw_only=True)
class TransferArgs(ModelsArgs):
    """Linear-probe scores of several models: averages, the best, differences (CLIP Table 10, Figs. 10 to 12)."""

    baseline: str | None = None
    """The run that the others are compared with. Default: the best on average."""


STUDY_ARGS: dict[str, type[OutputArgs]] = {
    "groups": GroupsArgs,
    "predicted": PredictedArgs,
    "people": PeopleArgs,
    "robustness": RobustnessArgs,
    "scaling": ScalingArgs,
    "supervised": SupervisedArgs,
    "efficiency": EfficiencyArgs,
    "correlation": CorrelationArgs,
    "prompts": PromptsArgs,
    "transfer": TransferArgs,
}


def run(argv: Sequence[str]) -> int:
    """Run one study and print its result; with --out also write its page."""
    if not argv or argv[0] in ("-h", "--help"):
        echo(_format_help(), err=not argv)
        return EXIT_OK if argv else EXIT_USAGE
    if argv[0] not in STUDY_ARGS:
        hint = suggest_name(argv[0], STUDY_ARGS)
        echo(f"zebra study: unknown kind of study: {argv[0]!r}.{hint}\n\n{_format_help()}", err=True)
        return EXIT_USAGE
    args_type = STUDY_ARGS[argv[0]]
    args = parse_args(args_type, f"study {argv[0]}", argv[1:], description=args_type.__doc__ or "")
    from zebra.workflows import study

    result = study.run(_to_config(args))
    if args.json:
        scores = {
            group: {name: asdict(score) for name, score in named.items()} for group, named in result.scores.items()
        }
        echo(json.dumps({"title": result.title, "scores": scores, "notes": result.notes}, indent=1))
    else:
        _print_result(result)
    if args.out:
        from zebra.report.page import write_page

        write_page(args.out, result.title, "Square brackets contain 95% confidence intervals.", result.sections)
        echo(f"page: {args.out}", err=args.json)
    return EXIT_OK


def _to_config(args: OutputArgs) -> StudyConfig:
    match args:
        case RobustnessArgs():
            return RobustnessStudyConfig(
                runs=args.runs,
                reference_dataset=args.reference_dataset,
                models=args.model,
                shifted_datasets=args.shifted_dataset,
                baseline=args.baseline,
            )
        case ScalingArgs():
            compute = _parse_numbers("--compute", args.compute)
            return ScalingStudyConfig(runs=args.runs, compute=compute, unit=args.unit, datasets=args.dataset)
        case PredictedArgs():
            return PredictedStudyConfig(
                run=args.run, dataset=args.dataset, table=args.table, column=args.column, labels=args.label
            )
        case EfficiencyArgs():
            return EfficiencyStudyConfig(run=args.run, datasets=args.dataset)
        case CorrelationArgs():
            return CorrelationStudyConfig(run=args.run, datasets=args.dataset)
        case PromptsArgs():
            compute = _parse_numbers("--compute", args.compute) if args.compute else ()
            return PromptStudyConfig(runs=args.runs, datasets=args.dataset, compute=compute, unit=args.unit)
        case TransferArgs():
            compute = _parse_numbers("--compute", args.compute) if args.compute else ()
            return TransferStudyConfig(
                runs=args.runs, datasets=args.dataset, compute=compute, unit=args.unit, baseline=args.baseline
            )
        case GroupsArgs() | PeopleArgs() | SupervisedArgs():
            return args
    raise TypeError(f"no study for {type(args).__name__}")


def _parse_numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{flag} {text!r} is not a list of numbers. Give one number for each run, separated by commas."
        ) from error


def _print_result(result: "StudyResult") -> None:
    echo(result.title)
    for group, named in result.scores.items():
        echo(f"\n{group}")
        for name, score in named.items():
            echo(f"  {name:<24} {score.value:8.3f}  [{score.low:.3f}, {score.high:.3f}]  n={score.n:,}")
    if result.notes:
        echo("")
    for note in result.notes:
        echo(note)


def _format_help() -> str:
    kinds = "\n".join(
        f"  zebra study {name:<11} {(args_type.__doc__ or '').strip()}" for name, args_type in STUDY_ARGS.items()
    )
    return (
        f"zebra study: the paper's analyses of finished evaluations.\n\n{kinds}\n\n"
        "Run zebra study KIND --help for the options of one."
    )
