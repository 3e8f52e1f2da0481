"""A sweep of tiny runs: halving, interruption and its page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from zebra.cli.main import main
from zebra.config.sweep import Axis, SweepConfig
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError, DivergenceError
from zebra.train import loop
from zebra.train.run_dir import RunDir
from zebra.train.step import train_step
from zebra.workflows import sweep, train

from ...reliability.runs import tiny_run

WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = tiny_run(tmp_path_factory.mktemp("sweep"))
    return replace(config, steps=4, eval_every=1, val_fraction=0.4, ema_decay=None, checkpoint_every=100)


def sweep_config(base: TrainConfig, out: Path, over: str = "lr=1e-3,3e-3,1e-2") -> SweepConfig:
    return SweepConfig(base=replace(base, out=str(out)), over=(Axis.parse(over),))


@pytest.fixture(scope="module")
def finished(base: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepConfig, sweep.SweepResult]:
    config = sweep_config(base, tmp_path_factory.mktemp("finished") / "out")
    return config, sweep.run(config)


def test_the_better_half_goes_on_and_one_variant_gets_a_model(finished: tuple[SweepConfig, sweep.SweepResult]) -> None:
    _, result = finished
    assert result.is_finished
    assert [each.steps for each in result.variants] == [4, 2, 1]
    assert [each.is_complete for each in result.variants] == [True, False, False]
    assert [(each.run_dir / WEIGHTS).is_file() for each in result.variants] == [True, False, False]
    scores = json.loads((result.report.parent / "sweep.json").read_text(encoding="utf-8"))["scores"]
    dropped = result.variants[2].name
    assert all(scores[dropped]["1"] <= steps["1"] for steps in scores.values())
    page = result.report.read_text(encoding="utf-8")
    assert all(each.name in page for each in result.variants)


def test_the_best_variant_has_the_weights_of_an_undisturbed_run(
    finished: tuple[SweepConfig, sweep.SweepResult], tmp_path: Path
) -> None:
    config, result = finished
    variant = next(each for each in config.variants if each.name == result.best.name)
    train.run(config.with_length(variant, steps=4, eval_every=1, out=str(tmp_path / "run")))
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (result.best.run_dir / WEIGHTS).read_bytes()


def test_a_killed_sweep_continues_to_the_same_result(
    finished: tuple[SweepConfig, sweep.SweepResult], tmp_path: Path
) -> None:
    config, result = finished
    again = replace(config, base=replace(config.base, out=str(tmp_path / "out")))
    steps = []

    def kill(report: loop.StepReport, _scores: object) -> None:
        steps.append(report.step)
        if len(steps) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep.run(again, callback=kill)
    continued = sweep.run(again)
    assert [(each.name, each.score) for each in continued.variants] == [
        (each.name, each.score) for each in result.variants
    ]
    assert (continued.best.run_dir / WEIGHTS).read_bytes() == (result.best.run_dir / WEIGHTS).read_bytes()


def test_a_finished_sweep_trains_nothing_again(finished: tuple[SweepConfig, sweep.SweepResult]) -> None:
    config, result = finished
    started: list[str] = []
    assert sweep.run(config, on_start=lambda name, _steps: started.append(name)) == result
    assert not started


def test_a_variant_that_was_trained_but_not_recorded_is_not_trained_again(base: TrainConfig, tmp_path: Path) -> None:
    again = sweep_config(replace(base, steps=2), tmp_path / "out", "lr=1e-3,3e-3")
    variant = again.variants[0]
    run_config = again.with_length(variant, steps=2, eval_every=1, out=str(tmp_path / "out/runs" / variant.folder))
    train.run(run_config, pause_at=1)
    seen: list[int] = []
    sweep.run(again, callback=lambda report, _scores: seen.append(report.step))
    assert seen == [1, 2]  # the first step of the other variant, and the last one of the better variant


def test_a_variant_that_diverges_is_dropped_and_shown(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*args: object, lr: float, **options: object) -> object:
        if lr > 5e-3:
            raise DivergenceError("training diverged: the loss is nan")
        return train_step(*args, lr=lr, **options)

    monkeypatch.setattr(loop, "train_step", diverge)
    config = sweep_config(
        replace(base, steps=2, optimizer=replace(base.optimizer, warmup_steps=0)), tmp_path, "lr=1e-3,1e-2"
    )
    result = sweep.run(config)
    assert [(each.name, each.steps, bool(each.note)) for each in result.variants] == [
        ("lr=1e-3", 2, False),
        ("lr=1e-2", 0, True),
    ]
    assert "diverged" in result.report.read_text(encoding="utf-8")


def test_another_sweep_or_a_run_in_the_directory_is_refused(
    finished: tuple[SweepConfig, sweep.SweepResult], base: TrainConfig
) -> None:
    config, result = finished
    out = Path(config.base.out)
    with pytest.raises(ConfigError, match=r"holds a sweep that differs in:\n  settings.batch_size: 8 → 4"):
        sweep.run(replace(config, base=replace(config.base, batch_size=4)))
    with pytest.raises(ConfigError, match="variants"):
        sweep.run(sweep_config(base, out, "lr=1e-3,3e-3"))
    assert RunDir(result.best.run_dir).config.is_file()
    with pytest.raises(ConfigError, match="holds a training run"):
        sweep.run(sweep_config(base, result.best.run_dir))


def test_too_small_a_budget_names_one_that_suffices(base: TrainConfig, tmp_path: Path) -> None:
    config = replace(sweep_config(base, tmp_path / "out"), budget=3)
    with pytest.raises(ConfigError, match=r"too small for 3 variants; give at least \d+"):
        sweep.run(config)


def test_torchrun_is_refused(base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="runs in one process"):
        sweep.run(sweep_config(base, tmp_path / "out"))


def test_the_command_shows_help_and_refuses_flags_that_it_sets_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "--help"]) == 0
    assert "successive halving" in capsys.readouterr().out
    assert main(["sweep", "tiny", "--over", "lr=1,2", "--data", "d", "--out", "o", "--resume", "never"]) == 2
    assert "--resume is a flag of zebra train only" in capsys.readouterr().err
    assert main(["sweep", "tiny", "--over", "lrr=1,2", "--data", "d", "--out", "o"]) == 1
    assert "Did you mean 'lr'?" in capsys.readouterr().err
