"""Tests of `zebra human`."""

import io

import pytest
from PIL import Image

from zebra.cli import human as verb
from zebra.cli.main import EXIT_ERROR, EXIT_OK, EXIT_RESUMABLE, main
from zebra.config.human import HumanConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import ConfigError, DataError
from zebra.protocols.human import read_answers
from zebra.workflows import human
from zebra.workflows.human import parse_class_answer

CLASSES = ("red", "reddish", "blue")
COLORS = ((220, 30, 30), (200, 90, 80), (30, 60, 220))


def encode_png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), color).save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(folder, each=4, split="test"):
    samples = [(encode_png(COLORS[number % 3]), "png", number % 3) for number in range(3 * each)]
    write_classification(folder, samples, CLASSES, ["a photo of {c}."], split)
    return folder


@pytest.fixture
def dataset(tmp_path):
    """Twelve images of three classes."""
    return write_dataset(tmp_path / "colors")


def open_quiz(dataset, out, person, **options):
    return human.run(HumanConfig(dataset=str(dataset), out=str(out), person=person, **options))


def answer_all(quiz, label=0):
    for position in quiz.questions:
        quiz.save_answer(quiz.read_question(position), label)


# Questions


def test_every_image_is_asked_once_in_an_order_that_depends_on_the_person(dataset, tmp_path):
    orders = [open_quiz(dataset, tmp_path / "a.csv", who).questions for who in ("ann", "ann", "bob")]
    assert orders[0] == orders[1] != orders[2]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert open_quiz(dataset, tmp_path / "a.csv", "ann", seed=1).questions != orders[0]


def test_a_quiz_continues_after_the_answers_in_the_file(dataset, tmp_path):
    first = open_quiz(dataset, tmp_path / "a.csv", "ann")
    for position in first.questions[:5]:
        first.save_answer(first.read_question(position), 0)
    second = open_quiz(dataset, tmp_path / "a.csv", "ann")
    assert (second.questions, second.num_answered) == (first.questions[5:], 5)


def test_the_answers_may_go_into_a_new_folder_or_an_empty_file(dataset, tmp_path):
    answer_all(open_quiz(dataset, tmp_path / "new" / "a.csv", "ann"))
    (tmp_path / "empty.csv").touch()
    answer_all(open_quiz(dataset, tmp_path / "empty.csv", "ann"))
    assert (tmp_path / "new" / "a.csv").read_text() == (tmp_path / "empty.csv").read_text()


def test_images_that_others_answered_or_with_other_shots_are_still_asked(dataset, tmp_path):
    answer_all(open_quiz(dataset, tmp_path / "a.csv", "ann"))
    assert len(open_quiz(dataset, tmp_path / "a.csv", "bob").questions) == 12
    assert len(open_quiz(dataset, tmp_path / "a.csv", "ann", shots=1).questions) == 9


def test_examples_of_the_same_split_are_shown_and_not_asked(dataset, tmp_path):
    quiz = open_quiz(dataset, tmp_path / "a.csv", "ann", shots=2)
    assert [[image.getpixel((0, 0)) for image in row] for row in quiz.examples] == [[c, c] for c in COLORS]
    asked = [quiz.read_question(position).label for position in quiz.questions]
    assert sorted(asked) == [0, 0, 1, 1, 2, 2]


def test_with_a_training_split_every_test_image_is_asked(dataset, tmp_path):
    write_dataset(dataset, each=1, split="train")
    quiz = open_quiz(dataset, tmp_path / "a.csv", "ann", shots=1)
    assert (len(quiz.examples), len(quiz.questions)) == (3, 12)


def test_two_shots_include_the_one_shot(dataset, tmp_path):
    """So the questions after two shots are a subset of those after one, as in the paper."""
    one, two = (set(open_quiz(dataset, tmp_path / "a.csv", "ann", shots=k).questions) for k in (1, 2))
    assert two < one


def test_everyone_sees_the_same_examples(dataset, tmp_path):
    question_sets = [
        set(open_quiz(dataset, tmp_path / "a.csv", who, shots=1).questions) for who in ("ann", "bob", "cem")
    ]
    assert question_sets[0] == question_sets[1] == question_sets[2]


def test_the_table_includes_everyone_in_the_file_by_shots(dataset, tmp_path):
    answer_all(open_quiz(dataset, tmp_path / "a.csv", "ann"), label=0)
    answer_all(open_quiz(dataset, tmp_path / "a.csv", "bob"), label=None)
    quiz = open_quiz(dataset, tmp_path / "a.csv", "bob", shots=1)
    for position in quiz.questions:
        record = quiz.read_question(position)
        quiz.save_answer(record, record.label)
    table = quiz.evaluate_answers()
    assert {shots: row.num_people for shots, row in table.items()} == {0: 2, 1: 1}
    assert table[0].accuracy.value == pytest.approx(1 / 6)
    assert table[0].accuracy_on_guesses.value == pytest.approx(1 / 3)
    assert table[1].accuracy.value == 1


def test_an_invalid_quiz_is_refused(dataset, tmp_path):
    with pytest.raises(ConfigError, match="--person is empty"):
        open_quiz(dataset, tmp_path / "a.csv", " ")
    with pytest.raises(ConfigError, match="--shots must be 0 or more; got -1"):
        open_quiz(dataset, tmp_path / "a.csv", "ann", shots=-1)
    with pytest.raises(DataError, match="the class 'red' has 4 images in colors; 4 shots need 5"):
        open_quiz(dataset, tmp_path / "a.csv", "ann", shots=4)
    (tmp_path / "a.csv").write_text("person,image,answer,shots\nann,elsewhere,red,0\n")
    with pytest.raises(DataError, match=r"a\.csv:2: no image 'elsewhere'"):
        open_quiz(dataset, tmp_path / "a.csv", "ann")


