"""The client asks where it is told to, and as it is told to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from health_pipeline.deployment.client import ApiClient
from health_pipeline.deployment.kubernetes import KubernetesTarget
from health_pipeline.deployment.target import Endpoint
from health_pipeline.errors import DeploymentError, SettingsError
from health_pipeline.settings import load_settings

TOKEN = "a-token-of-sufficient-length"


class Listener:
    """Keeps the first bytes that somebody sends, and hangs up."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.received = b""
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()

    def _listen(self) -> None:
        connection, _ = self.sock.accept()
        with connection:
            self.received = connection.recv(65536)
            connection.sendall(self.answer)


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.thread.join(timeout=10)
    made.sock.close()


def test_an_https_address_is_asked_over_tls(listener):
    """It was asked in the clear, with the token."""
    with ApiClient(Endpoint(f"https://127.0.0.1:{listener.port}", TOKEN)) as client:
        assert client.ask("GET", "/v1/model").status == 0
    listener.thread.join(timeout=10)
    assert listener.received[:1] == b"\x16"  # a TLS handshake
    assert TOKEN.encode() not in listener.received


def test_a_path_of_the_address_stands_before_that_of_the_api(listener):
    with ApiClient(Endpoint(f"http://127.0.0.1:{listener.port}/readmission/", TOKEN)) as client:
        client.ask("GET", "/v1/model")
    listener.thread.join(timeout=10)
    assert listener.received.startswith(b"GET /readmission/v1/model HTTP/1.1\r\n")


@pytest.mark.parametrize("address", ["api.example:8080", "https://", "ftp://api.example"])
def test_an_address_without_a_scheme_is_refused(tmp_path, address):
    with pytest.raises(SettingsError, match="DEPLOYMENT__ENDPOINT"):
        load_settings(home=tmp_path, deployment={"endpoint": address})


def test_pods_with_another_token_are_named_before_anything_changes(tmp_path, listener):
    """The rollout failed, and so did the way back."""
    listener.answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
    address = f"http://127.0.0.1:{listener.port}"
    target = KubernetesTarget(load_settings(home=tmp_path, serving={"token": TOKEN}, deployment={"endpoint": address}))
    target._images = SimpleNamespace(check=lambda: None, password=None)
    target._cluster = SimpleNamespace(name="default", check=lambda _manifest: None, deployment=lambda _name: object())
    with pytest.raises(DeploymentError, match="another token"):
        target.check()
