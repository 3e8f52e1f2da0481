"""Scorecard rows about a run of several processes: killed, stopped, resumed with more or fewer, gone silent."""

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
    told = tiny_run(tmp_path)
    (Path(told.data) / "17.png").write_bytes(b"")
    return replace(told, lr=1e-4, rank_timeout=60, data_options=DataConfig(max_skip_rate=0.1))


def processes(config, size, *told):
    """Start a run in so many processes; see `ranked_run.py`."""
    file = Path(config.out).with_suffix(".yaml")
    write_config(file, config)
    command = [sys.executable, str(RUN), str(file), *map(str, told)]
    if size == 1:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        return [forkserver.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)]
    return start([command] * size)


def ended(running, seconds=120):
    """Wait for processes; return exit codes and what they said."""
    said = [process.communicate(timeout=seconds)[1] for process in running]
    return [process.returncode for process in running], said


def done(config, size):
    codes, said = ended(processes(config, size))
    assert set(codes) == {0}, said


def ids(config):
    """Return step → the samples of all processes, in the order of ranks; what was done twice must agree."""
    shares = {}
    for path in logs(config):
        for line in path.read_text().splitlines():
            step, size, some = json.loads(line)
            shares.setdefault((step, size), []).append(some)
    batches = {}
    for (step, _size), parts in shares.items():
        batch = [id for part in parts for id in part]
        assert batches.setdefault(step, batch) == batch
    return batches


def logs(config):
    return sorted(Path(config.out).parent.glob(f"{Path(config.out).name}.yaml.rank*.ids"))


def newest(config):
    return max(path.name for path in (Path(config.out) / "checkpoints").glob("step-*"))


def weights(config):
    return {path.name: path.read_bytes() for path in (Path(config.out) / "model").glob("*.safetensors")}


def losses(config):
    lines = (Path(config.out) / "log.jsonl").read_text().splitlines()
    return torch.tensor([json.loads(line)["loss"] for line in lines], dtype=torch.float64)


def wait_for_steps(config, running, steps):
    path = Path(config.out) / "log.jsonl"
    deadline = time.monotonic() + 60
    while not path.exists() or len(path.read_text().splitlines()) < steps:
        assert all(process.poll() is None for process in running), ended(running)
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_r2_of_two_processes_one_is_killed_the_other_ends_and_the_run_goes_on_to_the_same_bits(
    config, tmp_path, parallel
):
    config = replace(config, parallel=parallel)
    done(config, 2)
    other = replace(config, out=str(tmp_path / "other"))
    running = processes(other, 2, "sleep", 6, 1)
    wait_for_steps(other, running, 6)
    running[1].kill()
    began = time.monotonic()
    codes, said = ended(running, 60)
    assert time.monotonic() - began < 60
    assert codes == [1, -signal.SIGKILL]
    assert "RankError: rank 1 (last seen at step 6)" in said[0]
    done(other, 2)
    assert weights(other) == weights(config)
    assert torch.equal(losses(other), losses(config))


def test_r2_of_two_processes_the_first_is_killed_and_with_it_the_store_of_all_notes(config):
    running = processes(config, 2, "sleep", 6, 0)
    wait_for_steps(config, running, 6)
    running[0].kill()
    codes, said = ended(running, 60)
    assert codes == [-signal.SIGKILL, 1]
    assert "RankError: rank 0" in said[1]


def test_r5_a_run_goes_on_in_other_numbers_of_processes_with_the_same_batches_and_losses(config, tmp_path):
    done(config, 1)
    other = replace(config, out=str(tmp_path / "other"))
    for size, step, parallel in ((1, 1, "ddp"), (2, 4, "fsdp"), (4, 7, "ddp")):
        codes, said = ended(processes(replace(other, parallel=parallel), size, "stop", step, size - 1))
        assert set(codes) == {75}, said
        assert newest(other) == f"step-{step + 1:08d}"
    done(other, 1)
    assert ids(other) == ids(config)
    torch.testing.assert_close(losses(other), losses(config), rtol=1e-5, atol=1e-5)
    counted = [json.loads((Path(run.out) / "data.json").read_text()) for run in (config, other)]
    assert counted[0] == counted[1]


