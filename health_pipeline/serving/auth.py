"""Bearer-token authentication: on unless it is explicitly opened on a loopback address."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import os
import secrets
from pathlib import Path

from health_pipeline.errors import SettingsError

MIN_TOKEN_LENGTH = 16


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class BearerAuth:
    """Compares the ``Authorization`` header with one token, in constant time.

    Args:
        token: the secret; ``None`` opens the API.
        host: address the API listens on.

    Raises:
        SettingsError: open on an address that others reach, or a token that is too short.
    """

    def __init__(self, token: str | None, host: str) -> None:
        if token is None and not is_loopback(host):
            raise SettingsError(
                f"the API would be open to everybody on {host}",
                where="HEALTH_PIPELINE_SERVING__OPEN_ON_LOOPBACK",
                remedy="set HEALTH_PIPELINE_SERVING__TOKEN, or listen on 127.0.0.1",
            )
        if token is not None and len(token) < MIN_TOKEN_LENGTH:
            raise SettingsError(
                f"the API token has fewer than {MIN_TOKEN_LENGTH} characters",
                where="HEALTH_PIPELINE_SERVING__TOKEN",
                remedy="generate one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
            )
        self._expected = None if token is None else b"Bearer " + token.encode()

    @property
    def is_open(self) -> bool:
        """Whether requests need no token."""
        return self._expected is None

    def allows(self, header: bytes | None) -> bool:
        """Whether the value of an ``Authorization`` header carries the token."""
        expected = self._expected
        return expected is None or (header is not None and hmac.compare_digest(header, expected))


def token_file(path: Path) -> str:
    """The token kept in a file that only its owner reads; created with a random one when missing."""
    with contextlib.suppress(FileNotFoundError):  # it is asked for on full disks too
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # atomic, and fails when another process was first
    except FileExistsError:
        return path.read_text().strip()
    finally:
        draft.unlink()
    return path.read_text().strip()
