"""Embed a folder of images into a store, then search it by text with numpy alone.

    python examples/search_a_folder.py MODEL IMAGES STORE "a zebra in the snow"

A second run embeds only new and changed images. `zebra embed` does the first half on the command line.
"""

import sys
from pathlib import Path

import numpy as np

import zebra
from zebra.config.embed import EmbedConfig
from zebra.store import Store
from zebra.workflows import embed


def main(model: str, images: str, out: str, query: str) -> None:
    """Print the five images that are nearest to the text."""
    result = embed.run(EmbedConfig(model=model, data=images, out=out))
    print(f"{result.num_rows} images, {result.embedded} of them new; precision {result.precision}")

    store = Store.open(Path(out))
    _, image_NE = store.read_vectors()
    text_E = zebra.load(model).encode_texts([query])[0].numpy()
    similarity_N = image_NE @ text_E
    best_K = np.argsort(-similarity_N)[:5]
    rows = store.take_positions(best_K.tolist(), ["path", "caption"]).to_pylist()
    for similarity, row in zip(similarity_N[best_K], rows, strict=True):
        print(f"{similarity:.3f}  {row['path']}  {row['caption'] or ''}")


if __name__ == "__main__":
    main(*sys.argv[1:])
