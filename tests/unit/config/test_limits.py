"""Settings out of range, or NaN, are refused with the name and the value."""

import math

import pytest

from zebra.config.compare import CompareConfig
from zebra.config.doctor import DoctorConfig
from zebra.config.embed import EmbedConfig
from zebra.config.evaluate import EvaluateConfig
from zebra.config.export import ExportConfig
from zebra.config.finetune import FineTuneConfig
from zebra.config.menagerie import MenagerieConfig
from zebra.config.presets import get_preset
from zebra.config.serve import BatchingConfig, ServeConfig
from zebra.config.train import OptimizerConfig, TrainConfig
from zebra.errors import ConfigError


def train(**settings):
    return TrainConfig(**({"data": "x", "out": "y", "steps": 3} | settings))


def finetune(**settings):
    return FineTuneConfig(**({"init_from": "model"} | settings))


def embed(**settings):
    return EmbedConfig(**({"model": "m", "data": "d", "out": "o"} | settings))


def export(**settings):
    return ExportConfig(**({"model": "m", "format": "zebra", "out": "o"} | settings))


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (train, {"steps": 0}, "steps is 0"),
        (train, {"workers": 1_000_000_000}, "workers is 1000000000; it must be from 0 to 4096"),
        (train, {"workers": -1}, "workers is -1; it must be from 0 to 4096"),
        (embed, {"workers": 1_000_000_000}, "workers is 1000000000; it must be from 1 to 4096"),
        (MenagerieConfig, {"out": "o", "workers": 1_000_000_000}, "workers is 1000000000; it must be from 1 to 4096"),
        (train, {"lr": math.nan}, "lr is nan"),
        (train, {"checkpoint_minutes": -1.0}, r"checkpoint_minutes is -1\.0"),
        (train, {"ema_decay": 1.0}, r"ema_decay is 1\.0"),
        (train, {"ema_decay": math.nan}, "ema_decay is nan"),
        (train, {"workers": -1}, "workers is -1"),
        (train, {"patch_dropout": 1.0}, r"patch_dropout is 1\.0"),
        (train, {"patch_dropout": 0.5, "model": get_preset("tiny-resnet")}, "patch_dropout needs a Vision Transformer"),
        (train, {"parallel": "fsdp", "finetune": finetune(lora_rank=4)}, "does not support LoRA"),
        (OptimizerConfig, {"beta1": 1.0}, r"optimizer\.beta1 is 1\.0"),
        (OptimizerConfig, {"beta2": math.nan}, r"optimizer\.beta2 is nan"),
        (OptimizerConfig, {"eps": -1e-8}, r"optimizer\.eps is -1e-08"),
        (OptimizerConfig, {"weight_decay": math.nan}, r"optimizer\.weight_decay is nan"),
        (OptimizerConfig, {"grad_clip_norm": math.nan}, r"optimizer\.grad_clip_norm is nan"),
        (train, {"val_fraction": 0.5}, "val_fraction is 0.5"),
        (finetune, {"patience": 0}, r"finetune\.patience is 0"),
        (finetune, {"lora_rank": 0}, r"finetune\.lora_rank is 0"),
        (finetune, {"lora_alpha": math.nan}, r"finetune\.lora_alpha is nan"),
        (finetune, {"lora_target_modules": ()}, r"finetune\.lora_target_modules is empty"),
        (finetune, {"layer_decay": 0.0}, r"finetune\.layer_decay is 0\.0"),
        (BatchingConfig, {"max_batch_size": 0}, r"batching\.max_batch_size is 0"),
        (BatchingConfig, {"max_batch_size": 9, "max_queue_size": 8}, r"batching\.max_queue_size 8"),
        (BatchingConfig, {"max_delay_seconds": math.nan}, r"batching\.max_delay_seconds is nan"),
        (BatchingConfig, {"timeout_seconds": math.nan}, r"batching\.timeout_seconds nan"),
        (BatchingConfig, {"max_delay_seconds": 2.0, "timeout_seconds": 1.0}, "time-out must be longer"),
        (ServeConfig, {"port": 65_536}, "port is 65536"),
        (ServeConfig, {"api_key": " "}, "api_key is empty"),
        (ServeConfig, {"api_key": "schlüssel"}, "not plain ASCII"),
        (ServeConfig, {"allow_url_hosts": ("https://example.org",)}, "allow_url_hosts contains 'https://example.org'"),
        (embed, {"batch_size": 0}, "batch_size is 0"),
        (embed, {"workers": 0}, "workers is 0"),
        (embed, {"thumbnail_size": 1025}, "thumbnail_size is 1025"),
        (export, {"wise_ft": 1.5, "base": "b"}, r"wise-ft is 1\.5"),
        (export, {"wise_ft": math.nan, "base": "b"}, "wise-ft is nan"),
        (export, {"base": "b"}, "go together"),
        (DoctorConfig, {"target": "x", "max_samples": 0}, "samples is 0"),
        (EvaluateConfig, {"model": "m", "datasets": (), "out": "o"}, "no datasets given"),
        (EvaluateConfig, {"model": "m", "datasets": ("d",), "out": "o", "tasks": ()}, "no tasks given"),
        (CompareConfig, {"runs": ("one",)}, "at least two runs; got 1"),
        (MenagerieConfig, {"out": "o", "seed": -1}, "seed is -1"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_name(build, settings, message):
    with pytest.raises(ConfigError, match=message):
        build(**settings)


def test_both_ends_of_every_range_are_allowed():
    train(ema_decay=0.999, workers=0, patch_dropout=0.0)
    OptimizerConfig(beta1=0.0, eps=0.0, weight_decay=0.0, warmup_steps=0, grad_clip_norm=0.0)
    train(val_fraction=0.49)
    finetune(patience=1, lora_rank=1, layer_decay=1.0)
    BatchingConfig(max_batch_size=1, max_queue_size=1, max_delay_seconds=0.0)
    ServeConfig(port=0)
    embed(thumbnail_size=0)
    export(wise_ft=0.0, base="b")
