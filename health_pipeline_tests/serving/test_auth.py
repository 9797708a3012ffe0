from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from health_pipeline.errors import SettingsError
from health_pipeline.serving.auth import BearerAuth, is_loopback, token_file

TOKEN = "a-token-of-some-length"


def test_only_the_token_is_let_in():
    auth = BearerAuth(TOKEN, "0.0.0.0")
    assert auth.allows(f"Bearer {TOKEN}".encode())
    for header in (
        None,
        b"",
        b"Bearer ",
        f"Bearer {TOKEN}x".encode(),
        TOKEN.encode(),
        f"bearer {TOKEN}".encode(),
        b"\xff",
    ):
        assert not auth.allows(header)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "api.example", "::"])
def test_open_is_refused_where_others_reach(host):
    with pytest.raises(SettingsError, match="open to everybody"):
        BearerAuth(None, host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_open_on_loopback(host):
    assert is_loopback(host)
    assert BearerAuth(None, host).allows(None)


def test_short_tokens_are_refused():
    with pytest.raises(SettingsError, match="fewer than 16"):
        BearerAuth("short", "127.0.0.1")


def test_the_generated_token_is_one_and_private(tmp_path):
    path = tmp_path / "deep" / "token"
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: token_file(path), range(16)))
    assert len(tokens) == 1
    assert len(tokens.pop()) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["token"]


def test_a_token_that_is_there_is_read_on_a_full_disk(tmp_path, monkeypatch):
    """An API that was started anew there did not come back until the disk had room."""
    token = token_file(tmp_path / "token")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")))
    assert token_file(tmp_path / "token") == token