@pytest.mark.parametrize("rank", [0, 1])
def test_r7_a_signal_to_one_of_two_processes_saves_the_same_step_for_both(config, rank):
    config = replace(config, steps=100_000, checkpoint_every=100_000)
    running = processes(config, 2)
    wait_for_steps(config, running, 3)
    running[rank].send_signal(signal.SIGTERM)
    before = len(losses(config))
    codes, said = ended(running, 30)
    assert codes == [75, 75], said
    assert before <= len(losses(config)) <= before + 2
    assert newest(config) == f"step-{len(losses(config)):08d}"
    steps = [max(map(json.loads, path.read_text().splitlines()))[0] for path in logs(config)]
    assert steps == [len(losses(config))] * 2


def test_r16_a_rank_that_sleeps_is_named_prints_where_it_stands_and_all_end_in_time(config):
    config = replace(config, rank_timeout=5)
    running = processes(config, 2, "sleep", 6, 1)
    wait_for_steps(config, running, 6)
    began = time.monotonic()
    codes, said = ended(running, 60)
    assert time.monotonic() - began < 5 + 10
    assert codes == [1, 1]
    assert "rank 1 (last seen at step 6)" in said[0]
    assert "ranked_run.py" in said[1] and "in watch" in said[1]  # where it sleeps


def test_processes_that_are_about_to_do_different_things_are_told_in_what(config):
    write_config(Path(config.out).with_suffix(".yaml"), config)
    write_config(Path(config.out).with_suffix(".b.yaml"), replace(config, lr=2e-4))
    files = [Path(config.out).with_suffix(suffix) for suffix in (".yaml", ".b.yaml")]
    codes, said = ended(start([[sys.executable, str(RUN), str(file)] for file in files]))
    assert codes == [1, 1]
    assert all("rank 1" in words and "settings.lr: 0.0001 → 0.0002" in words for words in said)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"parallel": "fsdp"}, "settings.parallel: 'ddp' → 'fsdp'"),
        ({"patch_dropout": 0.5, "model": get_preset("tiny-vit")}, "settings.model.image_size: 32 →"),
    ],
)
def test_processes_that_would_spread_other_models_are_told_before_they_try(config, other, said):
    write_config(Path(config.out).with_suffix(".yaml"), config)
    write_config(Path(config.out).with_suffix(".b.yaml"), replace(config, **other))
    files = [Path(config.out).with_suffix(suffix) for suffix in (".yaml", ".b.yaml")]
    codes, words = ended(start([[sys.executable, str(RUN), str(file)] for file in files]))
    assert codes == [1, 1]
    assert all(said in each for each in words)


def test_a_process_whose_others_never_come_says_where_it_waited(config):
    first, second = processes(replace(config, rank_timeout=2), 2)
    second.kill()
    codes, said = ended([first, second], 60)
    assert codes[0] == 1
    assert "RankError: rank 0: the 2 processes did not connect at 127.0.0.1:" in said[0]


def test_processes_that_cannot_share_a_batch_are_told_so(config):
    codes, said = ended(processes(replace(config, batch_size=7), 2))
    assert codes == [1, 1]
    assert all("batch_size 7 is not divisible by 2 processes" in words for words in said)


def test_torchrun_trains_from_the_command_line_and_its_first_process_alone_speaks(config):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = [
        "--data", config.data, "--out", config.out, "--steps", "4", "--batch-size", "8", "--workers", "1",
        "--model.image-size", "32", "--model.vision.width", "4", "--model.vision.heads", "2",
        "--model.text.layers", "1", "--log.every", "1", "--data-options.max-skip-rate", "0.1",
    ]  # fmt: skip
    ran = subprocess.run(
        [*torchrun, "-m", "zebra", "train", *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("trained 4 steps") == 1
    assert len(losses(config)) == 4
