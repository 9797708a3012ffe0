"""A short way through uvicorn for predictions: answered inside the connection's callbacks, without a task.

For an ordinary request uvicorn builds a scope, starts a task, and passes messages to and fro; that costs more than
decoding a record and scoring it with a linear model. A plain request for a few predictions that arrives whole is
decoded at once, and answered at once (the only connection) or together with those of other connections at the end of
the loop's turn. Everything else (a body in parts, many records, contributions, pipelining, a closing connection,
refusals, draining) takes uvicorn's own way, with the same guards.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from health_pipeline.serving.gathering import Reply
from health_pipeline.serving.predict import PREDICT_PATH, PredictApp

QUICK_BODY_BYTES = 16 * 1024
"""Larger bodies hold many records, which are scored in a thread."""

MAX_HEAD_BYTES = 64 * 1024
"""What may come without a part of a body: a head, or what follows a body in chunks. Only its size is limited, not its
time: that is for the proxy in front."""

_URL = PREDICT_PATH.encode()
_PLAIN = b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b"


class PredictProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the short way before it."""

    app: PredictApp

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._quick_body: bytes | None = None
        self._is_parsing = False
        self._is_waiting = False
        self._data = b""
        self._bytes_without_body = 0
        self._answered_at = 0.0
        self._head_of: Any = None
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Answer or parse; a request that has come only in part goes uvicorn's way, which limits its time."""
        self._give_answer_due()
        if not self._is_parsing and self._is_free():
            body = self.app.heads.body_of(data)
            if body is not None and self._answer(body):
                return
        # Only a head that came whole may be learned: the rest of one, without the token, would open the door to all.
        self._data = b"" if self._is_parsing else data
        self._bytes_without_body += len(data)
        super().data_received(data)
        self._data = b""
        if self._is_parsing and self._bytes_without_body > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")
            return
        if self._quick_body is not None and self.parser is not None:
            self._take_long_way(is_complete=False)

    def on_message_begin(self) -> None:
        """Like uvicorn's, but without a scope until one is needed."""
        self._give_answer_due()
        self._is_parsing = True
        self._bytes_without_body = 0
        self._quick_body = None
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if (
            self.url == _URL
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and self._is_free()
            and self.app.admits(self.headers)
        ):
            self._quick_body = b""
        else:
            self._long_headers()

    def on_body(self, body: bytes) -> None:
        """Keep the body, or pass it on."""
        self._bytes_without_body = 0
        if self._quick_body is None:
            super().on_body(body)
            return
        self._quick_body += body
        if len(self._quick_body) > QUICK_BODY_BYTES:
            self._take_long_way(is_complete=False)

    def on_message_complete(self) -> None:
        """Answer."""
        self._is_parsing = False
        body = self._quick_body
        if body is None:
            super().on_message_complete()
        elif self._answer(body):
            self._quick_body = None
            self.app.heads.learn(self._data, body)
        else:
            self._take_long_way(is_complete=True)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nothing was asked for so long; quick answers do not set the timer anew each time."""
        self._give_answer_due()
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._set_timer(left)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """End the connection after the answer that is due."""
        self._give_answer_due()
        super().shutdown()

    def _is_free(self) -> bool:
        """Whether nothing stands before the next answer."""
        return (
            (self.cycle is None or self.cycle.response_complete)
            and not self.app.is_draining
            and not self.flow.write_paused
            and len(self.connections) < (self.limit_concurrency or len(self.connections) + 1)
        )

    def _answer(self, body: bytes) -> bool:
        """Answer now or soon; False when the request needs more than that."""
        question = self.app.question(body)
        if question is None:
            return False
        if len(question.records) == 1 and len(self.connections) > 1:
            self._is_waiting = True
            self.app.gathering.add(question, self._deliver)
        else:
            self._deliver(self.app.reply(question))
        return True

    def _give_answer_due(self) -> None:
        """Answers leave in the order of the requests."""
        if self._is_waiting:
            self.app.gathering.flush()

    def _deliver(self, reply: Reply) -> None:
        self._is_waiting = False
        if self.transport.is_closing():
            return
        status, body = reply
        self.transport.write(b"".join((STATUS_LINE[status], self._default_head(), _PLAIN % (len(body), body))))
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._set_timer(self.timeout_keep_alive)

    def _set_timer(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

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
