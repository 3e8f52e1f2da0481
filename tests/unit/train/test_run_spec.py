"""Run spec: what must stay the same to resume a run, and what may change."""

from dataclasses import replace

import pytest
import torch

from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig
from zebra.errors import ConfigError
from zebra.train.run_spec import build_run_spec, is_last_step, require_resumable

CONFIG = TrainConfig(data="d", out="o", steps=5)


def spec(config=CONFIG, data="d1", tokenizer="t1"):
    return build_run_spec(config, data, tokenizer, torch.device("cpu"))


def test_equal_runs_have_equal_specs():
    assert require_resumable(spec(), spec(), "step-3", accept_changes=False) == []


def test_settings_that_do_not_affect_the_numbers_may_change():
    other = replace(
        CONFIG,
        out="elsewhere",
        data="moved",
        workers=0,
        checkpoint_every=7,
        checkpoint_minutes=1,
        keep_checkpoints=9,
        log=LogConfig(every=3),
        eval_sets=("x",),
    )
    assert require_resumable(spec(), spec(other), "step-3", accept_changes=False) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.5}, r"settings\.lr: 0\.001 → 0\.5"),
        ({"steps": 6}, r"settings\.steps: 5 → 6"),
        ({"batch_size": 64}, r"settings\.batch_size: 128 → 64"),
        ({"optimizer": OptimizerConfig(beta2=0.9)}, r"settings\.optimizer\.beta2: 0\.98 → 0\.9"),
        ({"ema_decay": 0.9}, r"settings\.ema_decay: None → 0\.9"),
    ],
)
def test_changed_settings_that_affect_the_numbers_are_refused_by_name(change, message):
    with pytest.raises(ConfigError, match=message):
        require_resumable(spec(), spec(replace(CONFIG, **change)), "step-3", accept_changes=False)


@pytest.mark.parametrize("change", [{"steps": 6}, {"steps": None, "epochs": 2.0}])
def test_only_the_last_checkpoint_of_a_run_may_continue_with_another_length(change):
    other = spec(replace(CONFIG, **change))
    assert require_resumable(spec(), other, "step-5", accept_changes=False, is_last=True)[0].startswith(
        "settings.steps: 5"
    )
    with pytest.raises(ConfigError, match="steps"):
        require_resumable(spec(), other, "step-3", accept_changes=False)
    for changed in (spec(replace(CONFIG, **change, lr=0.5)), spec(replace(CONFIG, **change), data="d2")):
        with pytest.raises(ConfigError, match="belongs to a run that differs"):
            require_resumable(spec(), changed, "step-5", accept_changes=False, is_last=True)


def test_the_end_of_a_run_is_known_from_its_steps_or_epochs():
    epochs = spec(replace(CONFIG, steps=None, epochs=2.0))
    assert [is_last_step(spec(), step, 999, 10) for step in (4, 5)] == [False, True]
    assert [is_last_step(epochs, 1, samples, 10) for samples in (19, 20, 24)] == [False, True, True]


def test_other_data_and_another_tokenizer_are_refused_and_all_changes_are_listed():
    with pytest.raises(ConfigError, match=r"(?s)step-3.*data: 'd1' → 'd2'.*tokenizer: 't1' → 't2'.*--accept-changes"):
        require_resumable(spec(), spec(data="d2", tokenizer="t2"), "step-3", accept_changes=False)


def test_another_version_of_a_numerics_package_is_refused():
    before = spec()
    before["versions"]["torch"] = "2.10.0"
    with pytest.raises(ConfigError, match=r"versions\.torch: '2\.10\.0' → "):
        require_resumable(before, spec(), "step-3", accept_changes=False)


def test_accepted_changes_are_returned():
    assert require_resumable(spec(), spec(replace(CONFIG, lr=0.5)), "step-3", accept_changes=True) == [
        "settings.lr: 0.001 → 0.5"
    ]
