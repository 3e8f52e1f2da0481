"""The command `zebra doctor [MODEL|DATASET|DATA]`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from zebra.cli.arguments import SamplesFlag, TargetArg, parse_args
from zebra.cli.data_report import format_data_report
from zebra.cli.main import EXIT_ERROR, EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.cli.train import parse_recipe_flags
from zebra.config.data import DataConfig
from zebra.config.doctor import DoctorConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig

DESCRIPTION = """Inspect and verify a model, an evaluation dataset, captioned images, or the installation.

An evaluation dataset (class folders, a table with labels, CLIP_benchmark's layout, a name of the catalog with
--data-root, suite:NAME) is compared with the catalog: sizes, classes, license, known errors. Its images are decoded
once, to find those that cannot be read, those of one color, and copies within and between its splits.

For captioned images it reports how many are usable, statistics of images and captions, and how fast this machine loads
them. The report assumes the training run that --recipe NAME|FILE and --model NAME describe, as in `zebra train`.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Args:
    """Arguments of `zebra doctor`."""

    target: TargetArg = ""
    """A model, an evaluation dataset, suite:NAME or captioned images. Without it, the installation is inspected."""
    max_samples: SamplesFlag = None
    """Number of samples to inspect. Default: all of an evaluation dataset; of others, as many as 25 seconds allow."""
    data_root: str | None = None
    """Directory with copies of the catalog's evaluation datasets."""
    device: str = "auto"
    """For a model: its device, such as cpu, cuda, cuda:1 or mps."""
    tokenizer: str | None = None
    """For captioned images: a tokenizer.json or merges file. Default: a tokenizer trained on the captions."""
    data_options: DataConfig = field(default_factory=DataConfig)
    """How samples are read."""
    json: bool = False
    """Print one JSON document instead of text."""


def run(argv: Sequence[str]) -> int:
    """Print the findings; return 1 if there is a problem."""
    recipe_flags = parse_recipe_flags(argv)
    train_config = structure(TrainConfig, recipe_flags.settings | {"data": "", "out": ""}, "recipe")
    default = Args(tokenizer=train_config.tokenizer, data_options=train_config.data_options)
    args = parse_args(Args, "doctor", recipe_flags.remaining_argv, default=default, description=DESCRIPTION)
    config = DoctorConfig(
        target=args.target,
        max_samples=args.max_samples,
        data_root=args.data_root,
        device=args.device,
        train=replace(train_config, tokenizer=args.tokenizer, data_options=args.data_options),
    )
    from zebra.workflows import doctor

    with ProgressBar("inspecting samples") as progress:
        result = doctor.run(config, callback=progress.update)
    if not isinstance(result, list):
        if args.json:
            document = asdict(result)
            document["found"] = document.pop("num_found")
            echo(json.dumps(document | {"skip_rate": result.skip_rate, "sound": result.is_usable}, indent=1))
        else:
            for name, lines in format_data_report(result):
                _print_finding(name, *lines, is_ok=result.is_usable or name != "skipped")
        return EXIT_OK if result.is_usable else EXIT_ERROR
    if args.json:
        findings = [{"what": finding.name, "says": finding.detail, "sound": finding.is_ok} for finding in result]
        echo(json.dumps(findings, indent=1))
    else:
        for finding in result:
            _print_finding(finding.name, finding.detail, is_ok=finding.is_ok)
    return EXIT_OK if all(finding.is_ok for finding in result) else EXIT_ERROR


def _print_finding(name: str, detail: str, *more_lines: str, is_ok: bool) -> None:
    lines = [f"{'ok ' if is_ok else 'BAD'} {name:<16} {detail}", *(" " * 21 + line for line in more_lines)]
    echo("\n".join(lines))
