"""Tests of human answers and accuracy."""

import numpy as np
import pytest
from scipy.stats import pearsonr

from zebra.errors import DataError
from zebra.protocols import human
from zebra.protocols.human import HumanAnswer, append_answer, compare_class_difficulty, evaluate_humans, read_answers
from zebra.protocols.metrics import proportion

CLASSES = ("beagle", "boxer", "pug")
LABELS = {"a": 0, "b": 0, "c": 1, "d": 2}
HEADER = "person,image,answer,shots\n"


def parse_answers(*answers, shots=0):
    """Parse answers of the form 'PERSON IMAGE CLASS'."""
    fields = [answer.split() for answer in answers]
    return [HumanAnswer(who, image, None if name == "?" else CLASSES.index(name), shots) for who, image, name in fields]


def write_file(path, text):
    path.write_text(text, encoding="utf-8")
    return path


# The file


def test_answers_can_be_unknown(tmp_path):
    path = write_file(tmp_path / "answers.csv", HEADER + "ann,a,pug,0\nbob,a,?,2\n")
    assert read_answers(path, CLASSES, LABELS) == (HumanAnswer("ann", "a", 2, 0), HumanAnswer("bob", "a", None, 2))


def test_a_byte_order_mark_before_the_header_is_ignored(tmp_path):
    path = write_file(tmp_path / "answers.csv", "\ufeff" + HEADER + "ann,a,pug,0\r\n")
    assert read_answers(path, CLASSES, LABELS) == (HumanAnswer("ann", "a", 2, 0),)


def test_a_person_can_answer_an_image_again_with_other_shots(tmp_path):
    path = write_file(tmp_path / "answers.csv", HEADER + "ann,a,pug,0\nann,a,beagle,1\n")
    assert len(read_answers(path, CLASSES, LABELS)) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ann,a,pug", "3 columns"),
        ("ann,a,pug,0,", "5 columns"),
        ("", "0 columns"),
        (" ,a,pug,0", "no person"),
        ("ann,z,pug,0", "no image 'z'"),
        ("ann,b,begle,0", "'begle' is neither a class nor .*Did you mean 'beagle'"),
        ("ann,b,,0", "'' is neither a class"),
        ("ann,b,pug,-1", "shots must be an integer of at least 0; got '-1'"),
        ("ann,b,pug,one", "got 'one'"),
        ("ann,a,boxer,0", "second answer of 'ann' to 'a' with 0 shots; the first is in line 2"),
        ('ann,b,"pug"x,0', "Each line must be"),
    ],
)
def test_the_number_of_an_invalid_line_is_named(tmp_path, line, message):
    path = write_file(tmp_path / "answers.csv", f"{HEADER}ann,a,pug,0\n{line}\nann,c,boxer,0\n")
    with pytest.raises(DataError, match=f"answers.csv:3: .*{message}"):
        read_answers(path, CLASSES, LABELS)


@pytest.mark.parametrize("text", ["", "person,image,answer\n", "image,person,answer,shots\nann,a,pug,0\n"])
def test_a_wrong_header_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"answers\.csv:1: the header must be person,image,answer,shots"):
        read_answers(write_file(tmp_path / "answers.csv", text), CLASSES, LABELS)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the answers .*answers\.csv"):
        read_answers(tmp_path / "answers.csv", CLASSES, LABELS)
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\xe9va,a,pug,0\n")
    with pytest.raises(DataError, match=r"cannot read the answers .*latin\.csv"):
        read_answers(tmp_path / "latin.csv", CLASSES, LABELS)


def test_appended_answers_are_read_back(tmp_path):
    names = ('say "cheese"', "one, two", "plain")
    answers = (HumanAnswer("Ann, B.", "a", 0, 0), HumanAnswer("Zoë", "b", 1, 1), HumanAnswer("ann", "c", None, 0))
    for answer in answers:
        append_answer(tmp_path / "answers.csv", answer, names)
    assert read_answers(tmp_path / "answers.csv", names, LABELS) == answers


def test_a_missing_last_newline_is_added_before_an_answer(tmp_path):
    path = write_file(tmp_path / "answers.csv", HEADER + "ann,a,pug,0")
    append_answer(path, HumanAnswer("ann", "b", 0, 0), CLASSES)
    assert path.read_text() == HEADER + "ann,a,pug,0\nann,b,beagle,0\n"


# Table 2


def test_the_four_columns_on_a_case_counted_by_hand():
    """Three people, four images.

    a (beagle): beagle beagle pug; b (beagle): ? ? beagle; c (boxer): boxer boxer ?; d (pug): pug boxer ?.
    """
    row = evaluate_humans(
        parse_answers(
            "ann a beagle", "bob a beagle", "cem a pug",
            "ann b ?", "bob b ?", "cem b beagle",
            "ann c boxer", "bob c boxer", "cem c ?",
            "ann d pug", "bob d boxer", "cem d ?",
        ),
        LABELS,
        shots=0,
    )  # fmt: skip
    assert (row.num_people, row.num_answers) == (3, 12)
    assert row.accuracy.value == pytest.approx((3 / 6 + 2 / 3 + 1 / 3) / 3)
    assert row.accuracy_on_guesses.value == pytest.approx((3 / 4 + 2 / 2 + 1 / 2) / 3)
    # The votes on d tie; of the beagles, the majority is correct on a and unknown on b.
    assert (row.majority_accuracy.value, row.num_ties) == (pytest.approx((1 / 2 + 1) / 2), 1)
    # Among guesses, the majority is correct on b, and the votes on d tie.
    assert (row.majority_accuracy_on_guesses.value, row.num_ties_on_guesses) == (1, 1)


