"""The short way through the server answers as the long way does, and leaves to the long way what is not plain."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from health_pipeline.deployment.client import wait_ready
from health_pipeline.deployment.target import Endpoint
from health_pipeline.serving.places import bind
from health_pipeline.serving.protocol import QUICK_BODY_BYTES
from health_pipeline_tests.serving.bundles import RECORD, linear_bundle, pack
from health_pipeline_tests.serving.test_fuzz import fuzzed

TOKEN = "a-token-of-sufficient-length"
ONE = {"patient_id": "p", "features": RECORD}


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[tuple[int, int]]:
    """Port and process id of a worker with one release."""
    home = tmp_path_factory.mktemp("home")
    release = pack(linear_bundle(), home)
    with bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "health_pipeline.serving", "--worker", "--fd", str(sock.fileno())),
                *("--release", str(home / "releases" / release.release_id)),
            ],
            pass_fds=[sock.fileno()],
            env={
                **os.environ,
                "HEALTH_PIPELINE_HOME": str(home),
                "HEALTH_PIPELINE_SERVING": json.dumps({"token": TOKEN, "timeout_seconds": 1.0}),
            },
        )
        try:
            wait_ready(Endpoint(f"http://127.0.0.1:{port}", TOKEN), 30, lambda: process.poll() is None)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait(timeout=15)


def request(body, *, version: str = "1.1", token: str = TOKEN, path: str = "/v1/predict", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {
        "host": "x",
        "authorization": f"Bearer {token}",
        "content-type": "application/json",
        "content-length": str(len(content)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items() if value)
    return f"POST {path} HTTP/{version}\r\n{head}\r\n".encode() + content


class Reader:
    """Answers on one connection, one after the other."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.rest = sock, b""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self.rest) < length:
            self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError
        self.rest += data

    def is_closed(self) -> bool:
        return self.rest == b"" and self.sock.recv(1) == b""


OPEN: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _closes_connections() -> Iterator[None]:
    yield
    while OPEN:
        OPEN.pop().close()


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    OPEN.append(sock)
    return sock


def exchange(port: int, parts: Sequence[bytes], answers: int = 1, pause: float = 0.05) -> tuple[list, Reader]:
    sock = connect(port)
    reader = Reader(sock)
    for number, part in enumerate(parts):
        if number:
            time.sleep(pause)
        sock.sendall(part)
    return [reader.answer() for _ in range(answers)], reader


def test_the_answer_does_not_depend_on_how_the_request_arrives(server):
    port, _ = server
    whole = request(ONE)
    chunked = request(b"", transfer_encoding="chunked", content_length="")
    body = json.dumps(ONE).encode()
    chunked += b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (7, body[:7], len(body) - 7, body[7:])
    ways = {
        "whole": [whole],
        "head, then body": [whole[: whole.index(b"{")], whole[whole.index(b"{") :]],
        "in the middle of both": [whole[:20], whole[20 : len(whole) - 9], whole[len(whole) - 9 :]],
        "chunked": [chunked],
        "another case": [whole.replace(b"authorization", b"AUTHORIZATION")],
        "closing": [request(ONE, connection="close")],
        "old": [request(ONE, version="1.0")],
        "with a query": [request(ONE, path="/v1/predict?x=1")],
    }
    found = {}
    for name, parts in ways.items():
        ((status, headers, body),), reader = exchange(port, parts)
        assert (status, headers["content-type"]) == (200, "application/json"), name
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} .* GMT", headers["date"]), name
        assert (headers.get("connection") == "close") == (name in {"closing", "old"}), name
        if name in {"closing", "old"}:
            assert reader.is_closed(), name
        found[name] = body
    assert len(set(found.values())) == 1, found
    assert 0 < json.loads(found["whole"])["predictions"][0]["probability"] < 1


def test_expect_100_is_obeyed(server):
    port, _ = server
    sock = connect(port)
    head, _, body = request(ONE, expect="100-continue").partition(b"\r\n\r\n")
    sock.sendall(head + b"\r\n\r\n")
    reader = Reader(sock)
    assert reader.answer()[0] == 100
    sock.sendall(body)
    assert reader.answer()[0] == 200


