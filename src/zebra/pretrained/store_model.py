"""The model that embedded a store."""

from pathlib import Path

from zebra.errors import DownloadError, WeightsError
from zebra.pretrained.bundle import Bundle
from zebra.pretrained.load import load


def load_store_model(
    store_path: str | Path, recorded: str, dimensions: int | None, *, model: str | None, device: str
) -> Bundle:
    """Load the model of a store; the caller compares the fingerprints.

    Args:
        store_path: The store, for messages.
        recorded: The model in the metadata of the store.
        dimensions: Size of the store's vectors if it is not that of the model.
        model: The model if it has moved.
        device: As for `zebra.load`.

    Raises:
        WeightsError: The model has moved or is damaged.
        DownloadError: It cannot be downloaded.
    """
    try:
        return load(model or recorded, dimensions=dimensions, device=device)
    except (WeightsError, DownloadError) as error:
        if model:
            raise
        raise type(error)(
            f"{str(error).rstrip('.')}. The store {store_path} was embedded by this model, and texts are compared by "
            "it; if it has moved, pass --model MODEL"
        ) from error
