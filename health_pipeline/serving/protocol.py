"""A short way through uvicorn for single predictions: answered inside the parser's callbacks, without a task.

For an ordinary request uvicorn builds a scope, starts a task, and passes messages to and fro; that costs more than
decoding a record and scoring it with a linear model. A request for a prediction that arrives whole and needs nothing
special is answered at once by :meth:`PredictApp.quick`. Everything else (a body in parts, many records, contributions,
pipelining, a closing connection, refusals that close it, draining) takes uvicorn's own way, with the same guards.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from health_pipeline.serving.predict import PREDICT_PATH, PredictApp

QUICK_BODY_BYTES = 16 * 1024
"""Larger bodies hold many records, which are scored in a thread."""

_URL = PREDICT_PATH.encode()
_PLAIN = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_UNAUTHORIZED = b"www-authenticate: Bearer\r\n"


class PredictProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way before it."""

    app: PredictApp

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._quick_body: bytes | None = None
        self._head_of: Any = None
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Parse; a request that has come only in part goes uvicorn's way, which limits how long it may take."""
        super().data_received(data)
        if self._quick_body is not None and self.parser is not None:
            self._take_long_way(is_complete=False)

    def on_message_begin(self) -> None:
        """Like uvicorn's, but without a scope until one is needed."""
        self._quick_body = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if (
            self.url == _URL
            and self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.app.is_draining
            and not self.flow.write_paused
            and len(self.connections) < (self.limit_concurrency or len(self.connections) + 1)
        ):
            self._quick_body = b""
        else:
            self._long_headers()

    def on_body(self, body: bytes) -> None:
        """Keep the body, or pass it on."""
        if self._quick_body is None:
            super().on_body(body)
            return
        self._quick_body += body
        if len(self._quick_body) > QUICK_BODY_BYTES:
            self._take_long_way(is_complete=False)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._quick_body is None:
            super().on_message_complete()
            return
        answer = self.app.quick(self.headers, self._quick_body)
        if answer is None:
            self._take_long_way(is_complete=True)
            return
        self._quick_body = None
        status, body = answer
        self.transport.write(
            b"".join(
                (
                    STATUS_LINE[status],
                    self._default_head(),
                    _UNAUTHORIZED if status == 401 else b"",
                    _PLAIN % (len(body), body),
                )
            )
        )
        self.on_response_complete()

    def _take_long_way(self, *, is_complete: bool) -> None:
        body, self._quick_body = self._quick_body, None
        self._long_headers()
        if body:
            super().on_body(body)
        if is_complete:
            super().on_message_complete()

    def _long_headers(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # the scope holds this very list
        super().on_headers_complete()

    def _default_head(self) -> bytes:
        """The server's own headers (date), which it replaces every second."""
        headers = self.server_state.default_headers
        if headers is not self._head_of:
            self._head_of = headers
            self._head = b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers)
        return self._head
