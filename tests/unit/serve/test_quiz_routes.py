"""Tests of the quiz over HTTP: the same questions and the same scores as on the command line."""

import csv
import io
import json
import subprocess
from functools import partial

import pytest

pytest.importorskip("fastapi")

import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from zebra.config.human import HumanConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import ConfigError
from zebra.evaluators.quiz_dataset import QuizDataset
from zebra.images.preprocess import Preprocess
from zebra.protocols.human import evaluate_humans, read_answers
from zebra.serve import errors, quiz_answers
from zebra.serve.errors import HTTPError
from zebra.serve.quiz_answers import classify_quiz
from zebra.serve.quiz_routes import quiz_router
from zebra.workflows import human

CLASSES = ("red", "dark red", "blue")
COLORS = ((220, 30, 30), (120, 10, 10), (30, 60, 220))


def png(color, number):
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 16), color)
    image.putpixel((number % 24, 0), (number, 0, 0))  # makes every image different
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_dataset(path, num_per_class=4, split="test"):
    samples = [(png(COLORS[number % 3], number), "png", number % 3) for number in range(3 * num_per_class)]
    write_classification(path, samples, CLASSES, ["a photo of {c}."], split)
    return path


class ColorModel:
    """A model that tells red from blue, and classifies dark red as red."""

    fingerprint = ""
    templates = ("{}",)
    device = torch.device("cpu")
    preprocess = Preprocess(16)

    def encode_pixels(self, pixels):
        red, _, blue = pixels.float().mean(dim=(2, 3)).unbind(1)
        return torch.where((red > blue)[:, None], torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0]))

    def class_vectors(self, labels, templates):
        return torch.eye(3)


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(tmp_path / "colors")


def create_client(*paths, classify=None):
    app = FastAPI()
    errors.add_exception_handlers(app)
    app.include_router(quiz_router(paths, classify or partial(classify_quiz, ColorModel())))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client(dataset):
    return create_client(dataset)


def start(client, person="ann", shots=0):
    return client.post("/v1/quiz/colors/start", json={"person": person, "shots": shots}).json()


def score(client, *answers, person="ann", shots=0):
    items = [{"image": image, "answer": answer, "shots": shots} for image, answer in answers]
    return client.post("/v1/quiz/colors/score", json={"person": person, "answers": items})


def correct_answers(path):
    dataset = QuizDataset(path)
    return {image: dataset.classnames[label] for image, label in dataset.labels.items()}


def test_a_dataset_is_described(client):
    assert client.get("/v1/quiz/colors").json() == {
        "name": "colors", "classes": list(CLASSES), "num_images": 12, "max_shots": 2,
    }  # fmt: skip


def test_the_questions_and_their_order_are_those_of_the_command_line(client, dataset, tmp_path):
    for person, shots in (("ann", 0), ("bob", 0), ("ann", 2)):
        quiz = human.run(HumanConfig(dataset=str(dataset), out=str(tmp_path / "a.csv"), person=person, shots=shots))
        questions = [quiz.read_question(position).id for position in quiz.questions]
        assert start(client, person, shots)["questions"] == questions
    assert start(client, "ann")["questions"] != start(client, "bob")["questions"]


def test_examples_are_listed_by_class_and_are_not_questions(client, dataset):
    quiz = start(client, shots=2)
    assert [(each["label"], len(each["images"])) for each in quiz["examples"]] == [(name, 2) for name in CLASSES]
    examples = {client.get(url).content for each in quiz["examples"] for url in each["images"]}
    questions = {client.get(f"/v1/quiz/colors/images/{name}").content for name in quiz["questions"]}
    assert (len(examples), len(questions), examples & questions) == (6, 6, set())
    assert start(client)["examples"] == []


def test_examples_from_a_train_split_leave_all_test_images_as_questions(dataset):
    write_dataset(dataset, num_per_class=9, split="train")
    client = create_client(dataset)
    quiz = start(client, shots=1)
    assert len(quiz["questions"]) == 12
    train = {png(COLORS[number % 3], number) for number in range(27)}
    assert {client.get(each["images"][0]).content for each in quiz["examples"]} <= train


def test_an_image_is_served_unchanged_and_only_by_its_id(client, dataset):
    name = start(client)["questions"][0]
    response = client.get(f"/v1/quiz/colors/images/{name.replace('/', '%2F')}")
    assert (response.headers["content-type"], response.content[:4]) == ("image/png", b"\x89PNG")
    for other in ("elsewhere", "../classnames.txt", "..%2F..%2Fclassnames.txt", "%2Fetc%2Fpasswd", "0.tar"):
        assert client.get(f"/v1/quiz/colors/images/{other}").status_code == 404


