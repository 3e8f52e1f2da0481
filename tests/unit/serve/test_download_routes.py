"""Original images are downloaded as a zip file."""

import io
import shutil
import zipfile

from zebra.config.embed import EmbedConfig
from zebra.serve.download_routes import unique_names
from zebra.workflows import embed

from .conftest import error_message


def all_ids(client):
    return [row["id"] for row in client.post("/v1/rows", json={"order": "oldest", "k": 50}).json()["rows"]]


def test_originals_are_downloaded_by_their_names(store_client, photos):
    ids = all_ids(store_client)[:3]
    response = store_client.post("/v1/download", json={"ids": [*ids, "gone"]})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/zip")
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    assert archive.namelist() == ["000.jpg", "001.jpg", "002.jpg"]
    assert archive.read("001.jpg") == (photos / "001.jpg").read_bytes()


def test_a_missing_file_is_listed(serving, model, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    store = tmp_path / "store"
    embed.run(EmbedConfig(model=str(model), data=str(tmp_path / "photos"), out=str(store), precision="fp32", workers=1))
    (tmp_path / "photos" / "001.jpg").unlink()
    with serving(store=str(store)) as client:
        response = client.post("/v1/download", json={"ids": all_ids(client)[:2]})
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.namelist() == ["000.jpg", "missing.txt"]
    assert archive.read("missing.txt").decode().splitlines()[1:] == ["001.jpg"]


def test_unknown_ids_and_too_many_are_refused(store_client):
    error_message(store_client.post("/v1/download", json={"ids": ["gone"]}), 404)
    error_message(store_client.post("/v1/download", json={"ids": []}), 422)
    error_message(store_client.post("/v1/download", json={"ids": ["a"] * 1001}), 422)


def test_names_stay_below_the_archive_and_are_used_once():
    names = unique_names(["/etc/passwd", "../../x.png", "a\\..\\b.png", "B.png", "a/b.png", "", "x.png"])
    assert names == ["etc/passwd", "x.png", "a/b.png", "B.png", "a/b-2.png", "image", "x-2.png"]
    assert len({name.casefold() for name in names}) == len(names)
