"""`zebra doctor [MODEL|DATA]`: the installation, a model, or captioned images: what it is and whether it is sound."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from zebra.cli.arguments import PositionalText, parse
from zebra.cli.data_report import lines
from zebra.cli.main import DONE, MISTAKE, say
from zebra.cli.progress import CountingDisplay
from zebra.cli.train import choose
from zebra.config.data import DataConfig
from zebra.config.structure import structure
from zebra.config.train import TrainConfig

DESCRIPTION = """Explain and verify a model, or captioned images, or the installation.

Of captioned images it says how many are usable, what they and their captions are like, and how fast this machine loads
them, as seen by the training they are meant for: --recipe NAME|FILE and --model NAME choose it as in `zebra train`.
"""


@dataclass(frozen=True, slots=True)
class Words:
    """What `zebra doctor` is told."""

    place: PositionalText = ""
    """A model of any layout, or captioned images of any layout; without either, the installation is described."""
    samples: int | None = None
    """Of captioned images: how many to look at; by default as many as 25 seconds allow."""
    tokenizer: str | None = None
    """A tokenizer.json or merges file to count tokens with; without one, a vocabulary is learned from the captions."""
    data_options: DataConfig = field(default_factory=DataConfig)
    """How samples are read."""
    json: bool = False
    """Print one JSON document instead of lines."""


def run(words: Sequence[str]) -> int:
    """Print the findings; 1 if something is not sound."""
    chosen = choose(words)
    meant = structure(TrainConfig, chosen.start | {"data": "", "out": ""}, "recipe")
    default = Words(tokenizer=meant.tokenizer, data_options=meant.data_options)
    told = parse(Words, "doctor", chosen.rest, default=default, description=DESCRIPTION)
    from zebra.workflows import doctor

    if told.place and not doctor.is_model(told.place):
        return _examine_data(told, meant)
    findings = doctor.examine_model(told.place) if told.place else doctor.examine_installation()
    if told.json:
        say(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            _line(finding.what, finding.says, sound=finding.sound)
    return DONE if all(finding.sound for finding in findings) else MISTAKE


def _examine_data(told: Words, meant: TrainConfig) -> int:
    from zebra.data import inspection

    config = replace(meant, data=told.place, tokenizer=told.tokenizer, data_options=told.data_options)
    with CountingDisplay("looking at samples") as display:
        found = inspection.run(config, samples=told.samples, watch=display.update)
    if told.json:
        say(json.dumps(asdict(found) | {"skip_rate": found.skip_rate, "sound": found.sound}, indent=1))
    else:
        for what, says in lines(found):
            _line(what, *says, sound=found.sound or what != "skipped")
    return DONE if found.sound else MISTAKE


def _line(what: str, first: str, *rest: str, sound: bool) -> None:
    say("\n".join([f"{'ok ' if sound else 'BAD'} {what:<16} {first}", *(" " * 21 + line for line in rest)]))
