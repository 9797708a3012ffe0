"""A load client that never repeats a request: pre-made requests over kept-alive connections, one process."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass


@dataclass
class Loaded:
    """What a load came to."""

    requests: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Answered requests per second."""
        return (self.requests - self.failed) / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, messages: list[bytes], offset: int, end: float, done: asyncio.Future[None]) -> None:
        self.messages, self.next, self.end, self.done = messages, offset, end, done
        self.requests = self.failed = 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self.end:
            self.transport.close()
            if not self.done.done():
                self.done.set_result(None)
            return
        self.transport.write(self.messages[self.next % len(self.messages)])  # type: ignore[attr-defined]
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(rest) < length:
            return
        self.requests += 1
        self.failed += not head.startswith(b"HTTP/1.1 200")
        self.buffer = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if not self.done.done():
            self.requests += 1
            self.failed += 1
            self.done.set_result(None)


def load(port: int, messages: list[bytes], *, connections: int, seconds: float) -> Loaded:
    """Send until the time is over.

    Args:
        port: on 127.0.0.1.
        messages: whole HTTP requests, used in turn.
        connections: kept-alive connections, each with one request under way.
        seconds: how long.
    """

    async def run() -> Loaded:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        pairs = []
        for number in range(connections):
            done: asyncio.Future[None] = loop.create_future()
            pairs.append(
                await loop.create_connection(
                    lambda number=number, done=done: _Connection(messages, number * 37, began + seconds, done),
                    "127.0.0.1",
                    port,
                )
            )
        await asyncio.gather(*(protocol.done for _, protocol in pairs))
        spent = time.perf_counter() - began
        return Loaded(
            sum(protocol.requests for _, protocol in pairs), sum(protocol.failed for _, protocol in pairs), spent
        )

    if sys.platform != "win32":
        import uvloop

        return uvloop.run(run())
    return asyncio.run(run())


def message(path: str, body: bytes, token: str | None) -> bytes:
    """A whole HTTP request."""
    auth = f"Authorization: Bearer {token}\r\n" if token else ""
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{auth}{kind}\r\n".encode() + body
