"""Scorecard rows on a run: killed, stopped, resumed, changed, diverged."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from zebra.config.train import OptimizerConfig
from zebra.errors import ConfigError, DivergenceError, WeightsError
from zebra.models import CLIP
from zebra.pretrained.manifest import write_manifest
from zebra.train.loss_spikes import SpikeDetector
from zebra.train.optimizer import build_optimizer
from zebra.train.step import train_step
from zebra.workflows import train

from .. import forkserver
from .runs import TINY, tiny_run

CRASH = Path(__file__).parents[2] / "benchmarks" / "crash.py"
TRACES = Path(__file__).parent / "traces"
COMPARED = ("step", "samples", "loss", "lr", "logit_scale", "grad_norm", "batch_accuracy")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path):
    return tiny_run(tmp_path)


class Interrupted(Exception):
    """Stands for the end of a process between two steps."""


def interrupt_after(step):
    """Return a callback that interrupts the run after a step."""

    def callback(report, _scores):
        if report.step == step:
            raise Interrupted

    return callback


def run_until(config, step):
    """Run until after a step, as if the process ended there."""
    with pytest.raises(Interrupted):
        train.run(config, callback=interrupt_after(step))


def weights(config):
    return {path.name: path.read_bytes() for path in (Path(config.out) / "model").iterdir()}


def latest(config):
    return max((Path(config.out) / "checkpoints").glob("step-*"))


def log(config):
    lines = [json.loads(line) for line in (Path(config.out) / "log.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in COMPARED} for line in lines]


def test_r1_a_run_killed_at_random_moments_ends_with_the_same_bits(monkeypatch, capsys):
    """One trial per phase; `python benchmarks/crash.py --trials 10` by hand runs more of them."""
    monkeypatch.syspath_prepend(str(CRASH.parent))
    crash = SimpleNamespace(**runpy.run_path(str(CRASH)))
    forked = SimpleNamespace(
        Popen=forkserver.Popen, run=forkserver.run, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    monkeypatch.setitem(crash.main.__globals__, "subprocess", forked)
    monkeypatch.setattr(sys, "argv", [str(CRASH), "--trials", str(len(crash.PHASES)), "--kills", "1"])
    assert crash.main() == 0, capsys.readouterr().out
    assert "4 of 4 identical" in capsys.readouterr().out


def items(checkpoint):
    """Yield the file and name of the items of a checkpoint; of its tensors, which are alike, every third."""
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name in sorted(load_file(path))[::3]:
            yield path.name, name
    for name in json.loads((checkpoint / "state.json").read_text()):
        yield "state.json", name
    for name in json.loads((checkpoint / "state.json").read_text())["state"]:
        yield "state.json/state", name


def remove_item(checkpoint, file, name):
    """Rewrite the checkpoint without one item, with a matching manifest."""
    path = checkpoint / file.partition("/")[0]
    if path.suffix == ".safetensors":
        tensors = {key: value.clone() for key, value in load_file(path).items() if key != name}
        save_file(tensors, path)
    else:
        document = json.loads(path.read_text())
        (document["state"] if file.endswith("/state") else document).pop(name)
        path.write_text(json.dumps(document))
    write_manifest(checkpoint)


def test_r3_a_run_refuses_a_checkpoint_without_any_one_of_its_items(config, tmp_path):
    run_until(config, 6)
    checkpoint = latest(config)
    originals = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    unnoticed = []
    for file, name in items(checkpoint):
        remove_item(checkpoint, file, name)
        try:
            train.run(config, resume=str(checkpoint), callback=interrupt_after(5))
        except (ConfigError, WeightsError):
            pass
        except Interrupted:
            unnoticed.append((file, name))
        for original, data in originals.items():
            (checkpoint / original).write_bytes(data)
    assert unnoticed == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4")  # more than this machine has cores, on purpose
@pytest.mark.parametrize("workers", [1, 4])
def test_r4_a_run_resumed_with_another_number_of_workers_has_the_same_weights(config, tmp_path, workers):
    train.run(config)
    other = replace(config, out=str(tmp_path / "other"))
    run_until(other, 6)
    train.run(replace(other, workers=workers))
    assert weights(other) == weights(config)
    assert log(other) == log(config)


def command(config, *more):
    args = [
        "--data", config.data, "--out", config.out, "--steps", "100000", "--batch-size", "8", "--workers", "1",
        "--model.image-size", "32", "--model.vision.width", "4", "--model.vision.heads", "2",
        "--model.text.layers", "1", "--log.every", "1", "--checkpoint-every", "100000", *more,
    ]  # fmt: skip
    return [sys.executable, "-m", "zebra", "train", *args]


def wait_for_steps(config, process, steps):
    path = Path(config.out) / "log.jsonl"
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().splitlines()) < steps:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_r7_a_signal_saves_the_current_step_and_exits_with_75(config, number):
    process = forkserver.Popen(command(config), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    wait_for_steps(config, process, 3)
    os.killpg(process.pid, number)
    before = len((Path(config.out) / "log.jsonl").read_text().splitlines())
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 75, stderr
    last = log(config)[-1]["step"]
    assert last <= before + 2  # the running step, and one that may have ended while the file was read
    assert latest(config).name == f"step-{last:08d}"
    assert f"interrupted after {last} steps, checkpoint saved" in stderr


@pytest.mark.parametrize("bad_value", [float("nan"), float("inf")])
def test_r14_a_nan_or_infinite_gradient_stops_before_the_update(bad_value):
    torch.manual_seed(0)
    model = CLIP(TINY)
    optimizer = build_optimizer(model, OptimizerConfig())
    images, tokens = torch.randn(4, 3, 32, 32), torch.randint(1, 600, (4, 12))
    train_step(model, optimizer, images, tokens, lr=1e-3, grad_clip_norm=1.0, precision="fp32")
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" not in name}
    moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
    model.text.text_projection.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(3), bad_value))
    with pytest.raises(DivergenceError, match="untouched"):
        train_step(model, optimizer, images, tokens, lr=1e-3, grad_clip_norm=1.0, precision="fp32")
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items() if "num_batches" not in name)
    assert all(map(torch.equal, moments, (v for state in optimizer.state.values() for v in state.values())))


@pytest.mark.parametrize("trace", sorted(TRACES.glob("spike-*.json")), ids=lambda path: path.stem)
def test_r15_a_recorded_spike_is_detected_within_five_steps_and_nothing_before_it(trace):
    record = json.loads(trace.read_text())
    detector = SpikeDetector()
    detected_steps = [step for step, loss in enumerate(record["loss"]) if detector.update(loss)]
    assert detected_steps and 0 <= detected_steps[0] - record["spike"] <= 5


def test_r15_ten_thousand_recorded_steps_without_a_spike_give_no_alarm():
    losses = json.loads((TRACES / "normal.json").read_text())["loss"]
    assert len(losses) >= 10_000
    detector = SpikeDetector()
    detected_steps = [step for step, loss in enumerate(losses) if detector.update(loss)]
    assert detected_steps == []


def test_another_batch_size_on_resume_is_refused_and_accepted_on_request(config):
    run_until(config, 6)
    other = replace(config, batch_size=6)
    with pytest.raises(ConfigError, match=r"batch_size: 8 → 6"):
        train.run(other)
    train.run(other, accept_changes=True)
    samples = [line["samples"] for line in log(config)]
    assert samples == [8, 16, 24, 32, *range(38, 38 + 6 * 8, 6)]
    environment = json.loads((Path(config.out) / "environment.json").read_text())
    assert environment["accepted_changes"] == ["settings.batch_size: 8 → 6"]


def test_changed_data_on_resume_is_refused(config):
    run_until(config, 6)
    (Path(config.data) / "3.txt").write_text("another caption")
    os.utime(Path(config.data) / "3.txt", (1, 1))
    with pytest.raises(ConfigError, match="data: "):
        train.run(config)


def test_a_run_whose_checkpoints_are_all_corrupt_never_starts_from_scratch(config):
    run_until(config, 6)
    for file in latest(config).glob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped a corrupt checkpoint"), pytest.raises(WeightsError, match="is valid"):
        train.run(config)
    with pytest.raises(WeightsError, match="is valid"):
        train.run(config)
