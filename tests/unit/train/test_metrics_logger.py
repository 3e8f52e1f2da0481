"""Training log: each due line is written once, also after a crash."""

import json
import sys
import types

import pytest
import torch

from zebra.config.train import LogConfig
from zebra.errors import MissingExtra
from zebra.train.loop import StepReport
from zebra.train.metrics_logger import MetricsLogger, open_log_sinks, read_log
from zebra.train.step import StepMetrics
from zebra.values import Batch


def report(step, steps=10, seconds=0.5):
    batch = Batch(torch.zeros(4, 3, 2, 2), ("a",) * 4, ("0", "1", "2", "3"), (None,) * 4)
    metrics = StepMetrics(loss=1.0 / step, grad_norm=2.0, logit_scale=14.0, batch_accuracy=0.25)
    return StepReport(step, steps, step * 4, 1e-3, metrics, seconds, 0.1, batch)


def test_a_line_is_written_at_the_configured_interval_and_at_the_end(tmp_path):
    logger = MetricsLogger(tmp_path / "log.jsonl", LogConfig(every=4), [])
    for step in range(1, 11):
        logger.log_step(report(step), {})
    lines = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in lines] == [4, 8, 10]
    assert lines[0]["loss"] == 0.25
    assert lines[0]["samples_per_second"] == pytest.approx(8.0)
    assert lines[0]["data_wait_fraction"] == pytest.approx(0.2)


def test_validation_scores_are_in_the_line_of_their_step(tmp_path):
    logger = MetricsLogger(tmp_path / "log.jsonl", LogConfig(every=4), [])
    logger.log_step(report(1), {"seen": 0.5})
    assert read_log(tmp_path / "log.jsonl")[0]["eval"] == {"seen": 0.5}


def test_truncation_removes_later_steps_and_a_line_cut_by_a_crash(tmp_path):
    path = tmp_path / "log.jsonl"
    logger = MetricsLogger(path, LogConfig(every=1), [])
    for step in (1, 2, 3):
        logger.log_step(report(step), {})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    logger.truncate_after(2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_tensorboard_gets_every_scalar(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sinks = open_log_sinks(tmp_path, LogConfig(every=1, tensorboard=True))
    logger = MetricsLogger(tmp_path / "log.jsonl", LogConfig(every=1), sinks)
    logger.log_step(report(1), {})
    logger.log_step(report(2), {"seen": 0.5})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [1.0, 0.5]
    assert [(event.step, event.value) for event in events.Scalars("eval/seen")] == [(2, 0.5)]


def test_weights_and_biases_gets_every_scalar(tmp_path, monkeypatch):
    """A fake module records the calls; the real one needs an account or its offline daemon."""
    logged = []
    run = types.SimpleNamespace(log=lambda values, step: logged.append((step, values)))
    fake = types.SimpleNamespace(init=lambda project, dir: logged.append((project, dir)) or run)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    logger = MetricsLogger(tmp_path / "j.jsonl", LogConfig(every=1), open_log_sinks(tmp_path, LogConfig(wandb="zoo")))
    logger.log_step(report(2), {"seen": 0.5})
    assert logged[0] == ("zoo", str(tmp_path))
    step, values = logged[1]
    assert step == 2 and values["loss"] == 0.5 and values["eval/seen"] == 0.5


@pytest.mark.parametrize(("name", "config"), [("wandb", LogConfig(wandb="zoo"))])
def test_a_missing_logger_package_is_named_with_its_pip_command(tmp_path, monkeypatch, name, config):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=f"pip install {name}"):
        open_log_sinks(tmp_path, config)
