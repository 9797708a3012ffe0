"""The hot route, ``POST /v1/predict``, as a raw ASGI application around everything else.

What it guards on the way: token, content type, size, time, shape. Every refusal is a short JSON body
``{"detail": ...}`` that names fields and types, never a value.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import structlog

from health_pipeline.serving.answers import Answers, NotExplainableError, Question, ScoringError, UnknownReleaseError
from health_pipeline.serving.auth import BearerAuth
from health_pipeline.serving.counters import Counters
from health_pipeline.serving.engine import Engine
from health_pipeline.serving.gathering import Gathering, Reply
from health_pipeline.serving.heads import KnownHeads
from health_pipeline.serving.live import Live
from health_pipeline.serving.schema import Record

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

PREDICT_PATH = "/v1/predict"
PUBLIC_PATHS = frozenset({"/health/live", "/health/ready"})
INLINE_ROWS = 16
"""Requests with more records than this are scored in a thread, so that single records do not wait behind them."""
MAX_PENDING_BATCHES = 32
CLOSING = frozenset({408, 413})
"""Refusals after which the connection is closed: the rest of the body is not read."""
RETRIED = frozenset({503})
"""Refusals that ask the client to come again."""

_MODEL_FAILED = "the model failed on this request"

_log = structlog.get_logger(__name__)


class _RefusalError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class PredictApp:
    """Answers the hot route and passes the rest on, after authentication.

    Args:
        app: general routes.
        engine: scores.
        auth: decides who may ask.
        counters: fed by every answer.
        max_body_bytes: larger bodies are refused with 413.
        max_explained: most records with contributions in one request.
        timeout_seconds: longest wait for the body, and longest time of scoring.
    """

    def __init__(
        self,
        app: ASGIApp,
        engine: Engine,
        auth: BearerAuth,
        counters: Counters,
        *,
        max_body_bytes: int,
        max_explained: int,
        timeout_seconds: float,
    ) -> None:
        self._app, self._engine, self._auth, self._counters = app, engine, auth, counters
        self._max_body_bytes, self._max_explained, self._timeout = max_body_bytes, max_explained, timeout_seconds
        self._encode = msgspec.json.Encoder().encode
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="batch")
        self._pending_batches = 0
        self.gathering = Gathering(self._replies)
        self.heads = KnownHeads()
        self.is_draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] == PREDICT_PATH and scope["method"] == "POST":
            status, body = await self._predict(scope, receive)
            self._counters.response(status)
            await self._send(send, status, body)
            return
        if scope["path"] not in PUBLIC_PATHS and not self._auth.allows(dict(scope["headers"]).get(b"authorization")):
            await self._send(send, 401, b'{"detail":"a valid bearer token is needed"}')
            return
        await self._app(scope, receive, self._closing(send) if self.is_draining else send)

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the head of a request is allowed and asks for nothing special (a release, a probe)."""
        try:
            return self._admit(headers) == (None, "primary")
        except _RefusalError:
            return False

    def question(self, body: bytes) -> Question | None:
        """What the body of an admitted request asks; None when it cannot be answered at once, or not at all."""
        live = self._engine.live
        if live is None:
            return None
        try:
            records, explain = live.schema.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return None if explain or len(records) > INLINE_ROWS else Question(live, records)

    def reply(self, question: Question) -> Reply:
        """Answer one question."""
        try:
            reply = 200, self._encode(self._score(question.live, question.records, None, "primary"))
        except _RefusalError as refusal:
            reply = refusal.status, self._encode({"detail": refusal.detail})
        except Exception as error:  # noqa: BLE001  (a bug must not show a value in a traceback)
            reply = self._broken(error)
        self._counters.response(reply[0])
        return reply

    def _replies(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer questions for one record each."""
        if len(questions) == 1:
            return [self.reply(questions[0])]
        try:
            answers = self._engine.answer_each(questions)
        except Exception as error:  # noqa: BLE001  (as above)
            return [self._broken(error)] * len(questions)
        replies = [
            (500, self._encode({"detail": _MODEL_FAILED}))
            if isinstance(answer, ScoringError)
            else (200, self._encode(answer))
            for answer in answers
        ]
        for status, _ in replies:
            self._counters.response(status)
        return replies

    @staticmethod
    def _broken(error: Exception) -> tuple[int, bytes]:
        _log.error("predict_failed", error=type(error).__name__)
        return 500, b'{"detail":"internal error"}'

    async def _predict(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        try:
            return 200, self._encode(await self._answer(scope, receive))
        except _RefusalError as refusal:
            return refusal.status, self._encode({"detail": refusal.detail})
        except Exception as error:  # noqa: BLE001  (a bug must not show a value in a traceback)
            return self._broken(error)

    async def _answer(self, scope: Scope, receive: Receive) -> Answers:
        pin, role = self._admit(scope["headers"])
        body = await self._body(receive)
        live = self._engine.live
        if live is None:
            raise _RefusalError(503, "no model is loaded")
        records, explain = _decode(live, body)
        if explain and len(records) > self._max_explained:
            raise _RefusalError(422, f"contributions are given for at most {self._max_explained} records")
        work = functools.partial(self._score, live, records, pin, role, explain=explain)
        return work() if len(records) <= INLINE_ROWS and not explain else await self._in_thread(work)

    def _score(
        self, live: Live, records: Sequence[Record], pin: str | None, role: str, *, explain: bool = False
    ) -> Answers:
        try:
            return self._engine.answer(live, records, explain=explain, pin=pin, role=role)
        except UnknownReleaseError:
            raise _RefusalError(404, "the release asked for is not loaded") from None
        except NotExplainableError:
            raise _RefusalError(422, "this model gives no contributions") from None
        except ScoringError:
            raise _RefusalError(500, _MODEL_FAILED) from None

    def _admit(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, str]:
        """Check token, type and announced size; the pinned release and the role of the prediction."""
        authorization = pin = None
        role = "primary"
        length = 0
        for name, value in headers:
            if name == b"authorization":
                authorization = value
            elif name == b"content-length":
                length = int(value) if value.isdigit() else 0
            elif name == b"content-type":
                if not value.lower().startswith(b"application/json"):
                    raise _RefusalError(415, "the body must be application/json")
            elif name == b"x-release":
                pin = value.decode("latin-1")
            elif name == b"x-probe":
                role = "probe"
        if not self._auth.allows(authorization):
            raise _RefusalError(401, "a valid bearer token is needed")
        if length > self._max_body_bytes:
            raise _RefusalError(413, f"the body exceeds {self._max_body_bytes} bytes")
        return pin, role

    async def _body(self, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _RefusalError(400, "the client went away")
                body: bytes = message.get("body", b"")
                if not message.get("more_body", False):
                    if len(body) > self._max_body_bytes:
                        raise _RefusalError(413, f"the body exceeds {self._max_body_bytes} bytes")
                    return body
                parts = bytearray(body)
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _RefusalError(400, "the client went away")
                    parts += message.get("body", b"")
                    if len(parts) > self._max_body_bytes:
                        raise _RefusalError(413, f"the body exceeds {self._max_body_bytes} bytes")
                    if not message.get("more_body", False):
                        return bytes(parts)
        except TimeoutError:
            raise _RefusalError(408, f"the body did not arrive within {self._timeout:g} s") from None

    async def _in_thread(self, work: Callable[[], Answers]) -> Answers:
        if self._pending_batches >= MAX_PENDING_BATCHES:
            raise _RefusalError(503, "too many batches at once; try again")
        self._pending_batches += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._batch_done)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.shield(future)
        except TimeoutError:
            raise _RefusalError(503, f"scoring took longer than {self._timeout:g} s; send fewer records") from None

    def _batch_done(self, future: asyncio.Future[Answers]) -> None:
        self._pending_batches -= 1
        if not future.cancelled():
            future.exception()  # read, so that a late failure is not reported a second time

    async def _send(self, send: Send, status: int, body: bytes) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if status in RETRIED:
            headers.append((b"retry-after", b"1"))
        if self.is_draining or status in CLOSING:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @staticmethod
    def _closing(send: Send) -> Send:
        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        return closing


def _decode(live: Live, body: bytes) -> tuple[Sequence[Record], bool]:
    try:
        return live.schema.decode(body)
    except msgspec.ValidationError as error:
        raise _RefusalError(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _RefusalError(400, f"the body is not valid JSON: {_without_value(error)}") from None


def _without_value(error: Exception) -> str:
    return str(error) if isinstance(error, msgspec.DecodeError) else "wrong encoding"
