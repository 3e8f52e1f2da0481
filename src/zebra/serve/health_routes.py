"""HTTP routes that monitor the server: liveness, readiness and metrics."""

from fastapi import FastAPI, Response

from zebra.serve.responses import HealthResponse
from zebra.serve.service import Service


def add_health_routes(app: FastAPI, service: Service) -> None:
    """Add /healthz, /readyz, /v1/health and /metrics to an app."""

    @app.get("/healthz", tags=["health"])
    async def healthz() -> HealthResponse:
        """Return 200 while the process is alive."""
        return HealthResponse(status="ok")

    @app.get("/v1/health", tags=["health"], responses={503: {"model": HealthResponse}})  # where infinity's client asks
    @app.get("/readyz", tags=["health"], responses={503: {"model": HealthResponse}})
    async def readyz(response: Response) -> HealthResponse:
        """Return 200 if requests are answered: the model is warm, no batch hangs and the server is not draining."""
        if not service.is_ready:
            response.status_code = 503
            return HealthResponse(status="not ready")
        return HealthResponse(status="ready")

    @app.get("/metrics", tags=["health"], response_class=Response)
    async def metrics() -> Response:
        """Return metrics for Prometheus."""
        return Response(service.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")
