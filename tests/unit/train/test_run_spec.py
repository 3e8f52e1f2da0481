"""What has to stay the same for a run to go on, and what may change."""

from dataclasses import replace

import pytest
import torch

from zebra.config.train import LogConfig, OptimizerConfig, TrainConfig
from zebra.errors import ConfigError
from zebra.train.run_spec import build_run_spec, require_resumable

CONFIG = TrainConfig(data="d", out="o", steps=5)


def of(config=CONFIG, data="d1", words="w1"):
    return build_run_spec(config, data, words, torch.device("cpu"))


def test_the_same_run_has_the_same_identity():
    assert require_resumable(of(), of(), "step-3", accept_changes=False) == []


def test_settings_that_do_not_touch_learning_may_change():
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
    assert require_resumable(of(), of(other), "step-3", accept_changes=False) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lr": 0.5}, r"settings\.lr: 0\.001 → 0\.5"),
        ({"steps": 6}, r"settings\.steps: 5 → 6"),
        ({"batch_size": 64}, r"settings\.batch_size: 128 → 64"),
        ({"optimizer": OptimizerConfig(beta2=0.9)}, r"settings\.optimizer\.beta2: 0\.98 → 0\.9"),
        ({"ema_decay": 0.9}, r"settings\.ema_decay: None → 0\.9"),
    ],
)
def test_settings_that_change_learning_are_refused_by_name(change, named):
    with pytest.raises(ConfigError, match=named):
        require_resumable(of(), of(replace(CONFIG, **change)), "step-3", accept_changes=False)


def test_other_data_and_another_vocabulary_are_refused_and_all_changes_are_listed():
    with pytest.raises(
        ConfigError, match=r"(?s)step-3.*data: 'd1' → 'd2'.*tokenizer: 'w1' → 'w2'.*--accept-changes"
    ):
        require_resumable(of(), of(data="d2", words="w2"), "step-3", accept_changes=False)


def test_another_version_of_a_library_that_computes_is_refused():
    before = of()
    before["versions"]["torch"] = "2.10.0"
    with pytest.raises(ConfigError, match=r"versions\.torch: '2\.10\.0' → "):
        require_resumable(before, of(), "step-3", accept_changes=False)


def test_what_is_accepted_is_returned():
    assert require_resumable(of(), of(replace(CONFIG, lr=0.5)), "step-3", accept_changes=True) == [
        "settings.lr: 0.001 → 0.5"
    ]