def test_a_person_is_compared_with_the_model(client, dataset):
    """Ann never knows blue; the model never knows dark red."""
    answers = [(image, "?" if name == "blue" else name) for image, name in correct_answers(dataset).items()]
    (result,) = score(client, *answers).json()["results"]
    assert (result["shots"], result["num_people"], result["num_answers"]) == (0, 1, 12)
    assert result["accuracy"]["value"] == result["majority"]["value"] == pytest.approx(2 / 3)
    assert result["on_guesses"]["value"] == result["majority_on_guesses"]["value"] == 1
    assert result["model"]["value"] == pytest.approx(2 / 3)
    assert result["accuracy"]["low"] <= 2 / 3 <= result["accuracy"]["high"]
    by_class = {each["label"]: (each["people"]["value"], each["model"]["value"]) for each in result["classes"]}
    assert by_class == {"blue": (0, 1), "red": (1, 1), "dark red": (1, 0)}
    assert result["classes"][0]["label"] == "blue"


def test_each_number_of_shots_has_its_own_result(client, dataset):
    first_answers = list(correct_answers(dataset).items())[:6]
    items = [
        {"image": image, "answer": name, "shots": shots, "person": person}
        for image, name in first_answers
        for person, shots in (("ann", 0), ("bob", 0), ("ann", 1))
    ]
    body = client.post("/v1/quiz/colors/score", json={"person": "ann", "answers": items}).json()
    assert [(each["shots"], each["num_people"], each["num_answers"]) for each in body["results"]] == [
        (0, 2, 12),
        (1, 1, 6),
    ]


def test_the_scores_equal_those_of_the_exported_file(client, dataset, tmp_path):
    answers = [(image, "red") for image in start(client)["questions"][:7]]
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("person", "image", "answer", "shots"))
        writer.writerows(("ann", image, answer, 0) for image, answer in answers)
    labels = QuizDataset(dataset).labels
    row = evaluate_humans(read_answers(path, CLASSES, labels), labels, 0)
    (result,) = score(client, *answers).json()["results"]
    assert result["accuracy"]["value"] == row.accuracy.value
    assert result["accuracy"]["low"] == row.accuracy.low


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("elsewhere", "red"), "answer 1: dataset colors has no image 'elsewhere'"),
        (
            ("0.tar/s0000000", "rad"),
            "answer 1: no class 'rad'. Give a class name, or ? for \"I don't know\". Did you mean 'red'?",
        ),
    ],
)
def test_an_invalid_answer_is_named(client, answer, message):
    response = score(client, answer)
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)


def test_a_second_answer_to_an_image_is_rejected(client):
    first = start(client)["questions"][0]
    response = score(client, (first, "red"), (first, "blue"))
    assert "answer 2: 'ann' has already answered" in response.json()["error"]["message"]


@pytest.mark.parametrize("body", [{}, {"person": ""}, {"person": "ann", "shots": 3}, {"person": "ann", "seed": 1}])
def test_an_invalid_request_is_rejected(client, body):
    assert client.post("/v1/quiz/colors/start", json=body).status_code == 422


def test_an_unknown_dataset_suggests_the_nearest_name(client):
    response = client.get("/v1/quiz/color")
    assert response.status_code == 404
    assert "Did you mean 'colors'" in response.json()["error"]["message"]


def test_two_datasets_with_one_name_are_rejected(dataset, tmp_path):
    with pytest.raises(ConfigError, match="two quiz datasets are called colors"):
        create_client(dataset, write_dataset(tmp_path / "other" / "colors"))


def test_while_the_model_cannot_be_loaded_only_scores_are_unavailable(dataset):
    def fail(_dataset):
        raise HTTPError(503, "the model cannot be loaded", retry_after_seconds=2)

    client = create_client(dataset, classify=fail)
    image = start(client)["questions"][0]
    response = score(client, (image, "red"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")


def test_the_process_of_the_answers_prints_what_the_model_answers(dataset, monkeypatch, capsys):
    monkeypatch.setattr("zebra.pretrained.load.load", lambda model, device: {("m", "cpu"): ColorModel()}[model, device])
    quiz_answers.main(["m", str(dataset), "cpu"])
    printed = capsys.readouterr().out
    expected = classify_quiz(ColorModel(), QuizDataset(dataset))
    assert json.loads(printed) == expected
    assert set(expected.values()) == {True, False}
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, printed, ""))
    assert quiz_answers.classify_in_process("m", "cpu", QuizDataset(dataset)) == expected


def test_a_process_that_fails_is_logged_and_the_answers_are_unavailable(dataset, monkeypatch, caplog):
    failed = subprocess.CompletedProcess([], 1, "", "no model folder")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(HTTPError) as error:
        quiz_answers.classify_in_process("m", "cpu", QuizDataset(dataset))
    assert (error.value.status_code, "no model folder" in str(error.value)) == (503, False)
    assert "no model folder" in caplog.text
