"""`zebra demo`: the whole main job on the built-in world."""

from collections.abc import Sequence

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import ProgressBar, TrainingProgress
from zebra.config.demo import DemoConfig


def run(argv: Sequence[str]) -> int:
    """Run the demo and say where the report is."""
    config = parse_args(
        DemoConfig,
        "demo",
        argv,
        description="Draw a world, train on it, and recognise what training never showed.",
    )
    from zebra.evaluators.zero_shot import PromptAblation
    from zebra.workflows import demo

    drawing, training = ProgressBar("drawing"), TrainingProgress()

    def drawn(done: int, total: int) -> None:
        drawing.update(done, total)
        if done == total:
            drawing.stop()

    def scored(outcome: PromptAblation) -> None:
        training.stop()
        score = outcome.ensemble.scores()["top1"]
        echo(
            f"{outcome.benchmark.name:<20} top-1 {score.value:6.1%}  [{score.low:.1%}, {score.high:.1%}]",
            err=True,
        )

    with drawing, training:
        result = demo.run(
            config, demo.DemoCallbacks(on_draw=drawn, on_train_step=training.update, on_evaluate=scored)
        )
    if not result.is_finished:
        echo(
            f"stopped after {result.steps} steps, checkpoint saved; the same command goes on from there",
            err=True,
        )
        return EXIT_RESUMABLE
    echo(f"report: {config.out}/report.html\nmodel:  {config.out}/model")
    return EXIT_OK
