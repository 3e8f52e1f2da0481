"""The server's own process holds no torch: it would take as much memory as the model worker."""

import subprocess
import sys

SCRIPT = """
import sys
from pathlib import Path
from fastapi.testclient import TestClient
import zebra.serve.run
from zebra.config.serve import ServeConfig
from zebra.serve.app import create_app
from zebra.serve.map_routes import map_router
from zebra.serve.model_client import ModelMetadata
from zebra.serve.quiz_answers import classify_in_process
from zebra.serve.quiz_routes import quiz_router
from zebra.serve.service import Service
from zebra.store import Store

path = sys.argv[1]

class Model:
    metadata = ModelMetadata(Store.open(Path(path)).metadata.fingerprint, 32, 32, 8, "fp32", 1.0, None, ["a {}."], [])
    is_ready = True
    encode_texts = encode_images = build_head = None

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_error):
        pass

errors = []
service = Service(Model(), ServeConfig(model="x", store=path), on_error=errors.append)
app = create_app(service, map_routes=map_router(Path(path)), quiz_routes=quiz_router([], classify_in_process))
with TestClient(app, base_url="http://localhost") as client:
    while client.get("/readyz").status_code != 200:
        assert not errors, errors
    row = client.post("/v1/rows", json={}).json()["rows"][0]["id"]
    hits = client.post("/v1/search", json={"like": [row]}).json()["hits"]
    assert len(hits) == 11, hits
    client.get("/metrics")
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_server_with_a_small_store_searches_without_torch_and_scipy(store):
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(store)], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 0, process.stderr
    modules = set(process.stdout.split())
    assert {"fastapi", "numpy", "lancedb"} <= modules
    heavy = {"torch", "sklearn", "scipy", "matplotlib", "safetensors"}  # PyArrow imports pandas where it is installed
    assert modules & heavy == set()
