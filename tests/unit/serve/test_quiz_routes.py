"""People against the model over HTTP: the same questions, the same table as in the terminal."""

import csv
import io

import pytest

pytest.importorskip("fastapi")

import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from zebra.config.human import HumanConfig
from zebra.data.benchmarks.writer import write_classification
from zebra.errors import ConfigError
from zebra.evaluators.human import QuizDataset
from zebra.protocols.human import evaluate_humans, read_answers
from zebra.serve import errors
from zebra.serve.errors import HTTPError
from zebra.serve.quiz_routes import quiz_router
from zebra.workflows import human

CLASSES = ("red", "dark red", "blue")
COLOURS = ((220, 30, 30), (120, 10, 10), (30, 60, 220))


def png(colour, number):
    buffer = io.BytesIO()
    image = Image.new("RGB", (24, 16), colour)
    image.putpixel((number % 24, 0), (number, 0, 0))  # no two are equal
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write(folder, each=4, split="test"):
    samples = [(png(COLOURS[number % 3], number), "png", number % 3) for number in range(3 * each)]
    write_classification(folder, samples, CLASSES, ["a photo of {c}."], split)
    return folder


class Colourist:
    """A model that knows red from blue, and takes dark red for red."""

    fingerprint = ""

    def encode_images(self, images, *, projected=True):
        first = [Image.open(io.BytesIO(data)).convert("RGB").getpixel((5, 9)) for data in images]
        return torch.tensor([[1.0, 0, 0] if r > b else [0, 0, 1.0] for r, _, b in first])

    def class_vectors(self, labels, templates):
        return torch.eye(3)


@pytest.fixture
def dataset(tmp_path):
    return write(tmp_path / "colours")


def serve(*folders, model=Colourist):
    app = FastAPI()
    errors.add_exception_handlers(app)
    app.include_router(quiz_router(folders, model))
    return TestClient(app, raise_server_exceptions=False)


@pytest.fixture
def client(dataset):
    return serve(dataset)


def start(client, person="ann", shots=0):
    return client.post("/v1/quiz/colours/start", json={"person": person, "shots": shots}).json()


def score(client, *answers, person="ann", shots=0):
    said = [{"image": image, "answer": answer, "shots": shots} for image, answer in answers]
    return client.post("/v1/quiz/colours/score", json={"person": person, "answers": said})


def truth(dataset):
    asked = QuizDataset(dataset)
    return {image: asked.classnames[label] for image, label in asked.labels.items()}


def test_a_set_says_what_it_holds(client):
    assert client.get("/v1/quiz/colours").json() == {
        "name": "colours", "classes": list(CLASSES), "num_images": 12, "max_shots": 2,
    }  # fmt: skip


def test_everyone_is_asked_what_the_terminal_asks_in_the_same_order(client, dataset, tmp_path):
    for person, shots in (("ann", 0), ("bob", 0), ("ann", 2)):
        quiz = human.run(
            HumanConfig(dataset=str(dataset), out=str(tmp_path / "a.csv"), person=person, shots=shots)
        )
        asked = [quiz.read_question(position).id for position in quiz.questions]
        assert start(client, person, shots)["questions"] == asked
    assert start(client, "ann")["questions"] != start(client, "bob")["questions"]


def test_examples_are_shown_by_class_and_not_asked(client, dataset):
    begun = start(client, shots=2)
    assert [(each["label"], len(each["images"])) for each in begun["examples"]] == [
        (name, 2) for name in CLASSES
    ]
    shown = {client.get(address).content for each in begun["examples"] for address in each["images"]}
    asked = {client.get(f"/v1/quiz/colours/images/{name}").content for name in begun["questions"]}
    assert (len(shown), len(asked), shown & asked) == (6, 6, set())
    assert start(client)["examples"] == []


def test_examples_of_a_split_of_their_own_leave_all_to_be_asked(dataset):
    write(dataset, each=9, split="train")
    client = serve(dataset)
    begun = start(client, shots=1)
    assert len(begun["questions"]) == 12
    train = {png(COLOURS[number % 3], number) for number in range(27)}
    assert {client.get(each["images"][0]).content for each in begun["examples"]} <= train


