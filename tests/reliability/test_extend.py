"""A finished run can be extended: it goes on from its last checkpoint with the schedule of the new length."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.train.metrics_logger import read_log
from zebra.train.run_dir import RunDir
from zebra.train.schedule import learning_rate
from zebra.workflows import train

from .runs import tiny_run

WEIGHTS = "model.safetensors"
EXTENSION = "ignore:extending a finished run:UserWarning"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Return the config of a finished run of three steps, which tests copy."""
    config = replace(tiny_run(tmp_path_factory.mktemp("extend")), steps=3)
    assert train.run(config).is_finished
    return config


@pytest.fixture
def config(finished: TrainConfig, tmp_path: Path) -> TrainConfig:
    shutil.copytree(finished.out, tmp_path / "run")
    return replace(finished, out=str(tmp_path / "run"))


def weights(config: TrainConfig) -> bytes:
    return (RunDir(config.out).model / WEIGHTS).read_bytes()


def test_an_extended_run_continues_and_keeps_the_finished_model(config: TrainConfig) -> None:
    before, run_dir = weights(config), RunDir(config.out)
    longer = replace(config, steps=6)
    with pytest.warns(UserWarning, match=r"extending a finished run of 3 steps to 6\. The learning rate"):
        result = train.run(longer)
    assert (result.is_finished, result.steps) == (True, 6)
    assert (run_dir.path / "model-step-00000003" / WEIGHTS).read_bytes() == before != weights(longer)
    lines = [line for line in read_log(run_dir.log) if "lr" in line]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    schedule = [learning_rate(step, peak_lr=config.lr, warmup_steps=2, total_steps=6) for step in (3, 4, 5)]
    assert [line["lr"] for line in lines[3:]] == pytest.approx(schedule)
    environment = json.loads(run_dir.environment.read_text())
    assert environment["accepted_changes"] == ["settings.steps: 3 → 6"]
    assert train.run(longer).is_up_to_date


@pytest.mark.filterwarnings(EXTENSION)
def test_an_extension_that_is_killed_ends_with_the_same_bits(config: TrainConfig, tmp_path: Path) -> None:
    shutil.copytree(config.out, tmp_path / "killed")
    longer = replace(config, steps=6, checkpoint_every=2)
    train.run(longer)

    def kill(report: object, _scores: object) -> None:
        if report.step == 5:
            raise KeyboardInterrupt

    killed = replace(longer, out=str(tmp_path / "killed"))
    with pytest.raises(KeyboardInterrupt):
        train.run(killed, callback=kill)
    assert not RunDir(killed.out).model.exists()
    assert train.run(killed).steps == 6
    assert weights(killed) == weights(longer)


@pytest.mark.filterwarnings(EXTENSION)
def test_an_extension_that_is_killed_before_its_first_step_goes_on(config: TrainConfig) -> None:
    RunDir(config.out).set_aside_model(3)
    assert train.run(replace(config, steps=4)).steps == 4


@pytest.mark.filterwarnings(EXTENSION)
def test_a_run_is_extended_by_epochs_too(config: TrainConfig) -> None:
    assert train.run(replace(config, steps=None, epochs=1.0)).steps == 4  # 29 samples in batches of 8


def test_a_finished_run_is_not_shortened_or_changed(config: TrainConfig) -> None:
    before = weights(config)
    with pytest.raises(ConfigError, match="finished run of 3 steps, which can only be extended, and 2 are not more"):
        train.run(replace(config, steps=2))
    with pytest.raises(
        ConfigError, match=r"(?s)lr: 0.001 → 0.5.*with --from .*model, it starts from the finished model"
    ):
        train.run(replace(config, steps=6, lr=0.5))
    with pytest.raises(ConfigError, match="which can only be extended"):
        train.run(replace(config, lr=0.5), accept_changes=True)
    assert weights(config) == before
    assert train.run(config).is_up_to_date


@pytest.mark.filterwarnings(EXTENSION)
def test_accepted_changes_may_come_with_an_extension(config: TrainConfig) -> None:
    assert train.run(replace(config, steps=4, lr=1e-4), accept_changes=True).steps == 4


def test_a_finished_run_without_checkpoints_names_the_way_from_its_model(config: TrainConfig) -> None:
    shutil.rmtree(RunDir(config.out).checkpoints)
    with pytest.raises(ConfigError, match=r"without checkpoints.*--from .*model --out OTHER"):
        train.run(replace(config, steps=6))
