"""A client of the prediction API that never retries: what fails, fails visibly."""

from __future__ import annotations

import http.client
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from health_pipeline.deployment.target import Endpoint, Serving
from health_pipeline.errors import DeploymentError


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or the lack of one.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        body: decoded JSON, text, or the name of the error.
        seconds: from sending to the last byte.
    """

    status: int
    body: Any
    seconds: float

    @property
    def is_ok(self) -> bool:
        """Whether the answer is 200."""
        return self.status == 200


class ApiClient:
    """One kept-alive connection to an endpoint.

    Args:
        endpoint: where and with what token.
        timeout: seconds for connecting and for each read.
    """

    def __init__(self, endpoint: Endpoint, timeout: float = 5.0) -> None:
        parts = urlsplit(endpoint.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port or kind.default_port, timeout=timeout)
        self._prefix, self._token = parts.path.rstrip("/"), endpoint.token

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        auth: bool = True,
    ) -> Reply:
        """Send one request, once."""
        sent = {"content-type": "application/json"} if body is not None else {}
        if auth and self._token is not None:
            sent["authorization"] = f"Bearer {self._token}"
        sent.update(headers or {})
        began = time.perf_counter()
        try:
            self._connection.request(method, self._prefix + path, body, sent)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return Reply(0, type(error).__name__, time.perf_counter() - began)
        seconds = time.perf_counter() - began
        if "application/json" not in answer.headers.get("content-type", ""):
            return Reply(answer.status, content.decode(errors="replace"), seconds)
        try:
            return Reply(answer.status, msgspec.json.decode(content), seconds)
        except msgspec.DecodeError:
            return Reply(answer.status, "not JSON", seconds)

    def predict(self, body: Any, **headers: str) -> Reply:
        """Score records; keyword arguments are headers, with ``_`` for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/v1/predict", msgspec.json.encode(body), headers=named)

    def serving(self) -> Serving:
        """What the endpoint says it serves.

        Raises:
            DeploymentError: it does not answer, or not with what it should.
        """
        model, traffic = self.ask("GET", "/v1/model"), self.ask("GET", "/v1/traffic")
        if not (model.is_ok and traffic.is_ok):
            raise DeploymentError(f"the API does not say what it serves (status {model.status}, {traffic.status})")
        return Serving(
            release=model.body["release"],
            digest=model.body["digest"],
            model_id=model.body["model_id"],
            weights={route["release_id"]: route["weight"] for route in traffic.body["routes"]},
        )


def wants_another_token(endpoint: Endpoint) -> bool:
    """Whether an API answers there that was started with another token."""
    with ApiClient(endpoint) as client:
        return client.ask("GET", "/v1/traffic").status == 401


def wait_ready(endpoint: Endpoint, seconds: float, is_alive: Any = lambda: True) -> float:
    """Wait until the API is ready; returns how long that took.

    Raises:
        DeploymentError: it is not ready in time, or its process ended (``is_alive`` says no).
    """
    began = time.monotonic()
    last: Any = "no answer"
    while time.monotonic() - began < seconds:
        if not is_alive():
            raise DeploymentError("the API process ended before it was ready", where=endpoint.url)
        with ApiClient(endpoint, timeout=2.0) as client:
            reply = client.ask("GET", "/health/ready")
        if reply.is_ok:
            return time.monotonic() - began
        last = reply.body
        time.sleep(0.05)
    raise DeploymentError(f"the API was not ready within {seconds:g} s: {last}", where=endpoint.url)
