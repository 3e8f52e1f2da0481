"""Zero-shot accuracy against supervised probes on other features (CLIP Fig. 5)."""

from pathlib import Path

from zebra.errors import DataError
from zebra.evaluators.features import read_features
from zebra.protocols.few_shot import subtract_probe_scores
from zebra.protocols.linear_probe import fit_linear_probe
from zebra.report import study_figures as figures
from zebra.report.page import Section
from zebra.studies.result import StudyResult
from zebra.studies.runs import PRIMARY_METRIC, load_predictions, load_top1_scores


def study_supervised(run_dir: Path, features_path: Path) -> StudyResult:
    """Compare a run's zero-shot accuracy with supervised probes on any other features (CLIP Fig. 5).

    Args:
        run_dir: A directory that `zebra evaluate` wrote.
        features_path: A Parquet file that `zebra.evaluators.features` reads; its datasets are compared.

    Raises:
        DataError: The run has no predictions on a dataset of the file, or predictions on other images.
    """
    zero_shot_scores, probe_scores, notes = {}, {}, []
    for name, (train, test) in read_features(features_path).items():
        predictions = load_predictions(run_dir, name)
        if set(predictions["id"].to_pylist()) != set(test.ids):
            raise DataError(
                f"the test features of {name} in {features_path} ({len(test.ids)} images) and the predictions of "
                f"{run_dir} ({len(predictions)} images) are not of the same images. Use the ids of the predictions."
            )
        assert train.labels is not None and test.labels is not None
        num_classes = int(max(train.labels.max(), test.labels.max())) + 1
        probe = fit_linear_probe(train, test, num_classes)
        probe_scores[name] = probe.result.scores()[PRIMARY_METRIC]
        zero_shot_scores[name] = load_top1_scores(run_dir)[name]
        notes.append(f"{name}: {len(train.ids):,} training features, λ = {probe.probe.l2_penalty:.3g}")
    differences = subtract_probe_scores(zero_shot_scores, probe_scores)
    num_better = sum(difference.value > 0 for difference in differences.values())
    summary = (
        "Zero-shot accuracy minus the accuracy of a linear probe, which was trained on labeled features from "
        f"{features_path.name}. Zero-shot classification is better on {num_better} of {len(differences)} datasets."
    )
    scores = {"zero-shot": zero_shot_scores, "probe": probe_scores, "difference": differences}
    section = Section(
        "Zero-shot against full supervision",
        summary,
        figures.plot_differences(differences, "zero-shot minus probe accuracy, in points"),
    )
    return StudyResult("Zero-shot against a supervised probe", scores, tuple(notes), (section,))