def test_a_picture_comes_as_it_is_and_only_by_its_id(client, dataset):
    name = start(client)["questions"][0]
    answer = client.get(f"/v1/quiz/colours/images/{name.replace('/', '%2F')}")
    assert (answer.headers["content-type"], answer.content[:4]) == ("image/png", b"\x89PNG")
    for other in ("elsewhere", "../classnames.txt", "..%2F..%2Fclassnames.txt", "%2Fetc%2Fpasswd", "0.tar"):
        assert client.get(f"/v1/quiz/colours/images/{other}").status_code == 404


def test_a_persons_score_stands_beside_the_models(client, dataset):
    """Ann knows reds, never blue; the model knows red and blue, never dark red."""
    answers = [(image, "?" if name == "blue" else name) for image, name in truth(dataset).items()]
    (standing,) = score(client, *answers).json()["results"]
    assert (standing["shots"], standing["num_people"], standing["num_answers"]) == (0, 1, 12)
    assert standing["accuracy"]["value"] == standing["majority"]["value"] == pytest.approx(2 / 3)
    assert standing["on_guesses"]["value"] == standing["majority_on_guesses"]["value"] == 1
    assert standing["model"]["value"] == pytest.approx(2 / 3)
    assert standing["accuracy"]["low"] <= 2 / 3 <= standing["accuracy"]["high"]
    by_class = {
        each["label"]: (each["people"]["value"], each["model"]["value"]) for each in standing["classes"]
    }
    assert by_class == {"blue": (0, 1), "red": (1, 1), "dark red": (1, 0)}
    assert standing["classes"][0]["label"] == "blue"


def test_answers_of_several_people_and_shots_make_one_table_each(client, dataset):
    some = list(truth(dataset).items())[:6]
    said = [
        {"image": image, "answer": name, "shots": shots, "person": person}
        for image, name in some
        for person, shots in (("ann", 0), ("bob", 0), ("ann", 1))
    ]
    body = client.post("/v1/quiz/colours/score", json={"person": "ann", "answers": said}).json()
    assert [(each["shots"], each["num_people"], each["num_answers"]) for each in body["results"]] == [
        (0, 2, 12),
        (1, 1, 6),
    ]


def test_the_table_is_that_of_the_exported_file(client, dataset, tmp_path):
    answers = [(image, "red") for image in start(client)["questions"][:7]]
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("person", "image", "answer", "shots"))
        writer.writerows(("ann", image, answer, 0) for image, answer in answers)
    labels = QuizDataset(dataset).labels
    row = evaluate_humans(read_answers(path, CLASSES, labels), labels, 0)
    (standing,) = score(client, *answers).json()["results"]
    assert standing["accuracy"]["value"] == row.accuracy.value
    assert standing["accuracy"]["low"] == row.accuracy.low


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("elsewhere", "red"), "answer 1: dataset colours has no image 'elsewhere'"),
        (
            ("0.tar/s0000000", "rad"),
            "answer 1: no class 'rad'. Give a class name, or ? for \"I don't know\". Did you mean 'red'?",
        ),
    ],
)
def test_an_answer_that_cannot_be_one_is_named(client, answer, message):
    refused = score(client, answer)
    assert (refused.status_code, refused.json()["error"]["message"]) == (400, message)


def test_a_second_answer_to_a_picture_is_refused(client):
    first = start(client)["questions"][0]
    refused = score(client, (first, "red"), (first, "blue"))
    assert "answer 2: 'ann' has already answered" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [{}, {"person": ""}, {"person": "ann", "shots": 3}, {"person": "ann", "seed": 1}]
)
def test_what_is_no_request_is_refused(client, body):
    assert client.post("/v1/quiz/colours/start", json=body).status_code == 422


def test_an_unknown_set_is_told_with_the_nearest_name(client):
    refused = client.get("/v1/quiz/colour")
    assert refused.status_code == 404
    assert "Did you mean 'colours'" in refused.json()["error"]["message"]


def test_two_sets_of_one_name_are_refused(dataset, tmp_path):
    with pytest.raises(ConfigError, match="two quiz datasets are called colours"):
        serve(dataset, write(tmp_path / "other" / "colours"))


def test_while_the_model_is_loaded_only_the_score_waits(dataset):
    def loading():
        raise HTTPError(503, "the model is still loading", retry_after_seconds=2)

    client = serve(dataset, model=loading)
    image = start(client)["questions"][0]
    refused = score(client, (image, "red"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
