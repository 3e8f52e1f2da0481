"""Pushed models open in the peers by their name on the hub, by the code of their model card.

Reference: open_clip 3.3.0, transformers 5.24, sentence-transformers 6.2. Tolerance of the cosine: 1e-5, the order of
sums differs. The peers run in a process of their own, because they read the hub's address when they are imported.
"""

import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from huggingface_hub import constants

from zebra.config.push import PushConfig
from zebra.workflows import push

from ..fake_hub import TOKEN, serve_hub

PRELUDE = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
VECTOR = {
    "open_clip": 'model.encode_text(tokenizer(["a horse"]))[0]',
    "transformers": 'model.get_text_features(**processor(text=["a horse"], return_tensors="pt")).pooler_output[0]',
    "sentence-transformers": 'torch.tensor(model.encode("a horse"))',
}
"""Layout → the vector of a text, after the code of the card."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside huggingface_hub
@pytest.mark.parametrize("layout", VECTOR)
def test_the_code_of_a_card_opens_the_model_in_the_peer(layout, model, clip, tmp_path, monkeypatch):
    if importlib.util.find_spec(layout.replace("-", "_")) is None:
        pytest.skip(f"{layout} is not installed")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with serve_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        push.run(PushConfig(model=str(model), repo="zoo/horse", format=layout))
        code = re.findall(r"```python\n(.*?)```", hub.repos["zoo/horse"].files["README.md"].decode(), re.DOTALL)[-1]
        script = f"{PRELUDE}\n{code}\nprint(*map(float, {VECTOR[layout]}))"
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=300
        )
    assert done.returncode == 0, done.stderr
    vector = np.array(done.stdout.split()[-clip.embed_dim :], dtype=np.float64)
    cosine = vector / np.linalg.norm(vector) @ clip.encode_texts(["a horse"])[0].double().numpy()
    assert cosine == pytest.approx(1, abs=1e-5)
