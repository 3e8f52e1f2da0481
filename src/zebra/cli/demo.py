"""The command `zebra demo`."""

from collections.abc import Sequence

from zebra.cli.arguments import parse_args
from zebra.cli.main import EXIT_OK, EXIT_RESUMABLE, echo
from zebra.cli.progress import ProgressBar, TrainingProgress
from zebra.config.demo import DemoConfig


def run(argv: Sequence[str]) -> int:
    """Run the demo and print the path of the report; return 75 if interrupted."""
    config = parse_args(
        DemoConfig,
        "demo",
        argv,
        description="Generate the built-in dataset, train on it, and evaluate zero-shot on animals not in training.",
    )
    from zebra.evaluators.zero_shot import PromptAblation
    from zebra.workflows import demo

    drawing, training = ProgressBar("drawing"), TrainingProgress()

    def on_draw(done: int, total: int) -> None:
        drawing.update(done, total)
        if done == total:
            drawing.stop()

    def on_evaluate(ablation: PromptAblation) -> None:
        training.stop()
        score = ablation.ensemble.scores()["top1"]
        echo(f"{ablation.benchmark.name:<20} top-1 {score.value:6.1%}  [{score.low:.1%}, {score.high:.1%}]", err=True)

    with drawing, training:
        callbacks = demo.DemoCallbacks(on_draw=on_draw, on_train_step=training.show, on_evaluate=on_evaluate)
        result = demo.run(config, callbacks)
    if not result.is_finished:
        echo(
            f"interrupted after {result.steps} steps, checkpoint saved. Run the same command again to continue.",
            err=True,
        )
        return EXIT_RESUMABLE
    echo(f"report: {config.out}/report.html\nmodel:  {config.out}/model")
    return EXIT_OK
