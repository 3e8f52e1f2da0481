"""`zebra study`: the paper's analyses of finished evaluations."""

from pathlib import Path

from zebra.config.study import (
    CorrelationStudyConfig,
    EfficiencyStudyConfig,
    GroupStudyConfig,
    HumanStudyConfig,
    PredictedStudyConfig,
    PromptStudyConfig,
    RobustnessStudyConfig,
    ScalingStudyConfig,
    StudyConfig,
    SupervisedStudyConfig,
    TransferStudyConfig,
)
from zebra.studies.efficiency import study_efficiency
from zebra.studies.groups import study_groups
from zebra.studies.humans import study_humans
from zebra.studies.predicted import study_predicted
from zebra.studies.probe_correlation import study_probe_correlation
from zebra.studies.prompts import study_prompts
from zebra.studies.result import StudyResult
from zebra.studies.robustness import study_robustness
from zebra.studies.scaling import study_scaling
from zebra.studies.supervised import study_supervised
from zebra.studies.transfer import study_transfer


def run(config: StudyConfig) -> StudyResult:
    """Run the study that the type of `config` selects.

    Raises:
        DataError: A run lacks results or predictions that the study needs, or an input file is damaged.
    """
    match config:
        case GroupStudyConfig():
            return study_groups(Path(config.run), config.dataset, Path(config.table), config.column)
        case HumanStudyConfig():
            return study_humans(Path(config.run), Path(config.dataset), Path(config.answers))
        case RobustnessStudyConfig():
            return study_robustness(
                [Path(path) for path in config.runs],
                config.reference_dataset,
                [Path(path) for path in config.models],
                config.shifted_datasets,
                None if config.baseline is None else Path(config.baseline),
            )
        case ScalingStudyConfig():
            run_dirs = [Path(path) for path in config.runs]
            return study_scaling(run_dirs, config.compute, config.unit, config.datasets)
        case SupervisedStudyConfig():
            return study_supervised(Path(config.run), Path(config.features))
        case PredictedStudyConfig():
            run_dir, table = Path(config.run), Path(config.table)
            return study_predicted(run_dir, config.dataset, table, config.column, config.labels)
        case EfficiencyStudyConfig():
            return study_efficiency(Path(config.run), config.datasets)
        case CorrelationStudyConfig():
            return study_probe_correlation(Path(config.run), config.datasets)
        case PromptStudyConfig():
            return study_prompts([Path(path) for path in config.runs], config.datasets, config.compute, config.unit)
        case TransferStudyConfig():
            baseline = None if config.baseline is None else Path(config.baseline)
            run_dirs = [Path(path) for path in config.runs]
            return study_transfer(run_dirs, config.datasets, config.compute, config.unit, baseline)
