"""Classify an image in the browser, with any labels (Gradio 6.31).

pip install gradio
python examples/gradio_demo.py MODEL
"""

import sys

import gradio

import zebra

clip = zebra.load(sys.argv[1])


def classify(image: str, labels: str) -> dict[str, float]:
    """Return the score of each label; labels are separated by commas."""
    return {p.label: p.score for p in clip.classify([image], labels.split(","))[0]}


inputs = [gradio.Image(type="filepath"), gradio.Textbox("a cat, a dog, a zebra", label="labels")]
gradio.Interface(classify, inputs, gradio.Label(num_top_classes=5), title="zebra", flagging_mode="never").launch()
