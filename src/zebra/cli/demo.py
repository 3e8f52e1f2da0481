"""`zebra demo`: the whole main job on the built-in world."""

from collections.abc import Sequence

from zebra.cli.arguments import parse
from zebra.cli.main import DONE, STOPPED, say
from zebra.cli.progress import CountingDisplay, TrainingDisplay
from zebra.config.menagerie import DemoConfig


def run(words: Sequence[str]) -> int:
    """Run the demo and say where the report is."""
    config = parse(
        DemoConfig,
        "demo",
        words,
        description="Draw a world, train on it, and recognise what training never showed.",
    )
    from zebra.evaluators.zero_shot import Rungs
    from zebra.workflows import demo

    drawing, training = CountingDisplay("drawing"), TrainingDisplay()

    def drawn(done: int, total: int) -> None:
        drawing.update(done, total)
        if done == total:
            drawing.stop()

    def scored(outcome: Rungs) -> None:
        training.stop()
        score = outcome.ensemble.scores()["top1"]
        say(
            f"{outcome.benchmark.name:<20} top-1 {score.value:6.1%}  [{score.low:.1%}, {score.high:.1%}]",
            error=True,
        )

    with drawing, training:
        result = demo.run(config, demo.Watch(drawn=drawn, trained=training.update, scored=scored))
    if not result.finished:
        say(
            f"stopped after {result.steps} steps, checkpoint saved; the same command goes on from there",
            error=True,
        )
        return STOPPED
    say(f"report: {config.out}/report.html\nmodel:  {config.out}/model")
    return DONE
