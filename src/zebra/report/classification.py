"""Report sections on classes: accuracy, confusion and the worst errors."""

from zebra.data.sources import Source
from zebra.evaluators.class_results import ClassAccuracy, ClassResults, ConfusedPair, worst_errors
from zebra.evaluators.results import TaskResult
from zebra.report.figures import plot_confusion_matrix
from zebra.report.page import Gallery, GalleryItem, ReportTable, Section
from zebra.report.style import format_percent, format_score
from zebra.report.thumbnails import load_thumbnail

MAX_CLASSES_IN_TABLE, NUM_WORST_CLASSES = 50, 20
"""Larger tables show only the least accurate classes."""
MAX_CLASSES_IN_MATRIX, MAX_CONFUSED_PAIRS = 30, 20
"""With more classes, a table of pairs takes the place of the matrix."""
MAX_ERRORS = 12


def class_sections(result: TaskResult, source: Source) -> list[Section]:
    """Build the sections of a zero-shot result with predictions, row n of which belongs to sample n of the source."""
    assert result.predictions is not None
    classes = ClassResults.from_predictions(result.predictions)
    sections = [_accuracy_section(result.dataset, classes.accuracies())]
    if pairs := classes.confused_pairs():
        sections += [_confusion_section(result.dataset, classes, pairs), _error_section(result, source)]
    return sections


def _accuracy_section(dataset: str, accuracies: list[ClassAccuracy]) -> Section:
    lowest, highest = accuracies[0], accuracies[-1]
    num_perfect = sum(entry.accuracy.value == 1 for entry in accuracies)
    summary = (
        f"Accuracy is lowest for “{lowest.name}” ({format_percent(lowest.accuracy.value)}) and highest for "
        f"“{highest.name}” ({format_percent(highest.accuracy.value)})."
    )
    if num_perfect == len(accuracies):
        summary = f"The model recognizes all {_count(num_perfect, 'class', 'classes')} without an error."
    elif num_perfect:
        summary += (
            f" The model recognizes {num_perfect:,} of {_count(len(accuracies), 'class', 'classes')} without an error."
        )
    shown = accuracies
    if len(accuracies) > MAX_CLASSES_IN_TABLE:
        shown = accuracies[:NUM_WORST_CLASSES]
        summary += f" The table shows the {NUM_WORST_CLASSES} least accurate classes."
    rows = tuple(
        (
            entry.name,
            format_score(entry.accuracy),
            f"{entry.accuracy.n:,}",
            f"{entry.most_confused.predicted} ({entry.most_confused.count:,})" if entry.most_confused else "",
        )
        for entry in shown
    )
    table = ReportTable(("class", "accuracy", "images", "most often taken for"), rows)
    return Section(f"Classes of {dataset}", summary, table)


def _confusion_section(dataset: str, classes: ClassResults, pairs: list[ConfusedPair]) -> Section:
    first = pairs[0]
    summary = (
        f"“{first.label}” is most often taken for “{first.predicted}”: {first.count:,} of "
        f"{_count(first.num_images, 'image', 'images')}. "
    )
    heading = f"Confused classes of {dataset}"
    if len(classes.names) <= MAX_CLASSES_IN_MATRIX:
        summary += "Rows are true classes, columns predicted classes, both in percent of the row."
        return Section(heading, summary, plot_confusion_matrix(classes.counts_CC, classes.names))
    shown = pairs[:MAX_CONFUSED_PAIRS]
    if len(pairs) > len(shown):
        summary += f"The table shows the {len(shown)} most frequent of {len(pairs):,} pairs."
    rows = tuple(
        (
            pair.label,
            pair.predicted,
            f"{pair.count:,} of {pair.num_images:,}",
            format_percent(pair.count / pair.num_images),
        )
        for pair in shown
    )
    return Section(heading, summary, ReportTable(("true class", "taken for", "images", "share"), rows))


def _error_section(result: TaskResult, source: Source) -> Section:
    assert result.predictions is not None
    rows = worst_errors(result.predictions, MAX_ERRORS)
    num_errors = result.predictions.num_rows - sum(result.predictions["correct"].to_pylist())
    items = []
    for index in rows:
        row = result.predictions.slice(index, 1).to_pylist()[0]
        shares = [row.get(f"{name}_probability") for name in ("label", "predicted")]
        label, predicted = (
            f"{name} {format_percent(share)}" if share is not None else name
            for name, share in zip((row["label_name"], row["predicted_name"]), shares, strict=True)
        )
        items.append(GalleryItem(load_thumbnail(source, index), label, f"taken for {predicted}"))
    summary = (
        f"{_count(num_errors, 'image is', 'images are')} taken for another class. These are the "
        f"{len(items)} whose predicted class surpasses the true class the most; percentages are the model's "
        "probabilities."
    )
    return Section(f"Worst errors on {result.dataset}", summary, Gallery(tuple(items)))


def _count(num: int, singular: str, plural: str) -> str:
    """Format a number with its noun.

    >>> _count(1, "class", "classes"), _count(2000, "class", "classes")
    ('1 class', '2,000 classes')
    """
    return f"{num:,} {singular if num == 1 else plural}"
