"""Variants of a sweep, and the plan of successive halving."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zebra.config.sweep import Axis, SweepConfig
from zebra.config.train import TrainConfig
from zebra.errors import ConfigError
from zebra.train.halving import MAX_HALVINGS, count_steps, fit_budget, plan_rungs

BASE = TrainConfig(data="data", out="out", steps=800)


def sweep(*over: str, base: TrainConfig = BASE, budget: int | None = None) -> SweepConfig:
    return SweepConfig(base=base, over=tuple(map(Axis.parse, over)), budget=budget)


def test_every_combination_is_a_variant_with_its_own_folder() -> None:
    variants = sweep("lr=1e-3,2e-3", "optimizer.weight-decay=0,0.1").variants
    assert [variant.name for variant in variants] == [
        "lr=1e-3, optimizer.weight_decay=0",
        "lr=1e-3, optimizer.weight_decay=0.1",
        "lr=2e-3, optimizer.weight_decay=0",
        "lr=2e-3, optimizer.weight_decay=0.1",
    ]
    assert [(v.config.lr, v.config.optimizer.weight_decay) for v in variants][2] == (2e-3, 0.0)
    assert len({variant.folder for variant in variants}) == 4


@pytest.mark.parametrize(
    ("over", "read", "values"),
    [
        ("model=tiny-vit,tiny-resnet", lambda c: c.model.vision.kind, ["vit", "resnet"]),
        ("schedule=cosine,constant-cooldown", lambda c: c.schedule, ["cosine", "constant-cooldown"]),
        ("ema_decay=null,0.99", lambda c: c.ema_decay, [None, 0.99]),
        ("objective.multi_positive=true,false", lambda c: c.objective.multi_positive, [True, False]),
        ("--batch-size=64, 128", lambda c: c.batch_size, [64, 128]),
        ("seed=0,1,2", lambda c: c.seed, [0, 1, 2]),
        ("data=a/b.csv,c", lambda c: c.data, ["a/b.csv", "c"]),
    ],
)
def test_values_are_read_as_in_recipes(over: str, read: Any, values: list[object]) -> None:
    assert [read(variant.config) for variant in sweep(over).variants] == values


@pytest.mark.parametrize(
    ("over", "message"),
    [
        (["lrr=1,2"], r"--over lrr: unknown setting. Did you mean 'lr'\?"),
        (["weight_decay=1,2"], r"unknown setting. Did you mean 'optimizer.weight_decay'\?"),
        (["optimizr.beta2=0.9,0.98"], r"Did you mean 'optimizer.beta2'\?"),
        (["lr=-1,1e-3"], r"variant lr=-1: lr is -1.0; it must be positive"),
        (["lr=fast,slow"], r"variant lr=fast: lr must be a finite number"),
        (["model=tiny-vitt,tiny-vit"], r"Did you mean 'tiny-vit'\?"),
        (["lr=1e-3"], r"only lr=1e-3. Name at least two values"),
        (["lr=1e-3,0.001"], "repeats a value"),
        (["lr=1e-3,2e-3", "lr=3e-3,4e-3"], "names lr twice"),
        (["lr="], "must be SETTING=VALUE,VALUE"),
        (["lr"], "must be SETTING=VALUE,VALUE"),
        (["=1,2"], "must be SETTING=VALUE,VALUE"),
        (["lr=1,,2"], "must be SETTING=VALUE,VALUE"),
        (["lr={a: 1},2"], "must be a number, true, false, null or text"),
        (["steps=100,200"], "all variants have the same length"),
        (["out=a,b"], "each variant gets a folder"),
        ([], "needs a setting to vary"),
    ],
)
def test_a_wrong_axis_is_refused_before_training(over: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = sweep(*over).variants


def test_a_sweep_without_length_or_validation_is_refused() -> None:
    with pytest.raises(ConfigError, match="Give --steps, or --budget"):
        sweep("lr=1,2", base=replace(BASE, steps=None, epochs=2.0))
    assert sweep("lr=1,2", base=replace(BASE, steps=None, epochs=2.0), budget=100).budget == 100
    with pytest.raises(ConfigError, match="Set --val-fraction or --eval-sets"):
        sweep("lr=1,2", base=replace(BASE, val_fraction=0.0))
    with pytest.raises(ConfigError, match="budget is 0"):
        sweep("lr=1,2", budget=0)


def test_four_variants_take_twice_the_steps_of_a_run() -> None:
    rungs, eval_every = plan_rungs(4, 800, 100)
    assert [(rung.num_variants, rung.steps) for rung in rungs] == [(4, 200), (2, 400), (1, 800)]
    assert (count_steps(rungs), eval_every) == (4 * 200 + 2 * 200 + 400, 100)


@given(st.integers(1, 200), st.integers(2, 100_000), st.integers(1, 5_000))
def test_every_rung_ends_with_a_validation_and_no_run_is_too_long(variants: int, steps: int, eval_every: int) -> None:
    rungs, interval = plan_rungs(variants, steps, eval_every)
    assert rungs[0].num_variants == variants
    assert 0 < rungs[-1].steps <= steps
    assert len(rungs) <= MAX_HALVINGS + 1
    assert all(rung.steps % interval == 0 for rung in rungs)
    for first, second in itertools.pairwise(rungs):
        assert second.steps == 2 * first.steps
        assert second.num_variants == -(-variants * rungs[0].steps // second.steps)


@given(st.integers(2, 50), st.integers(100, 1_000_000))
def test_a_budget_is_used_and_not_exceeded(variants: int, budget: int) -> None:
    steps = fit_budget(variants, budget)
    assert count_steps(plan_rungs(variants, steps, steps)[0]) <= budget
    if budget >= 1000 * variants:
        assert count_steps(plan_rungs(variants, steps, steps)[0]) > 0.9 * budget