# Answers


@pytest.mark.parametrize(
    ("text", "label"), [("blue", 2), (" BLUE ", 2), ("b", 2), ("redd", 1), ("RED", 0), ("1", 0), ("3", 2), ("?", None)]
)
def test_an_answer_is_a_name_a_prefix_or_a_number(text, label):
    assert parse_class_answer(text, CLASSES) == label


@pytest.mark.parametrize(
    ("text", "message"),
    [("re", "is ambiguous: red, reddish"), ("0", "no class '0'"), ("4", "no class '4'"), ("", "no class ''"),
     ("bleu", "Did you mean 'blue'"), ("redder", "no class")],
)  # fmt: skip
def test_an_unknown_or_ambiguous_answer_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_class_answer(text, CLASSES)


def test_class_numbers_are_not_accepted_if_class_names_are_numbers():
    digits = [str(number) for number in range(10)]
    assert parse_class_answer("1", digits) == 1
    with pytest.raises(ConfigError, match="no class '10'"):
        parse_class_answer("10", digits)


# The terminal


@pytest.fixture
def typed(monkeypatch):
    """Return a function that types answers into the quiz, then Ctrl-C."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def start(*texts):
        remaining = iter(texts)

        def answer(_prompt):
            for text in remaining:
                return text
            raise KeyboardInterrupt

        monkeypatch.setattr("builtins.input", answer)

    return start


def run_command(dataset, out, *options):
    return main(["human", str(dataset), "--out", str(out), "--person", "ann", *options])


def test_a_session_saves_every_answer_and_ends_with_the_table(dataset, tmp_path, typed, capsys):
    typed(*["b"] * 12)
    assert run_command(dataset, tmp_path / "a.csv") == EXIT_OK
    output = capsys.readouterr().out
    assert "12 of 12" in output
    assert "accuracy              33.3%" in output
    assert (tmp_path / "a.csv").read_text().count(",blue,0\n") == 12


def test_ctrl_c_keeps_the_answers_and_the_same_command_continues(dataset, tmp_path, typed, capsys):
    typed("b", "?")
    assert run_command(dataset, tmp_path / "a.csv") == EXIT_RESUMABLE
    assert "all answers are in" in capsys.readouterr().err
    typed(*["1"] * 10)
    assert run_command(dataset, tmp_path / "a.csv") == EXIT_OK
    output = capsys.readouterr().out
    assert "ann has answered 2 images" in output
    assert "3 of 12" in output
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 13


def test_a_mistyped_class_is_asked_again(dataset, tmp_path, typed, capsys):
    typed("re", "")
    run_command(dataset, tmp_path / "a.csv")
    output = capsys.readouterr().out
    assert "is ambiguous: red, reddish" in output
    assert output.count("1 red") == 2  # listed at the start, and for Enter
    assert not (tmp_path / "a.csv").exists()


def test_the_image_is_saved_to_a_file(dataset, tmp_path, capsys, monkeypatch):
    colors = []

    def open_image(_prompt):
        path = capsys.readouterr().out.split()[-1]
        colors.append(Image.open(path).convert("RGB").getpixel((0, 0)))
        raise EOFError

    monkeypatch.setattr("builtins.input", open_image)
    assert run_command(dataset, tmp_path / "a.csv") == EXIT_RESUMABLE
    first = open_quiz(dataset, tmp_path / "a.csv", "ann")
    assert colors == [COLORS[first.read_question(first.questions[0]).label]]


def test_shots_are_shown_on_a_sheet_beside_the_answers(dataset, tmp_path, typed, capsys):
    typed()
    run_command(dataset, tmp_path / "a.csv", "--shots", "1")
    sheet = tmp_path / "a-examples-1.png"
    assert str(sheet) in capsys.readouterr().out
    assert set(COLORS) <= {color for _, color in Image.open(sheet).getcolors(100_000)}


def test_an_image_can_be_opened_if_there_is_a_screen(dataset, tmp_path, typed, monkeypatch, capsys):
    opened = []
    typed("!")
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(verb.webbrowser, "open", opened.append)
    run_command(dataset, tmp_path / "a.csv")
    assert "! opens the image" in capsys.readouterr().out
    assert [url.startswith("file:") and url.endswith("image-1.png") for url in opened] == [True]


def test_the_preview_shows_two_pixels_in_each_half_block(capsys, monkeypatch):
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    image = Image.new("RGB", (8, 2), (10, 20, 30))
    image.paste((200, 100, 50), (0, 1, 8, 2))
    verb._print_preview(image, width=8)
    assert "38;2;10;20;30;48;2;200;100;50m▀" in capsys.readouterr().out


def test_an_error_is_one_message(dataset, tmp_path, typed, capsys):
    typed()
    assert run_command(dataset, tmp_path / "a.csv", "--shots", "9") == EXIT_ERROR
    assert capsys.readouterr().err.startswith("zebra human: the class 'red' has 4 images")


def test_ids_in_the_file_are_those_of_the_dataset(dataset, tmp_path, typed):
    typed("b")
    run_command(dataset, tmp_path / "a.csv")
    quiz = open_quiz(dataset, tmp_path / "a.csv", "bob")
    (answer,) = read_answers(tmp_path / "a.csv", CLASSES, quiz.dataset.labels)
    assert answer.image_id in {quiz.read_question(position).id for position in range(12)}
