"""Settings of `zebra study`, one class for each kind of study."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupStudyConfig:
    """Accuracy by group: of each group, of the worst group, and the gap (CLIP §7)."""

    run: str
    """A directory that `zebra evaluate` wrote."""
    dataset: str
    """Name of the dataset, as in metrics.json."""
    table: str
    """CSV, TSV, JSONL or Parquet with image ids in the column `id`; or the table that was evaluated."""
    column: str
    """The column that names the group of each image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HumanStudyConfig:
    """Human answers and the model's predictions on the same images (CLIP Table 2, Fig. 16)."""

    run: str
    """A directory that `zebra evaluate` wrote for the dataset."""
    dataset: str
    """The CLIP_benchmark folder of the quiz."""
    answers: str
    """The CSV file of answers from `zebra human` or the quiz page of `zebra serve`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustnessStudyConfig:
    """Effective and relative robustness under distribution shifts (CLIP Fig. 13)."""

    runs: tuple[str, ...]
    """Runs of at least three reference models, trained on the reference dataset."""
    reference_dataset: str
    """Name of the dataset without a shift."""
    models: tuple[str, ...] = ()
    """Runs of the models to evaluate against the line of the reference models."""
    shifted_datasets: tuple[str, ...] = ()
    """Names of the datasets with a shift; by default all others that every run has."""
    baseline: str | None = None
    """The run that relative robustness is measured from; by default the first reference run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalingStudyConfig:
    """Error against compute on log-log axes for a family of runs (CLIP Fig. 9)."""

    runs: tuple[str, ...]
    """At least three directories that `zebra evaluate` wrote."""
    compute: tuple[float, ...]
    """The compute of each run, in the same order."""
    unit: str = "GFLOP per image"
    """Unit of `compute`, for the axis label."""
    datasets: tuple[str, ...] = ()
    """Names of the datasets whose errors are averaged; by default all that every run has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedStudyConfig:
    """Zero-shot accuracy against a supervised linear probe on other features (CLIP Fig. 5)."""

    run: str
    """A directory that `zebra evaluate` wrote."""
    features: str
    """A Parquet file with the columns dataset, split, id, label and vector."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EfficiencyStudyConfig:
    """Labels per class of a linear probe that equals zero-shot (CLIP Fig. 7)."""

    run: str
    """A directory that `zebra evaluate --tasks few-shot,linear-probe` wrote."""
    datasets: tuple[str, ...] = ()
    """Names of datasets; by default all that have few-shot probes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorrelationStudyConfig:
    """Zero-shot against linear probe over datasets: correlation and slope (CLIP Fig. 8)."""

    run: str
    """A directory that `zebra evaluate --tasks zero-shot,linear-probe` wrote."""
    datasets: tuple[str, ...] = ()
    """Names of datasets; by default all that have both scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptStudyConfig:
    """Gain of prompt engineering and ensembling by dataset and model (CLIP Fig. 4)."""

    runs: tuple[str, ...]
    """Directories that `zebra evaluate --tasks zero-shot,prompts` wrote."""
    datasets: tuple[str, ...] = ()
    """Names of datasets; by default all that every run has."""
    compute: tuple[float, ...] = ()
    """The compute of each run, in the same order; none: no figure against compute."""
    unit: str = "GFLOP per image"
    """Unit of `compute`, for the axis label."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferStudyConfig:
    """Linear-probe scores of several models: averages, the best, differences (CLIP Table 10, Figs. 10 to 12)."""

    runs: tuple[str, ...]
    """Directories that `zebra evaluate --tasks linear-probe` wrote."""
    datasets: tuple[str, ...] = ()
    """Names of datasets; by default all that every run has."""
    compute: tuple[float, ...] = ()
    """The compute of each run, in the same order; none: no figure against compute."""
    unit: str = "GFLOP per image"
    """Unit of `compute`, for the axis label."""
    baseline: str | None = None
    """The run that the others are compared with; by default the best on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedStudyConfig:
    """How often labels are predicted in each group of images (CLIP Tables 6 and 7)."""

    run: str
    """A directory that `zebra evaluate` wrote."""
    dataset: str
    """Name of the dataset, as in metrics.json."""
    table: str
    """CSV, TSV, JSONL or Parquet with image ids in the column `id`; or the table that was evaluated."""
    column: str
    """The column that names the group of each image."""
    labels: tuple[str, ...]
    """Names of classes whose predictions are counted together."""


StudyConfig = (
    GroupStudyConfig
    | HumanStudyConfig
    | RobustnessStudyConfig
    | ScalingStudyConfig
    | SupervisedStudyConfig
    | EfficiencyStudyConfig
    | CorrelationStudyConfig
    | PromptStudyConfig
    | TransferStudyConfig
    | PredictedStudyConfig
)
