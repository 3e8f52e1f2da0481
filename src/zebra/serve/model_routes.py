"""HTTP routes of the model: classify and embed."""

from collections.abc import Sequence

from fastapi import FastAPI

from zebra.serve import inference
from zebra.serve.forms import form_body, form_route
from zebra.serve.requests import (
    AnyClassifyRequest,
    AnyEmbedRequest,
    ClassifyRequest,
    EmbedRequest,
    FeatureExtractionRequest,
    RequestImage,
    ZeroShotRequest,
)
from zebra.serve.responses import ClassifyResponse, ClassifyResult, EmbedResponse, LabelScore
from zebra.serve.service import Service
from zebra.values import Prediction


def add_model_routes(app: FastAPI, service: Service) -> None:
    """Add /v1/classify and /v1/embed to an app."""

    async def classify_images(
        request: AnyClassifyRequest,
    ) -> ClassifyResponse | list[LabelScore] | list[list[LabelScore]]:
        """Rank labels for every image, best first. A request in Hugging Face's format gets such a response."""
        if isinstance(request, ZeroShotRequest):
            is_list = isinstance(request.inputs, list)
            inputs = request.inputs if isinstance(request.inputs, list) else [request.inputs]
            images = [RequestImage(data=data) for data in inputs]
            parameters = request.parameters
            rankings, _warnings = await inference.classify_images(
                service,
                images,
                parameters.candidate_labels,
                parameters.hypothesis_template and [parameters.hypothesis_template],
            )
            results = [_label_scores(ranking) for ranking in rankings]
            return results if is_list else results[0]
        rankings, warnings = await inference.classify_images(service, request.images, request.labels, request.templates)
        return ClassifyResponse(
            results=[ClassifyResult(scores=_label_scores(ranking)) for ranking in rankings], warnings=warnings
        )

    async def embed(request: AnyEmbedRequest) -> EmbedResponse | list[list[float]]:
        """Return unit vectors of images or texts, which are comparable. Hugging Face's format gets such a response."""
        if isinstance(request, FeatureExtractionRequest):
            inputs = request.inputs if isinstance(request.inputs, list) else [request.inputs]
            texts, _warnings = await inference.embed_texts(service, inputs)
            return [text.vector_E.tolist() for text in texts]
        fingerprint = service.encoder.metadata.fingerprint
        if request.images is not None:
            vectors_NE = await inference.embed_images(service, request.images)
            await service.concurrency_limit.wait_for_readers()
            return EmbedResponse(vectors=vectors_NE.tolist(), fingerprint=fingerprint, warnings=[])
        texts, warnings = await inference.embed_texts(service, request.texts or [])
        return EmbedResponse(
            vectors=[text.vector_E.tolist() for text in texts], fingerprint=fingerprint, warnings=warnings
        )

    for path, endpoint, model in (
        ("/v1/classify", classify_images, ClassifyRequest),
        ("/v1/embed", embed, EmbedRequest),
    ):
        app.router.add_api_route(
            path,
            endpoint,
            methods=["POST"],
            tags=["model"],
            route_class_override=form_route(model),
            openapi_extra=form_body(model),
        )


def _label_scores(predictions: Sequence[Prediction]) -> list[LabelScore]:
    return [LabelScore(label=prediction.label, score=prediction.score) for prediction in predictions]