def test_answers_with_other_shots_do_not_count():
    answers = parse_answers("ann a beagle") + parse_answers("ann a pug", shots=1)
    assert (evaluate_humans(answers, LABELS, 0).accuracy.value, evaluate_humans(answers, LABELS, 1).accuracy.value) == (
        1,
        0,
    )


def test_without_guesses_there_is_no_accuracy_on_guesses():
    row = evaluate_humans(parse_answers("ann a ?", "ann c ?"), LABELS, 0)
    assert (row.accuracy.value, row.majority_accuracy.value) == (0, 0)
    assert (row.accuracy_on_guesses, row.majority_accuracy_on_guesses) == (None, None)


def test_without_a_majority_there_is_no_majority_accuracy():
    row = evaluate_humans(parse_answers("ann a pug", "bob a beagle"), LABELS, 0)
    assert (row.majority_accuracy, row.num_ties) == (None, 1)


def test_no_answers_with_these_shots_is_an_error():
    with pytest.raises(DataError, match="no answers with 2 shots"):
        evaluate_humans(parse_answers("ann a pug"), LABELS, 2)


def simulate_answers(num_people, num_images, accuracy, seed=0):
    """Simulate people who answer all images; each image is easy or class_accuracy for everyone."""
    rng = np.random.default_rng(seed)
    labels = {f"p{n}": n % 3 for n in range(num_images)}
    is_easy = {image: rng.random() < accuracy for image in labels}
    return [
        HumanAnswer(f"person {who}", image, label if is_easy[image] else (label + 1) % 3, 0)
        for who in range(num_people)
        for image, label in labels.items()
    ], labels


def test_the_interval_is_over_images_and_not_over_answers():
    """Ten people who always agree give the interval of one person."""
    one, ten = (evaluate_humans(*simulate_answers(count, 90, 0.6), 0).accuracy for count in (1, 10))
    assert (ten.low, ten.high, ten.n) == (pytest.approx(one.low), pytest.approx(one.high), 90)


def test_the_interval_contains_the_truth_95_percent_of_the_time(monkeypatch):
    monkeypatch.setattr(human, "_NUM_RESAMPLES", 300)
    num_covered = 0
    for seed in range(100):
        score = evaluate_humans(*simulate_answers(1, 120, 0.7, seed), 0).accuracy
        num_covered += score.low <= 0.7 <= score.high
    assert 0.90 <= num_covered / 100 <= 0.99


def test_a_class_that_a_resample_misses_does_not_count_as_wrong():
    """With 40 classes of one image, a resample misses about a third of the classes."""
    labels = {f"p{n}": n for n in range(40)}
    answers = [HumanAnswer("ann", image, label if label else None, 0) for image, label in labels.items()]
    assert evaluate_humans(answers, labels, 0).accuracy.low > 0.85


def test_accuracy_1_has_an_interval():
    score = evaluate_humans(*simulate_answers(2, 9, 1.0), 0).accuracy
    assert score == proportion(9, 9)


# Fig. 16


def test_difficulty_compares_humans_and_model_on_the_same_images():
    answers = parse_answers("ann a pug", "bob a beagle", "ann c boxer", "ann d pug")
    result = compare_class_difficulty(answers, LABELS, {"a": True, "b": False, "c": False, "d": True}, CLASSES, 0)
    assert result.classnames[0] == "beagle"
    by_class = {
        name: (x.value, y.value)
        for name, x, y in zip(result.classnames, result.human_scores, result.model_scores, strict=True)
    }
    assert by_class == {"beagle": (0.5, 1), "boxer": (1, 0), "pug": (1, 1)}
    assert result.correlation is None


def test_the_correlation_is_pearsons_over_classes():
    rng = np.random.default_rng(0)
    names = tuple("abcdefgh")
    labels = {f"{n}": n % 8 for n in range(160)}
    class_accuracy = rng.random(8)
    answers = [HumanAnswer("ann", i, c if rng.random() < class_accuracy[c] else None, 0) for i, c in labels.items()]
    is_correct = {i: bool(rng.random() < class_accuracy[c]) for i, c in labels.items()}
    result = compare_class_difficulty(answers, labels, is_correct, names, 0)
    expected = pearsonr([score.value for score in result.human_scores], [score.value for score in result.model_scores])
    interval = expected.confidence_interval()
    assert result.correlation.value == pytest.approx(expected.statistic)
    assert (result.correlation.low, result.correlation.high) == (
        pytest.approx(interval.low),
        pytest.approx(interval.high),
    )
    assert [score.value for score in result.human_scores] == sorted(score.value for score in result.human_scores)


def test_difficulty_needs_a_prediction_for_every_image():
    with pytest.raises(DataError, match="no prediction for 'a'"):
        compare_class_difficulty(parse_answers("ann a pug"), LABELS, {"b": True}, CLASSES, 0)
    with pytest.raises(DataError, match="no answers with 1 shots"):
        compare_class_difficulty(parse_answers("ann a pug"), LABELS, {"a": True}, CLASSES, 1)