def test_pipelined_requests_are_answered_in_order(server):
    port, _ = server
    many = {"records": [{"features": RECORD}] * 40}
    bodies = [ONE, many, ONE, {"features": RECORD, "explain": True}, ONE, b"{", ONE]
    answers, reader = exchange(port, [b"".join(map(request, bodies))], len(bodies))
    assert [status for status, _, _ in answers] == [200, 200, 200, 200, 200, 400, 200]
    assert len(json.loads(answers[1][2])["predictions"]) == 40
    assert "contributions" in json.loads(answers[3][2])["predictions"][0]
    reader.sock.sendall(request(ONE))
    assert reader.answer()[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(ONE, token="wrong-but-long-enough"), 401),
        (request(ONE, authorization=""), 401),
        (request(ONE, content_type="text/plain"), 415),
        (request({"features": {"age": "old"}}), 422),
        (request({"features": {"nobody knows this": 1}}), 422),
        (request(b'{"features": '), 400),
        (request(b"\xff\xfe"), 400),
        (request(b""), 400),
        (request(ONE, x_release="not-there"), 404),
    ],
)
def test_refusals_are_the_same_on_both_ways_and_keep_the_connection(server, sent, status):
    port, _ = server
    split = len(sent) - 1
    answers = []
    for parts in ([sent], [sent[:split], sent[split:]]):
        ((found, headers, body),), reader = exchange(port, parts)
        assert found == status
        assert headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
        answers.append(body)
        reader.sock.sendall(request(ONE))
        assert reader.answer()[0] == 200
    assert answers[0] == answers[1]
    assert set(json.loads(answers[0])) == {"detail"}


def test_fuzzed_bodies_get_the_same_answer_on_both_ways(server):
    port, pid = server
    generator = random.Random(11)
    whole = Reader(connect(port))
    parts = Reader(connect(port))
    statuses = Counter()
    for _ in range(500):
        sent = request(fuzzed(generator))
        whole.sock.sendall(sent)
        cut = generator.randrange(1, len(sent))
        parts.sock.sendall(sent[:cut])
        first = whole.answer()
        parts.sock.sendall(sent[cut:])
        second = parts.answer()
        assert (first[0], first[2]) == (second[0], second[2])
        statuses[first[0]] += 1
    assert set(statuses) == {200, 400, 422}, statuses
    os.kill(pid, 0)


def test_the_end_of_a_head_that_came_in_parts_opens_no_door(server):
    """It was learned like a whole head: the same bytes, which hold no token, were answered from then on."""
    port, _ = server
    sent = request(ONE)
    for cut in (sent.index(b"content-type"), sent.index(b"content-length"), sent.index(b"\r\n\r\n")):
        ((status, _, _),), _ = exchange(port, [sent[:cut], sent[cut:]])
        assert status == 200
        sock = connect(port)
        sock.sendall(sent[cut:])
        sock.shutdown(socket.SHUT_WR)
        assert b" 200 " not in sock.recv(65536)


@pytest.mark.parametrize(
    "begin",
    [
        b"GET /health/live HTTP/1.1\r\nhost: x\r\n",
        b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    ],
    ids=["head", "after the body"],
)
@pytest.mark.parametrize("line", [b"x: y\r\n", b"x"], ids=["many", "long"])
def test_headers_without_an_end_are_not_kept(server, begin, line):
    """They filled the memory of the process, and needed no token for it."""
    port, _ = server
    sock = connect(port)
    sock.sendall(begin)

    def flood() -> None:
        for _ in range(1000):
            sock.sendall(line * (16_384 // len(line)))
            time.sleep(0.001)

    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        flood()


def test_a_long_head_and_a_large_body_in_parts_are_read(server):
    port, _ = server
    sent = request(json.dumps(ONE).encode().ljust(500_000), x_long="y" * 60_000)
    ((status, _, _),), _ = exchange(port, [sent[:30_000], sent[30_000:61_000], sent[61_000:]])
    assert status == 200


def test_a_body_that_is_too_large_closes_the_connection(server):
    port, _ = server
    ((status, headers, _),), reader = exchange(port, [request(ONE, content_length=str(10**9))])
    assert (status, headers["connection"]) == (413, "close")
    assert reader.is_closed()


def test_a_body_that_does_not_come_is_not_waited_for(server):
    port, _ = server
    began = time.monotonic()
    ((status, _, _),), _ = exchange(port, [request(ONE)[:-5]])
    assert status == 408
    assert 0.5 < time.monotonic() - began < 5


def test_bodies_of_every_length_around_the_limit_of_the_short_way(server):
    port, _ = server
    for length in range(QUICK_BODY_BYTES - 2, QUICK_BODY_BYTES + 3):
        body = json.dumps(ONE).encode().ljust(length)
        ((status, _, _),), _ = exchange(port, [request(body)])
        assert status == 200, length


def test_what_is_not_http_is_refused(server):
    port, _ = server
    ((status, _, _),), reader = exchange(port, [b"\x16\x03\x01 not http\r\n\r\n"])
    assert status == 400
    assert reader.is_closed()


def test_draining_closes_connections_after_the_answer(server):
    """Last in this file: the process drains from here on."""
    port, pid = server
    _, reader = exchange(port, [request(ONE)])
    os.kill(pid, signal.SIGUSR1)
    time.sleep(0.3)
    reader.sock.sendall(request(ONE))
    status, headers, _ = reader.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert reader.is_closed()
