"""Description of the server: model, store, limits and optional features."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from zebra import __version__
from zebra.serve import limits
from zebra.serve.responses import ColumnInfo, RequestLimits, ServedModelInfo, ServerInfo, StoreInfo
from zebra.serve.service import Service
from zebra.store.schema import INTERNAL_COLUMNS


def server_info(service: Service, quiz_names: Sequence[str], has_map: bool) -> ServerInfo:
    """Return the response of /v1/about; HTTPError (503) while the model is loading."""
    backend = service.search_backend
    store = None
    if backend is not None:
        columns = [
            ColumnInfo(name=name, type=type)
            for name, type in backend.searcher.filterable_columns
            if name not in INTERNAL_COLUMNS
        ]
        store = StoreInfo(
            name=Path(service.config.store or "").resolve().name,
            rows=len(backend.searcher),
            columns=columns,
            captions=bool(backend.example_captions),
        )
    return ServerInfo(
        version=__version__,
        model=served_model_info(service),
        store=store,
        limits=RequestLimits(
            labels=limits.MAX_LABELS,
            text_length=limits.MAX_TEXT_LENGTH,
            k=limits.MAX_HITS,
            batch=limits.MAX_INPUTS,
            body_bytes=limits.MAX_BODY_BYTES,
            pixels=limits.MAX_PIXELS,
            download=limits.MAX_DOWNLOADS,
        ),
        quiz=list(quiz_names),
        map=has_map,
        add=service.config.allow_add,
        urls=bool(service.config.allow_url_hosts),
        examples=[] if backend is None else [*service.config.example_queries, *backend.example_captions],
    )


def served_model_info(service: Service) -> ServedModelInfo:
    """Describe the model; HTTPError (503) while it is loading."""
    metadata = service.encoder.metadata
    return ServedModelInfo(
        name=model_name(service),
        fingerprint=metadata.fingerprint,
        embed_dim=metadata.embed_dim,
        image_size=metadata.image_size,
        context_length=metadata.context_length,
        precision=metadata.precision,
        templates=metadata.templates,
        saved_at=_saved_at(service),
    )


def model_name(service: Service) -> str:
    """Return the display name of the model: its hub name, or the last parts of its path."""
    model = service.config.model or "model"
    if model.startswith("hf:") or not Path(model).exists():
        return model
    parts = [part for part in Path(model).parts if part not in ("/", ".", "..")]
    return "/".join(parts[-2:] if parts[-1:] == ["model"] else parts[-1:]) or "model"


def _saved_at(service: Service) -> datetime | None:
    """Return when the weights of a model folder were written."""
    weights = sorted(Path(service.config.model or "").glob("*.safetensors"))
    return datetime.fromtimestamp(weights[0].stat().st_mtime, UTC) if weights else None
