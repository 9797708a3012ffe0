"""The API: general routes and the OpenAPI document by FastAPI, the hot route by :class:`PredictApp` around it."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

import health_pipeline
from health_pipeline.serving.answers import Answers
from health_pipeline.serving.auth import BearerAuth
from health_pipeline.serving.counters import Counters
from health_pipeline.serving.engine import Engine
from health_pipeline.serving.predict import PREDICT_PATH, PredictApp
from health_pipeline.serving.prediction_log import PredictionLog
from health_pipeline.settings import ServingSettings

_REFUSALS = {
    400: "the body is not JSON",
    401: "no valid bearer token",
    404: "the release asked for is not loaded",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is not declared as JSON",
    422: "the body does not fit the schema",
    500: "the model failed",
    503: "no model is loaded, or too much work is waiting",
}


class State:
    """What the general routes report; changed by the process that watches the traffic manifest.

    Attributes:
        rejected: generation of a manifest that could not be taken over, and why.
    """

    def __init__(self) -> None:
        self.rejected: dict[str, Any] | None = None


def create_app(
    engine: Engine,
    auth: BearerAuth,
    counters: Counters,
    *,
    prediction_log: PredictionLog,
    settings: ServingSettings,
    state: State | None = None,
) -> PredictApp:
    """Put the ASGI application together.

    Args:
        engine: holds the loaded releases.
        auth: decides who may ask.
        counters: shown at ``/metrics`` and ``/v1/traffic``.
        prediction_log: its health decides about readiness.
        settings: limits.
        state: shared with the watcher of the traffic manifest.
    """
    state = state or State()
    api = FastAPI(
        title="Readmission API",
        version=health_pipeline.__version__,
        description="Probability of a readmission within 30 days of discharge.",
        docs_url="/docs",
        redoc_url=None,
    )
    registry = CollectorRegistry()
    registry.register(counters)

    @api.get("/health/live", tags=["health"], summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @api.get(
        "/health/ready",
        tags=["health"],
        summary="A model is loaded, and traffic is welcome",
        responses={503: {"description": "no model is loaded, or the process is draining"}},
    )
    async def ready() -> JSONResponse:
        current = engine.live
        if current is None or application.is_draining:
            reason = "draining" if application.is_draining else "no model is loaded"
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready", "generation": current.traffic.generation})

    @api.get("/v1/model", tags=["model"], summary="The model that answers", responses=_only(401, 503))
    async def model() -> JSONResponse:
        current = engine.live
        if current is None:
            return JSONResponse({"detail": "no model is loaded"}, 503)
        control = current.loaded[current.traffic.routes[0].release_id].release
        return JSONResponse(
            {
                **msgspec.to_builtins(control.facts),
                "release": control.release_id,
                "digest": control.digest,
                "generation": current.traffic.generation,
                "features": [msgspec.to_builtins(feature) for feature in current.schema.features],
            }
        )

    @api.get("/v1/traffic", tags=["model"], summary="Routes, weights and counters", responses=_only(401, 503))
    async def traffic() -> JSONResponse:
        current = engine.live
        if current is None:
            return JSONResponse({"detail": "no model is loaded", "rejected": state.rejected}, 503)
        return JSONResponse(
            {
                **msgspec.to_builtins(current.traffic),
                "models": {name: item.release.facts.model_id for name, item in current.loaded.items()},
                "counters": {name: item.as_json() for name, item in counters.releases.items()},
                "responses": {str(status): count for status, count in counters.responses.items()},
                "rejected": state.rejected,
                "draining": application.is_draining,
            }
        )

    @api.get(
        "/metrics",
        tags=["health"],
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **_only(401)},
    )
    async def metrics() -> Response:
        counters.gauges = {
            "predict_ready": ("whether a model is loaded", float(engine.live is not None)),
            "prediction_log_written": ("predictions written", float(prediction_log.written_rows)),
            "prediction_log_dropped": ("predictions lost", float(prediction_log.dropped_rows)),
            "prediction_log_failing": ("whether the disk refuses the log", float(prediction_log.is_failing)),
        }
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @api.post(PREDICT_PATH, tags=["model"], summary="Score one or many records")
    async def predict() -> None:
        """Answered by the hot route; declared here for the document, and so that other methods get 405."""
        raise AssertionError("POST /v1/predict is answered before FastAPI")

    @api.exception_handler(RequestValidationError)
    async def without_values(_request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": [{"loc": item["loc"], "type": item["type"]} for item in error.errors()]}, 422)

    def document() -> dict[str, Any]:
        return _document(api, engine, auth)

    api.openapi = document  # type: ignore[method-assign]
    application = PredictApp(
        api,
        engine,
        auth,
        counters,
        max_body_bytes=settings.max_body_bytes,
        max_explained=settings.max_explained,
        timeout_seconds=settings.timeout_seconds,
    )
    return application


def _only(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _REFUSALS[status]} for status in statuses}


def _document(api: FastAPI, engine: Engine, auth: BearerAuth) -> dict[str, Any]:
    """The OpenAPI document of the releases loaded now."""
    document = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    components = document.setdefault("components", {}).setdefault("schemas", {})
    operation = document["paths"][PREDICT_PATH]["post"]
    (answer,), answer_components = msgspec.json.schema_components([Answers], ref_template="#/components/schemas/{name}")
    components.update(answer_components)
    components["Refusal"] = {
        "type": "object",
        "properties": {"detail": {"type": "string"}},
        "required": ["detail"],
    }
    operation["responses"] = {
        "200": {
            "description": "one prediction per record, in order",
            "content": {"application/json": {"schema": answer}},
        },
        **{
            str(status): {
                "description": text,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
            }
            for status, text in _REFUSALS.items()
        },
    }
    operation["parameters"] = [
        {
            "name": "x-release",
            "in": "header",
            "required": False,
            "description": "release that must answer, for tests; routing by default",
            "schema": {"type": "string"},
        }
    ]
    current = engine.live
    if current is not None:
        request, request_components = current.schema.json_schema()
        components.update(request_components)
        record = current.schema.example()
        operation["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {
                    "schema": request,
                    "examples": {
                        "one record": {"value": {"patient_id": "example-1", "features": record}},
                        "many records": {"value": {"records": [{"features": record}, {"features": record}]}},
                        "with contributions": {"value": {"features": record, "explain": True}},
                    },
                }
            },
        }
    if not auth.is_open:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            if not path.startswith("/health/"):
                for item in operations.values():
                    item["security"] = [{"token": []}]
    return document
