"""`zebra doctor [MODEL|DATA]`: the installation, a model, or captioned images: what it is and whether it is sound."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from zebra.cli.arguments import PositionalStr, parse_args
from zebra.cli.data_report import format_data_report
from zebra.cli.main import EXIT_ERROR, EXIT_OK, echo
from zebra.cli.progress import ProgressBar
from zebra.cli.train import parse_recipe_flags
from zebra.config.data import DataConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig

DESCRIPTION = """Explain and verify a model, or captioned images, or the installation.

Of captioned images it says how many are usable, what they and their captions are like, and how fast this machine loads
them, as seen by the training they are meant for: --recipe NAME|FILE and --model NAME choose it as in `zebra train`.
"""


@dataclass(frozen=True, slots=True)
class Args:
    """What `zebra doctor` is told."""

    target: PositionalStr = ""
    """A model of any layout, or captioned images of any layout; without either, the installation is described."""
    max_samples: int | None = None
    """Of captioned images: how many to look at; by default as many as 25 seconds allow."""
    tokenizer: str | None = None
    """A tokenizer.json or merges file to count tokens with; without one, a vocabulary is learned from the captions."""
    data_options: DataConfig = field(default_factory=DataConfig)
    """How samples are read."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(argv: Sequence[str]) -> int:
    """Print the findings; 1 if something is not sound."""
    chosen = parse_recipe_flags(argv)
    meant = structure(TrainConfig, chosen.settings | {"data": "", "out": ""}, "recipe")
    default = Args(tokenizer=meant.tokenizer, data_options=meant.data_options)
    told = parse_args(Args, "doctor", chosen.remaining_argv, default=default, description=DESCRIPTION)
    from zebra.workflows import doctor

    if told.target and not doctor.is_model_path(told.target):
        return _inspect_data(told, meant)
    findings = doctor.inspect_model(told.target) if told.target else doctor.inspect_installation()
    if told.json:
        echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            _print_finding(finding.name, finding.detail, is_ok=finding.is_ok)
    return EXIT_OK if all(finding.is_ok for finding in findings) else EXIT_ERROR


def _inspect_data(args: Args, train_config: TrainConfig) -> int:
    from zebra.workflows import doctor

    config = replace(train_config, data=args.target, tokenizer=args.tokenizer, data_options=args.data_options)
    with ProgressBar("looking at samples") as display:
        found = doctor.inspect_dataset(config, max_samples=args.max_samples, callback=display.update)
    if args.json:
        echo(json.dumps(asdict(found) | {"skip_rate": found.skip_rate, "sound": found.is_usable}, indent=1))
    else:
        for what, says in format_data_report(found):
            _print_finding(what, *says, is_ok=found.is_usable or what != "skipped")
    return EXIT_OK if found.is_usable else EXIT_ERROR


def _print_finding(name: str, detail: str, *more_lines: str, is_ok: bool) -> None:
    echo(
        "\n".join(
            [f"{'ok ' if is_ok else 'BAD'} {name:<16} {detail}", *(" " * 21 + line for line in more_lines)]
        )
    )
