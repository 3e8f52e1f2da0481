"""Scorecard rows on runs of several processes: killed, stopped, resumed with more or fewer, unresponsive."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zebra.config.data import DataConfig
from zebra.config.files import write_config
from zebra.config.presets import get_preset

from .. import forkserver
from ..processes import start
from .runs import tiny_run

RUN = Path(__file__).with_name("ranked_run.py")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZEBRA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path):
    tiny = tiny_run(tmp_path)
    (Path(tiny.data) / "17.png").write_bytes(b"")
    return replace(tiny, lr=1e-4, rank_timeout=60, data_options=DataConfig(max_skip_rate=0.1))


def processes(config, size, *fault):
    """Start a run in `size` processes; see `ranked_run.py`."""
    file = Path(config.out).with_suffix(".yaml")
    write_config(file, config)
    command = [sys.executable, str(RUN), str(file), *map(str, fault)]
    if size == 1:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return [forkserver.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)]
    return start([command] * size)


def wait_for(started, seconds=120):
    """Wait for processes; return their exit codes and standard error."""
    stderr = [process.communicate(timeout=seconds)[1] for process in started]
    return [process.returncode for process in started], stderr


def run_to_end(config, size):
    codes, stderr = wait_for(processes(config, size))
    assert set(codes) == {0}, stderr


def ids(config):
    """Return step → samples of all processes in rank order; repeated steps must have the same samples."""
    slices = {}
    for path in logs(config):
        for line in path.read_text().splitlines():
            step, size, sample_ids = json.loads(line)
            slices.setdefault((step, size), []).append(sample_ids)
    batches = {}
    for (step, _size), rank_ids in slices.items():
        batch = [id for part in rank_ids for id in part]
        assert batches.setdefault(step, batch) == batch
    return batches


def logs(config):
    return sorted(Path(config.out).parent.glob(f"{Path(config.out).name}.yaml.rank*.ids"))


def latest_name(config):
    return max(path.name for path in (Path(config.out) / "checkpoints").glob("step-*"))


def weights(config):
    return {path.name: path.read_bytes() for path in (Path(config.out) / "model").glob("*.safetensors")}


def losses(config):
    lines = (Path(config.out) / "log.jsonl").read_text().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines], dtype=torch.float64)


def wait_for_steps(config, started, steps):
    path = Path(config.out) / "log.jsonl"
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().splitlines()) < steps:
        assert all(process.poll() is None for process in started), wait_for(started)
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_r2_after_one_of_two_processes_is_killed_the_run_resumes_to_the_same_bits(config, tmp_path, parallel):
    config = replace(config, parallel=parallel)
    run_to_end(config, 2)
    other = replace(config, out=str(tmp_path / "other"))
    started = processes(other, 2, "sleep", 6, 1)
    wait_for_steps(other, started, 6)
    started[1].kill()
    start_time = time.monotonic()
    codes, stderr = wait_for(started, 60)
    assert time.monotonic() - start_time < 60
    assert codes == [1, -signal.SIGKILL]
    assert "RankError: rank 1 (last seen at step 6)" in stderr[0]
    run_to_end(other, 2)
    assert weights(other) == weights(config)
    assert torch.equal(losses(other), losses(config))


def test_r2_the_death_of_rank_0_and_its_store_is_reported(config):
    started = processes(config, 2, "sleep", 6, 0)
    wait_for_steps(config, started, 6)
    started[0].kill()
    codes, stderr = wait_for(started, 60)
    assert codes == [-signal.SIGKILL, 1]
    assert "RankError: rank 0" in stderr[1]


def test_r5_a_run_resumed_with_other_numbers_of_processes_has_the_same_batches_and_losses(config, tmp_path):
    run_to_end(config, 1)
    other = replace(config, out=str(tmp_path / "other"))
    for size, step, parallel in ((1, 1, "ddp"), (2, 4, "fsdp"), (4, 7, "ddp")):
        codes, stderr = wait_for(processes(replace(other, parallel=parallel), size, "stop", step, size - 1))
        assert set(codes) == {75}, stderr
        assert latest_name(other) == f"step-{step + 1:08d}"
    run_to_end(other, 1)
    assert ids(other) == ids(config)
    torch.testing.assert_close(losses(other), losses(config), rtol=1e-5, atol=1e-5)
    sample_counts = [json.loads((Path(run.out) / "data.json").read_text()) for run in (config, other)]
    assert sample_counts[0] == sample_counts[1]


@pytest.mark.parametrize("rank", [0, 1])
def test_r7_a_signal_to_one_of_two_processes_saves_the_same_step_for_both(config, rank):
    config = replace(config, steps=100_000, checkpoint_every=100_000)
    started = processes(config, 2)
    wait_for_steps(config, started, 3)
    started[rank].send_signal(signal.SIGTERM)
    before = len(losses(config))
    codes, stderr = wait_for(started, 30)
    assert codes == [75, 75], stderr
    assert before <= len(losses(config)) <= before + 2
    assert latest_name(config) == f"step-{len(losses(config)):08d}"
    steps = [max(map(json.loads, path.read_text().splitlines()))[0] for path in logs(config)]
    assert steps == [len(losses(config))] * 2


def test_r16_an_unresponsive_rank_is_named_prints_its_stack_and_all_end_in_time(config):
    config = replace(config, rank_timeout=5)
    started = processes(config, 2, "sleep", 6, 1)
    wait_for_steps(config, started, 6)
    start_time = time.monotonic()
    codes, stderr = wait_for(started, 60)
    assert time.monotonic() - start_time < 5 + 10
    assert codes == [1, 1]
    assert "rank 1 (last seen at step 6)" in stderr[0]
    assert "ranked_run.py" in stderr[1] and "in callback_with_fault" in stderr[1]  # where it sleeps


def test_processes_with_different_settings_are_refused(config):
    write_config(Path(config.out).with_suffix(".yaml"), config)
    write_config(Path(config.out).with_suffix(".b.yaml"), replace(config, lr=2e-4))
    files = [Path(config.out).with_suffix(suffix) for suffix in (".yaml", ".b.yaml")]
    codes, stderr = wait_for(start([[sys.executable, str(RUN), str(file)] for file in files]))
    assert codes == [1, 1]
    assert all("rank 1" in text and "settings.lr: 0.0001 → 0.0002" in text for text in stderr)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"parallel": "fsdp"}, "settings.parallel: 'ddp' → 'fsdp'"),
        ({"patch_dropout": 0.5, "model": get_preset("tiny-vit")}, "settings.model.image_size: 32 →"),
    ],
)
def test_processes_with_different_models_are_refused_before_any_collective(config, other, message):
    write_config(Path(config.out).with_suffix(".yaml"), config)
    write_config(Path(config.out).with_suffix(".b.yaml"), replace(config, **other))
    files = [Path(config.out).with_suffix(suffix) for suffix in (".yaml", ".b.yaml")]
    codes, stderr = wait_for(start([[sys.executable, str(RUN), str(file)] for file in files]))
    assert codes == [1, 1]
    assert all(message in text for text in stderr)


def test_a_process_without_its_peers_names_the_address_it_waited_at(config):
    first, second = processes(replace(config, rank_timeout=2), 2)
    second.kill()
    codes, stderr = wait_for([first, second], 60)
    assert codes[0] == 1
    assert "RankError: rank 0: the 2 processes did not connect at 127.0.0.1:" in stderr[0]


def test_a_batch_that_cannot_be_divided_among_the_processes_is_refused(config):
    codes, stderr = wait_for(processes(replace(config, batch_size=7), 2))
    assert codes == [1, 1]
    assert all("batch_size 7 is not divisible by 2 processes" in text for text in stderr)


def test_torchrun_trains_from_the_command_line_and_only_rank_0_prints(config):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    args = [
        "--data", config.data, "--out", config.out, "--steps", "4", "--batch-size", "8", "--workers", "1",
        "--model.image-size", "32", "--model.vision.width", "4", "--model.vision.heads", "2",
        "--model.text.layers", "1", "--log.every", "1", "--data-options.max-skip-rate", "0.1",
    ]  # fmt: skip
    result = subprocess.run(
        [*torchrun, "-m", "zebra", "train", *args], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("trained 4 steps") == 1
    assert len(losses(config)) == 4
