"""`zebra sweep`: variants of a recipe, by successive halving."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zebra.atomic_io import atomic_write
from zebra.config.structure import diff_configs, unstructure
from zebra.config.sweep import SweepConfig, Variant
from zebra.distributed import world_info_from_env
from zebra.errors import ConfigError, DataError, DivergenceError
from zebra.file_lock import lock_folder
from zebra.train.checkpoint import latest_checkpoint, read_score
from zebra.train.halving import Rung, VariantResult, count_steps, fit_budget, plan_rungs
from zebra.train.hooks import Callback
from zebra.train.run_dir import RunDir
from zebra.workflows import train

REPORT_NAME = "report.html"


@dataclass(frozen=True, slots=True)
class SweepResult:
    """The variants, best first."""

    variants: tuple[VariantResult, ...]
    is_finished: bool
    """False if the sweep was interrupted; the same command continues it."""
    report: Path

    @property
    def best(self) -> VariantResult:
        """Return the variant that was trained longest and has the highest score."""
        return self.variants[0]


class SweepState:
    """The scores of a sweep so far, in sweep.json."""

    def __init__(self, out: Path, definition: Mapping[str, Any]) -> None:
        """Read the file, or start an empty one.

        Raises:
            ConfigError: The directory holds another sweep, or files that belong to none.
        """
        self.path = out / "sweep.json"
        self.scores: dict[str, dict[str, float]] = {}
        """Variant → steps → mean validation score."""
        self.failures: dict[str, str] = {}
        """Variant → why its training stopped."""
        self._definition = json.loads(json.dumps(definition))
        if self.path.is_file():
            document = json.loads(self.path.read_text(encoding="utf-8"))
            if changed := diff_configs(document["definition"], self._definition):
                raise ConfigError(
                    f"{out} holds a sweep that differs in:\n  " + "\n  ".join(changed) + "\nName another --out."
                )
            self.scores, self.failures = document["scores"], document["failures"]
        elif RunDir(out).config.is_file() or (out.exists() and not out.is_dir()):
            raise ConfigError(f"--out {out} is a file or holds a training run. Name another directory.")

    def record(self, name: str, steps: int, score: float) -> None:
        """Save the score of a variant."""
        self.scores.setdefault(name, {})[str(steps)] = score
        self.save()

    def record_failure(self, name: str, message: str) -> None:
        """Save why the training of a variant stopped."""
        self.failures[name] = message
        self.save()

    def save(self) -> None:
        """Write the file atomically."""
        document = {"definition": self._definition, "scores": self.scores, "failures": self.failures}
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def select(self, names: Sequence[str], steps: int, count: int) -> list[str]:
        """Return the variants with the highest scores at this step, in their own order; the first wins a tie."""
        ranked = sorted(
            (name for name in names if name not in self.failures), key=lambda n: -self.scores[n][str(steps)]
        )
        return [name for name in names if name in ranked[:count]]


def run(
    config: SweepConfig,
    *,
    on_start: Callable[[str, int], None] = lambda _variant, _steps: None,
    callback: Callback = lambda _report, _scores: None,
) -> SweepResult:
    """Train the variants, in `base.out`/runs, and write sweep.json and report.html; a finished part is not repeated.

    Args:
        on_start: Called with the name of a variant and the step up to which it is trained next.
        callback: Called after every step of a variant, as in `zebra.workflows.train.run`.

    Raises:
        ConfigError: The directory holds another sweep, or the budget is too small.
        DataError: There is nothing to validate on, or all variants diverged.
    """
    if world_info_from_env().world_size > 1:
        raise ConfigError(
            "zebra sweep runs in one process. Start it without torchrun, or train each variant by itself."
        )
    out, variants = Path(config.base.out), {variant.name: variant for variant in config.variants}
    rungs, eval_every = plan(config, len(variants))
    definition = {
        "settings": {name: value for name, value in unstructure(config.base).items() if name not in ("out", "device")},
        "variants": [*variants],
        "steps": [rung.steps for rung in rungs],
    }
    state = SweepState(out, definition)
    with lock_folder(out, out / ".lock"):
        state.save()
        survivors = [*variants]
        is_finished = True
        for rung in rungs:
            if rung is not rungs[0]:
                survivors = state.select(survivors, rung.steps // 2, rung.num_variants)
            for name in survivors:
                if name in state.failures or str(rung.steps) in state.scores.get(name, {}):
                    continue
                on_start(name, rung.steps)
                is_finished = _train_to(config, variants[name], rung, rungs[-1].steps, eval_every, state, callback)
                if not is_finished:
                    break
            if not is_finished:
                break
            if len(state.failures) == len(variants):
                raise DataError(f"all variants diverged, such as {next(iter(state.failures.items()))}. Lower --lr.")
        results = _collect_results(variants, state, out, rungs[-1].steps)
        from zebra.report.sweep import write_sweep_page  # importing matplotlib takes a second

        write_sweep_page(out / REPORT_NAME, config.base.data, results, rungs)
    return SweepResult(results, is_finished, out / REPORT_NAME)


def plan(config: SweepConfig, num_variants: int) -> tuple[list[Rung], int]:
    """Return the rungs and the interval of validations.

    Raises:
        ConfigError: The budget is too small for the variants.
    """
    steps = config.base.steps if config.budget is None else fit_budget(num_variants, config.budget)
    assert steps is not None
    if steps < 2:
        raise ConfigError(
            f"a budget of {config.budget} steps is too small for {num_variants} variants; "
            f"give at least {count_steps(plan_rungs(num_variants, 16, 16)[0])}"
        )
    return plan_rungs(num_variants, steps, config.base.eval_every)


def _train_to(
    config: SweepConfig,
    variant: Variant,
    rung: Rung,
    total_steps: int,
    eval_every: int,
    state: SweepState,
    callback: Callback,
) -> bool:
    """Train a variant up to the rung and record its score; return False if the sweep is to stop."""
    run_dir = RunDir(_run_path(Path(config.base.out), variant))
    # A killed sweep may have trained a variant up to here without recording it.
    if _read_latest(run_dir)[0] < rung.steps or rung.steps == total_steps:
        train_config = config.with_length(variant, steps=total_steps, eval_every=eval_every, out=str(run_dir.path))
        pause_at = None if rung.steps == total_steps else rung.steps
        try:
            result = train.run(train_config, pause_at=pause_at, callback=callback)
        except DivergenceError as error:
            state.record_failure(variant.name, str(error))
            return True
        if result.steps < rung.steps:
            return False
    _, score = _read_latest(run_dir)
    if score is None:
        raise DataError(
            f"{config.base.data} has too few samples to hold any out, so variants cannot be compared. Set --eval-sets "
            "or a larger --val-fraction."
        )
    state.record(variant.name, rung.steps, score)
    return True


def _read_latest(run_dir: RunDir) -> tuple[int, float | None]:
    """Return step and score of the latest checkpoint; (0, None) without one."""
    checkpoint = latest_checkpoint(run_dir.checkpoints) if run_dir.checkpoints.is_dir() else None
    return (0, None) if checkpoint is None else read_score(checkpoint)


def _run_path(out: Path, variant: Variant) -> Path:
    return out / "runs" / variant.folder


def _collect_results(
    variants: Mapping[str, Variant], state: SweepState, out: Path, total_steps: int
) -> tuple[VariantResult, ...]:
    results = []
    for name, variant in variants.items():
        steps, score = max(
            ((int(steps), score) for steps, score in state.scores.get(name, {}).items()), default=(0, None)
        )
        note = state.failures.get(name, "")
        results.append(VariantResult(name, _run_path(out, variant), steps, score, note, steps == total_steps))
    return tuple(sorted(results, key=lambda result: (-result.steps, -(result.score or 0.0))))
